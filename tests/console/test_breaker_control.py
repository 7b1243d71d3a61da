"""One breaker in the console: its page, holding, releasing and resetting it."""

import re
import time

import pytest
from django.core.cache import caches

from analytics_admin import services
from analytics_admin.models import Operation
from analytics_admin.services import Actor, describe_breaker, set_breaker_control
from tests.support.breakers import state_now, trip
from tests.support.cases import case
from tests.support.console_pages import asked, told

BREAKERS = "/admin/analytics_admin/circuitbreaker/"
PAGE = f"{BREAKERS}held:1/"
CONTROL = f"{PAGE}control/"
RESET = f"{PAGE}reset/"
RESET_MANY = f"{BREAKERS}reset/"
HOSTILE = "<script>alert(1)</script> & \"'"
SHELL = Actor.system("root", channel="command")


@pytest.fixture
def breaker(db):
    return trip("held:1")


def build_status(name="held:1"):
    return services.describe_breaker(name).status


def hold(client, control="forced_open", for_seconds="900", reason="deploy", **more):
    """Hold the breaker as an operator does: its page, the confirm page, yes."""
    wanted = {**asked(client.get(PAGE), CONTROL), "control": control, "for_seconds": for_seconds}
    confirm = client.post(CONTROL, {**wanted, "reason": reason, **more})
    return client.post(CONTROL, asked(confirm, CONTROL), follow=True)


@pytest.mark.usefixtures("breaker")
def test_the_list_leads_to_each_breakers_page_and_tells_of_its_hold(operator, settings):
    settings.TIME_ZONE = "Asia/Tokyo"
    set_breaker_control(name="held:1", control="disabled", actor=SHELL, for_seconds=900)
    page = operator.get(BREAKERS).text
    assert f'<a href="{PAGE}">held:1</a>' in page
    row = re.search(r"held:1</a>.*?</tr>", page, re.DOTALL)[0]
    assert "by <bdi>root</bdi>" in row
    assert re.search(r'data-aa-as="countdown"[^>]*>1[45]:\d\d</time> left', row)
    fact = re.search(r'<dd id="aa-hold">(.*?)</dd>', operator.get(PAGE).text)[1]
    assert re.search(
        r"until <time[^>]*>[^<]+ JST</time> \(<time[^>]*>1[45]:\d\d</time> left\)", fact
    )
    set_breaker_control(name="held:1", control="disabled", actor=SHELL, for_seconds=float("inf"))
    assert "until released" in operator.get(BREAKERS).text


@pytest.mark.usefixtures("breaker")
def test_a_breakers_page_tells_its_state_counts_hold_and_transitions(operator):
    page = operator.get(PAGE).text
    facts = dict(re.findall(r'<dd id="aa-([a-z]+)">(.*?)</dd>', page, re.DOTALL))
    assert "Open" in facts["state"]
    assert "by" not in facts["hold"]
    assert re.search(r'data-aa-over="ready to probe">[01]:\d\d</time>$', facts["retry"])
    assert "Consecutive failures" in page.partition('id="aa-timeline"')[2]
    set_breaker_control(name="held:1", control="forced_open", actor=SHELL, reason="deploy")
    page = operator.get(PAGE).text
    facts = dict(re.findall(r'<dd id="aa-([a-z]+)">(.*?)</dd>', page, re.DOTALL))
    assert "Forced open" in facts["state"]
    assert "by <bdi>root</bdi>" in facts["hold"]
    assert "<q><bdi>deploy</bdi></q>" in facts["hold"]


