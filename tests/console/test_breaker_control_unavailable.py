"""One breaker's acts in the console where they can't be: forbidden, switched off, store down."""

import re

import pytest
from django.contrib.auth.models import Permission
from django.db import connections
from django.test import Client

from analytics_admin.models import Operation
from tests.support.breakers import state_now, trip
from tests.support.console_pages import asked, told
from tests.support.servers import StoreServer, free_port
from tests.support.stopwatch import Stopwatch

pytestmark = pytest.mark.one_database

BREAKERS = "/admin/analytics_admin/circuitbreaker/"
PAGE = f"{BREAKERS}held:1/"
CONTROL = f"{PAGE}control/"
RESET = f"{PAGE}reset/"


@pytest.fixture
def breaker(db):
    return trip("held:1")


def staff_with(user, *codenames):
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def model_permissions(settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_MODEL_PERMISSIONS": True}


@pytest.mark.usefixtures("model_permissions", "breaker")
def test_a_missing_permission_disables_its_button_and_is_named(staff_user):
    page = staff_with(staff_user, "view_console", "reset_circuit_breakers").get(PAGE).text
    assert "Requires the permission analytics_admin.control_circuit_breakers." in page
    assert re.search(r"<button[^>]* disabled [^>]*>Set control<", page)
    assert re.search(r'<button type="submit" class="button aa-danger">Reset this', page)


@pytest.mark.parametrize("confirmed", [{}, {"confirmed": "yes"}])
@pytest.mark.parametrize("url", [CONTROL, RESET])
@pytest.mark.usefixtures("model_permissions")
def test_a_forged_post_is_refused_and_leaves_a_denied_row(
    staff_user, breaker, monkeypatch, url, confirmed
):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    allowed = "control_circuit_breakers" if url == RESET else "reset_circuit_breakers"
    client = staff_with(staff_user, "view_console", allowed)
    data = {"control": "disabled", "for_seconds": "900", **confirmed}
    assert client.post(url, data).status_code == 403
    assert Operation.objects.get().status == "denied"
    assert state_now(breaker) == "open"


@pytest.mark.parametrize("url", [PAGE, CONTROL, RESET])
@pytest.mark.usefixtures("breaker")
def test_visitors_are_sent_to_the_login_and_forgers_stopped(client, superuser, url):
    assert client.post(url, {"confirmed": "yes"}).url.startswith("/admin/login/")
    forger = Client(enforce_csrf_checks=True)
    forger.force_login(superuser)
    assert forger.post(url, {"confirmed": "yes"}).status_code == 403


def test_a_read_only_site_says_so_and_does_nothing(operator, settings, breaker):
    wanted = {"control": "disabled", "for_seconds": "900", **asked(operator.get(PAGE), CONTROL)}
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "READ_ONLY": True}
    assert operator.get(PAGE).text.count("This site is read-only") == 4
    answer = operator.post(CONTROL, {**wanted, "confirmed": "yes"}, follow=True)
    assert told(answer) == [("error", "This site is read-only: operations are switched off.")]
    assert state_now(breaker) == "open"


@pytest.fixture(params=["stopped", "frozen"])
def down(request, settings):
    with StoreServer(port=free_port()) as server:
        settings.CACHES = {
            alias: {
                "BACKEND": "django_redis.cache.RedisCache",
                "LOCATION": f"redis://127.0.0.1:{server.port}/{number}",
            }
            for number, alias in enumerate(["default", "search", "breakers"])
        }
        if request.param == "stopped":
            server.stop()
        else:
            server.freeze()
        yield


@pytest.mark.usefixtures("down")
def test_while_the_store_is_down_the_page_says_unknown_within_a_second(operator):
    operator.get(BREAKERS)
    watch = Stopwatch()
    page = operator.get(PAGE)
    assert watch.seconds < 1
    assert page.status_code == 200
    assert "Unknown: the store" in page.text
    assert "aa-good" not in page.text


@pytest.mark.usefixtures("down")
@pytest.mark.parametrize(
    ("url", "failure"),
    [
        (CONTROL, "Failed to control circuit breaker: "),
        (RESET, "Failed to reset circuit breakers: "),
    ],
)
def test_while_the_store_is_down_an_operation_says_why_it_failed(operator, url, failure):
    wanted = {"control": "disabled", "for_seconds": "900", "reason": "a try"}
    confirm = operator.post(url, wanted)
    assert "The effect is unknown: the store" in confirm.text
    answer = operator.post(url, asked(confirm, url), follow=True)
    ((level, words),) = told(answer)
    assert level == "error"
    assert words.startswith(failure)
    assert Operation.objects.get().status in {"failed", "unknown"}
