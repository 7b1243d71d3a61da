"""The console while the store is down: quick, honest, and without a word of the store's address."""

from urllib.parse import quote

import pytest
from django.urls import reverse

from analytics_admin.models import Operation
from analytics_admin.services import describe_breaker
from tests.support.breakers import trip
from tests.support.servers import StoreServer, free_port
from tests.support.stopwatch import Stopwatch

pytestmark = pytest.mark.one_database

SEARCH_CACHE = "/admin/analytics_admin/searchcache/"
CLEAR = "/admin/analytics_admin/searchcache/clear/"
BREAKERS = "/admin/analytics_admin/circuitbreaker/"
RESET = "/admin/analytics_admin/circuitbreaker/reset/"
RESET_SELECTED = "/admin/analytics_admin/circuitbreaker/-/reset/"
CONTROL_SELECTED = "/admin/analytics_admin/circuitbreaker/-/control/"
FORGET = "/admin/analytics_admin/circuitbreaker/away/forget/"
ACTS = [CLEAR, RESET, RESET_SELECTED, CONTROL_SELECTED, FORGET]
PAGE_OF = {
    CLEAR: SEARCH_CACHE,
    RESET: BREAKERS,
    RESET_SELECTED: BREAKERS,
    CONTROL_SELECTED: BREAKERS,
    FORGET: "/admin/analytics_admin/circuitbreaker/away/",
}
PASSWORD = "hunter2-wrong"
FAILED = {
    CLEAR: "Failed to clear cache: ",
    RESET: "Failed to reset circuit breakers: ",
    RESET_SELECTED: "Failed to reset circuit breakers: ",
    CONTROL_SELECTED: "Failed to control circuit breaker: ",
    FORGET: "Failed to forget circuit breaker: ",
}
TICKED = {"names": ["away", "<b>too</b>"], "control": "forced_open"}
CONFIRMED = {
    **TICKED,
    "confirmed": "yes",
    "reason": "a try",
    "generations": ["", ""],
    "for_seconds": "900",
}


def aliases(server, *, password=""):
    login = f":{quote(password)}@" if password else ""
    return {
        alias: {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://{login}127.0.0.1:{server.port}/{number}",
            "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 0.5, "SOCKET_TIMEOUT": 0.5},
        }
        for number, alias in enumerate(["default", "search", "breakers"])
    }


# Each act on a store that hangs or is gone; each alias' first act on one that lets nobody in.
each_act = pytest.mark.parametrize(
    ("down", "url"),
    [
        *((how, url) for how in ("stopped", "frozen") for url in ACTS),
        *((how, url) for how in ("wrong password", "malformed address") for url in (CLEAR, RESET)),
    ],
    indirect=["down"],
)


@pytest.fixture(params=["stopped", "frozen", "wrong password", "malformed address"])
def down(request, settings):
    with StoreServer(port=free_port(), requirepass="right") as server:
        password = PASSWORD if request.param == "wrong password" else "right"
        settings.CACHES = aliases(server, password=password)
        if request.param == "stopped":
            server.stop()
        if request.param == "frozen":
            server.freeze()
        if request.param == "malformed address":
            location = f"redis://:{PASSWORD}@127.0.0.1:not-a-port/0"
            settings.CACHES = {
                alias: {**options, "LOCATION": location}
                for alias, options in settings.CACHES.items()
            }
        yield request.param


@pytest.mark.usefixtures("down")
@pytest.mark.parametrize("url", [SEARCH_CACHE, BREAKERS])
def test_the_page_says_unknown_within_a_second(operator, url):
    operator.get(reverse("admin:index"))  # whatever is loaded once
    watch = Stopwatch()
    page = operator.get(url)
    assert watch.seconds < 1
    assert page.status_code == 200
    assert "Unknown" in page.text
    assert "the store" in page.text
    assert "aa-good" not in page.text
    assert PASSWORD not in page.text


@each_act
@pytest.mark.usefixtures("down")
def test_the_confirm_page_admits_that_it_cannot_tell(operator, url):
    page = operator.post(url, TICKED)
    assert page.status_code == 200
    assert "The effect is unknown: the store" in page.text
    assert PASSWORD not in page.text
    if url in {RESET_SELECTED, CONTROL_SELECTED}:
        assert "<li><bdi>&lt;b&gt;too&lt;/b&gt;</bdi></li><li><bdi>away</bdi></li>" in page.text
        assert " 2 circuit breakers</button>" in page.text
    assert not Operation.objects.exists()


@each_act
@pytest.mark.usefixtures("down")
def test_an_operation_fails_within_two_seconds_and_says_so(operator, caplog, url):
    watch = Stopwatch()
    answer = operator.post(url, CONFIRMED)
    assert watch.seconds < 2
    assert (answer.status_code, answer.url) == (302, PAGE_OF[url])
    page = operator.get(answer.url)
    (message,) = page.context["messages"]
    assert message.level_tag == "error"
    assert str(message).startswith(FAILED[url])
    row = Operation.objects.get()
    assert row.status in {"failed", "unknown"}
    detail = operator.get(reverse("admin:analytics_admin_operation_change", args=[row.pk])).text
    for text in [page.text, detail, caplog.text, str(Operation.objects.values())]:
        assert PASSWORD not in text


@pytest.mark.parametrize("url", [RESET_SELECTED, CONTROL_SELECTED])
def test_what_was_confirmed_unseen_is_shown_once_the_store_is_back_and_not_done(
    operator, settings, url
):
    trip("away")
    here = settings.CACHES
    with StoreServer(port=free_port()) as server:
        server.stop()
        settings.CACHES = aliases(server)
        page = operator.post(url, {**TICKED, "names": ["away"]})
        assert "The effect is unknown" in page.text
    settings.CACHES = here
    names = {**CONFIRMED, "names": ["away"], "generations": [""]}
    answer = operator.post(url, names)
    assert answer.status_code == 200
    assert "The effect is unknown" not in answer.text
    assert "has changed meanwhile: nothing was done" in answer.text
    assert describe_breaker("away").status.state == "open"