def test_a_hold_is_asked_for_confirmed_and_on_record(operator, breaker, superuser):
    wanted = {**asked(operator.get(PAGE), CONTROL), "control": "disabled", "for_seconds": "28800"}
    confirm = operator.post(CONTROL, {**wanted, "reason": "night"})
    assert "Hold the circuit breaker held:1?" in confirm.text
    assert "8 hours" in confirm.text
    assert "as <strong>admin</strong>" in confirm.text
    assert state_now(breaker) == "open"
    assert not Operation.objects.exists()
    answer = operator.post(CONTROL, asked(confirm, CONTROL), follow=True)
    assert answer.redirect_chain == [(PAGE, 302)]
    assert told(answer) == [("success", "Circuit breaker held:1 set to disabled")]
    assert state_now(breaker) == "disabled"
    row = Operation.objects.get()
    assert (row.kind, row.status, row.channel) == ("control_circuit_breakers", "done", "admin")
    assert (row.user, row.reason, row.targets["for_seconds"]) == (superuser, "night", 28800)


@pytest.mark.parametrize(
    ("chosen", "kept"),
    [("900", 900), ("3600", 3600), ("28800", 28800), ("86400", 86400), ("inf", None)],
)
@pytest.mark.usefixtures("breaker")
def test_every_duration_that_is_offered_can_be_had(operator, chosen, kept):
    assert f'<option value="{chosen}"' in operator.get(PAGE).text
    assert told(hold(operator, for_seconds=chosen))[0][0] == "success"
    assert Operation.objects.get().targets["for_seconds"] == kept


@pytest.mark.parametrize("held", ["forced_open", "disabled", "metrics_only"])
def test_every_control_that_is_offered_can_be_had_and_released(operator, breaker, held):
    hold(operator, held)
    assert state_now(breaker) == held
    assert told(hold(operator, "automatic")) == [
        ("success", "Circuit breaker held:1 set to automatic")
    ]
    assert build_status().control == "automatic"


def test_one_breaker_is_reset_through_its_confirm_page(operator, breaker):
    other = trip("another")
    confirm = operator.post(RESET, asked(operator.get(PAGE), RESET))
    assert "Reset the circuit breaker held:1?" in confirm.text
    assert state_now(breaker) == "open"
    answer = operator.post(RESET, {**asked(confirm, RESET), "reason": "well"}, follow=True)
    assert told(answer) == [("success", "1 circuit breaker reset successfully")]
    assert (state_now(breaker), state_now(other)) == ("closed", "open")
    assert Operation.objects.get().targets["names"] == ["held:1"]


@pytest.mark.parametrize("url", [CONTROL, RESET])
@pytest.mark.parametrize("confirmed", [True, False])
def test_what_rests_on_a_stale_page_is_not_done(operator, breaker, url, confirmed):
    wanted = {"control": "forced_open", "for_seconds": "900", **asked(operator.get(PAGE), url)}
    set_breaker_control(name="held:1", control="disabled", actor=SHELL)
    yes = {"confirmed": "yes"} if confirmed else {}
    answer = operator.post(url, {**wanted, **yes}, follow=True)
    if confirmed:  # the confirm page again, for the breaker as it is now
        assert (
            asked(answer, url)["expected_generation"]
            == describe_breaker("held:1").status.generation
        )
    else:
        assert answer.redirect_chain == [(PAGE, 302)]
    ((level, words),) = told(answer)
    assert level == "error"
    assert "Circuit breaker held:1 has changed meanwhile: nothing was done." in words
    assert state_now(breaker) == "disabled"


@pytest.mark.parametrize("url", [CONTROL, RESET])
def test_a_request_that_has_seen_nothing_is_stale(operator, breaker, url):
    data = {"control": "forced_open", "for_seconds": "900", "confirmed": "yes"}
    assert told(operator.post(url, data, follow=True))[0][0] == "error"
    assert state_now(breaker) == "open"


NOT_OFFERED = [
    {"control": ""},
    {"control": "open"},
    {"control": "x\x00y"},
    {"for_seconds": ""},
    {"for_seconds": "-1"},
    {"for_seconds": "nan"},
    {"for_seconds": "901"},
    {"expected_generation": "x" * 101},
    {"expected_generation": "x\x00"},
]


@pytest.mark.parametrize("confirmed", [{}, {"confirmed": "yes"}])
def test_what_the_page_does_not_offer_is_refused(operator, breaker, confirmed):
    right = {"control": "disabled", "for_seconds": "900", **asked(operator.get(PAGE), CONTROL)}
    for wrong in NOT_OFFERED:
        with case(wrong):
            answer = operator.post(CONTROL, {**right, **wrong, **confirmed}, follow=True)
            assert answer.redirect_chain == [(PAGE, 302)]
            assert told(answer)[0][0] == "error"
            assert state_now(breaker) == "open"
            assert not Operation.objects.exists()


@pytest.mark.parametrize("url", [CONTROL, RESET])
@pytest.mark.usefixtures("breaker")
def test_a_reason_is_asked_for_where_the_site_says_so(operator, settings, url):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_REASON": True}
    wanted = {"control": "disabled", "for_seconds": "900", **asked(operator.get(PAGE), url)}
    answer = operator.post(url, {**wanted, "confirmed": "yes", "reason": " "})
    assert answer.status_code == 200
    assert "This field is required." in answer.text
    assert not Operation.objects.exists()


@pytest.mark.parametrize("name", ["nope", "add", HOSTILE.replace("/", ""), "x" * 300, "..."])
@pytest.mark.parametrize("page", ["", "control/", "reset/"])
def test_an_unknown_name_is_not_found_and_not_created(operator, name, page):
    before = services.list_breakers()
    data = {"control": "disabled", "for_seconds": "900", "confirmed": "yes"}
    url = f"{BREAKERS}{name}/{page}"
    answer = operator.post(url, data) if page else operator.get(url)
    assert answer.status_code == 404
    assert services.list_breakers() == before
    assert not Operation.objects.exists()


def test_a_breaker_named_like_a_page_has_its_own_all_the_same(operator):
    assert operator.get(RESET_MANY).url == BREAKERS
    trip("reset")
    assert 'id="aa-state"' in operator.get(RESET_MANY).text
    assert operator.post(f"{RESET_MANY}reset/").status_code == 302


def test_looking_changes_nothing(operator, breaker):
    before = build_status()
    for url in [CONTROL, RESET]:
        assert operator.get(url, {"confirmed": "yes", "control": "disabled"}).url == PAGE
        assert operator.put(url).status_code == 405
    assert operator.post(PAGE, {"control": "disabled"}).status_code == 405
    assert build_status().generation == before.generation
    assert state_now(breaker) == "open"


@pytest.mark.usefixtures("breaker")
def test_hostile_reasons_and_actors_are_shown_as_text(client, django_user_model):
    client.force_login(django_user_model.objects.create_superuser(HOSTILE))
    wanted = {**asked(client.get(PAGE), CONTROL), "control": "disabled", "for_seconds": "900"}
    pages = [client.post(CONTROL, {**wanted, "reason": HOSTILE})]
    data = {**wanted, "reason": HOSTILE, "confirmed": "yes"}
    pages += [client.post(CONTROL, data, follow=True), client.get(BREAKERS)]
    for page in pages:
        assert "<script>alert" not in page.text
        assert "&lt;script&gt;alert" in page.text


def test_a_hostile_name_in_the_store_is_shown_as_text_and_breaks_no_page(operator, breaker):
    client = caches["breakers"].client.get_client(write=True)
    (index,) = client.scan_iter("*", _type="zset")
    client.zadd(index, {HOSTILE: time.time()})
    page = operator.get(BREAKERS)
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert" in page.text
    assert operator.get(PAGE).status_code == 200


@pytest.mark.parametrize("page", [BREAKERS, PAGE])
@pytest.mark.usefixtures("breaker")
def test_pages_need_no_inline_code(operator, page):
    main = operator.get(page).text.partition('id="content-main"')[2]
    assert not re.search(r"<script|<style|style=|\son[a-z]+=", main)
