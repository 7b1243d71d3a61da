"""Where the name of the environment is to be typed: each operation of the console waits for it."""

import re
from dataclasses import replace
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.test import Client

from analytics_admin import services
from analytics_admin.caching import search_cache
from analytics_admin.models import Operation
from tests.console.test_confirm_once import filled_in, press
from tests.console.typed_operations import SHELL, TYPED, assert_done, rest, standing, typed
from tests.support.breakers import trip
from tests.support.console_pages import told

pytestmark = pytest.mark.one_database

NAME = "production"
CACHE = "/admin/analytics_admin/searchcache/"
BREAKERS = "/admin/analytics_admin/circuitbreaker/"
FIELD = re.compile(r'<input[^>]*name="environment_name"[^>]*>')
ERROR = re.compile(r'<ul class="errorlist" id="(\w+)_error"><li>(.*?)</li></ul>')
MISSING = "This field is required."
WRONG = "That is not the name of this environment. Nothing was done."

every_act = pytest.mark.parametrize("case", TYPED.values(), ids=TYPED)


@pytest.fixture
def operator(client, superuser, settings):
    call_it(settings, NAME)
    client.force_login(superuser)
    search_cache.set("kept", 1, tags=["a"])
    for name in ("once.1", "once.2"):
        trip(name)
    return client


def call_it(settings, name):
    asked = {"ENVIRONMENT_NAME": name, "REQUIRE_ENVIRONMENT_NAME": True}
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, **asked}


@every_act
def test_an_operation_asks_for_the_name_last_and_does_not_complain_before_it_was_asked(
    operator, case
):
    page = press(operator, case).text
    field = FIELD.search(page)[0]
    assert " required" in field
    assert "value=" not in field
    assert 'autocomplete="off"' in field
    assert "autofocus" not in page
    assert 'aria-describedby="id_environment_name_helptext"' in field
    assert '<label for="id_environment_name">Environment name:</label>' in page
    assert "errorlist" not in page
    assert page.index('name="reason"') < page.index(field) < page.index("aa-danger")
    shown = re.search(r'id="id_environment_name_helptext">(.*?)</p>', page)[1]
    assert shown == "Type “production”. Case-sensitive."
    # The name is no confirmation when it is sent with the button.
    page = press(operator, replace(case, pressed={**case.pressed, "environment_name": NAME}))
    assert page.status_code == 200
    assert "value=" not in FIELD.search(page.text)[0]
    assert not Operation.objects.exists()


@every_act
def test_nothing_is_done_or_on_record_before_the_name_is_typed_and_then_once(operator, case):
    page = press(operator, case)
    filled = {"reason": ["ticket 7"], "for_seconds": ["28800"]}
    before = standing()
    # Operations take turns with what is wrong, and with what may stand around the right name.
    turn = list(TYPED.values()).index(case) % 2
    attempts = [([None, ""][turn], MISSING), (["Production", "staging"][turn], WRONG)]
    for name, complaint in attempts:  # each on the page that answered the one before
        sent = typed(page, case, name, **filled)
        page = operator.post(case.url, sent)
        assert page.status_code == 200
        assert ERROR.findall(page.text) == [("id_environment_name", complaint)], name
        field = FIELD.search(page.text)[0]
        assert 'aria-invalid="true"' in field
        assert 'aria-describedby="id_environment_name_helptext id_environment_name_error"' in field
        assert "value=" not in field
        assert standing() == before, name
        assert rest(filled_in(page, case, for_seconds=["28800"])) == rest(sent), name
        if "<select" in page.text:
            assert '<option value="28800" selected>' in page.text
    sent = typed(page, case, [NAME, f"  {NAME}\t"][turn])
    first, second = (operator.post(case.url, sent, follow=True) for _ in range(2))
    assert_done(first, case)
    assert_done(second, case, before="This was already done: ")
    row = Operation.objects.get()
    assert (row.status, row.reason) == ("done", "ticket 7")
    assert LogEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (" \t ", MISSING),
        ("PRODUCTION", WRONG),
        ("production staging", WRONG),
        ("pro duction", WRONG),
        ("productio", WRONG),
        ("\uff50roduction", WRONG),
        ("<b>production</b>", WRONG),
        ("x" * 100_000, WRONG),
        ("production\x00", WRONG),
    ],
)
def test_nothing_but_the_name_will_do_and_what_was_typed_is_not_shown(operator, name, complaint):
    case = TYPED["clear"]
    asked = press(operator, case)
    before = standing()
    again = operator.post(case.url, typed(asked, case, name))
    assert ERROR.findall(again.text) == [("id_environment_name", complaint)]
    assert standing() == before
    assert "value=" not in FIELD.search(again.text)[0]


@every_act
def test_a_site_that_does_not_ask_neither_shows_the_field_nor_heeds_it(operator, settings, case):
    name = NAME if list(TYPED.values()).index(case) % 2 else ""
    given = {**settings.ANALYTICS_ADMIN, "ENVIRONMENT_NAME": name}
    del given["REQUIRE_ENVIRONMENT_NAME"]
    settings.ANALYTICS_ADMIN = given
    page = press(operator, case)
    assert "environment_name" not in page.text
    sent = typed(page, case, "staging")
    assert_done(operator.post(case.url, sent, follow=True), case)


def test_the_pages_with_the_buttons_do_not_ask(operator):
    services.clear_search_cache(actor=SHELL, mode="soft")
    for path in (CACHE, BREAKERS, f"{BREAKERS}once.1/"):
        assert "environment_name" not in operator.get(path).text
    clear = TYPED["clear by tags"]
    wrongly = operator.post(clear.url, {"mode": "tags", "tags": ""}, follow=True)
    assert "Enter at least one tag." in wrongly.text
    assert "environment_name" not in wrongly.text


def test_a_button_that_is_off_by_now_leads_back_and_misses_no_name(operator, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "READ_ONLY": True}
    for case in TYPED.values():
        assert press(operator, replace(case, before=nothing)).status_code == 302


def nothing():
    """Leave it as it is."""


@pytest.mark.parametrize("name", ["reset one", "hold one", "reset ticked", "hold ticked"])
def test_a_page_shown_again_because_it_was_stale_wants_the_name_typed_anew(operator, name):
    case = TYPED[name]
    asked = press(operator, case)
    services.reset_circuit_breakers(actor=SHELL, names=["once.1"])
    again = operator.post(case.url, typed(asked, case, NAME, reason="ticket 7"))
    assert "nothing was done" in again.text
    assert "value=" not in FIELD.search(again.text)[0]
    assert "errorlist" not in again.text
    before, sent = standing(), filled_in(again, case)
    assert sent["reason"] == ["ticket 7"]
    refused = operator.post(case.url, sent)
    assert ERROR.findall(refused.text) == [("id_environment_name", MISSING)]
    assert standing() == before
    answer = operator.post(case.url, typed(refused, case, NAME), follow=True)
    assert_done(answer, case)


def test_so_does_the_page_of_the_open_ones_once_there_are_others(operator):
    case = TYPED["reset the open ones"]
    sent = typed(press(operator, case), case, NAME)
    trip("once.3")
    again = operator.post(case.url, sent)
    assert "Yes, reset 3 circuit breakers" in again.text
    assert "value=" not in FIELD.search(again.text)[0]
    refused = operator.post(case.url, filled_in(again, case))
    assert ERROR.findall(refused.text) == [("id_environment_name", MISSING)]
    answer = operator.post(case.url, typed(refused, case, NAME), follow=True)
    assert told(answer) == [("success", "3 circuit breakers reset successfully")]


def test_a_reason_that_is_missing_too_is_said_beside_the_name(operator, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_REASON": True}
    case = TYPED["clear"]
    page = press(operator, case)
    assert "errorlist" not in page.text
    again = operator.post(case.url, typed(page, case, "staging"))
    assert ERROR.findall(again.text) == [("id_reason", MISSING), ("id_environment_name", WRONG)]
    once_more = operator.post(case.url, typed(again, case, NAME))
    assert ERROR.findall(once_more.text) == [("id_reason", MISSING)]
    assert "value=" not in FIELD.search(once_more.text)[0]
    assert not Operation.objects.exists()


@pytest.mark.parametrize(
    ("name", "shown", "accepted"),
    [
        ("<script>alert(1)</script> & \"'", ..., "<script>alert(1)</script> & \"'"),
        ("</p><b>%(name)s {x}", ..., "</p><b>%(name)s {x}"),
        ("  eu \t  west  ", "eu west", "eu west"),
        ("eu\u00a0west", "eu west", "eu   west"),
        ("Zürich → 東京", ..., "Zürich → 東京"),
        ("Zürich", ..., "Zu\u0308rich"),
        ("Zu\u0308rich", "Zürich", "Zürich"),
        ("שלום", ..., "שלום"),
    ],
)
def test_whatever_the_name_is_it_is_shown_as_text_and_can_be_typed(
    operator, settings, name, shown, accepted
):
    call_it(settings, name)
    case = TYPED["clear"]
    page = press(operator, case)
    told_to = re.search(r'id="id_environment_name_helptext">(.*?)</p>', page.text, re.DOTALL)[1]
    assert "<" not in told_to
    expected = name if shown is ... else shown
    assert unescape(told_to) == f"Type “{expected}”. Case-sensitive."
    wrong = operator.post(case.url, typed(page, case, f"{accepted}!"))
    assert ERROR.findall(wrong.text) == [("id_environment_name", WRONG)]
    assert "<script>alert" not in wrong.text
    answer = operator.post(case.url, typed(wrong, case, accepted), follow=True)
    assert_done(answer, case)


@pytest.mark.parametrize("typed_name", [None, "", " ", "None", "production"])
def test_where_there_is_no_name_nothing_that_is_typed_acts(operator, settings, typed_name):
    call_it(settings, " ")
    case = TYPED["clear"]
    page = press(operator, case)
    before = standing()
    assert operator.post(case.url, typed(page, case, typed_name)).status_code == 200
    assert standing() == before


def test_who_may_not_act_is_refused_whatever_they_type(operator, staff_user, settings):
    more = {"REQUIRE_MODEL_PERMISSIONS": True}
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, **more}
    case = TYPED["clear"]
    page = press(operator, case)
    stranger = Client()
    stranger.force_login(staff_user)
    for name in (NAME, "staging"):
        assert stranger.post(case.url, typed(page, case, name)).status_code == 403


def test_rest_and_commands_are_not_asked(operator, mint):
    authorized = {"Authorization": f"Bearer {mint()}"}
    answer = Client().post(
        "/api/v1/analytics/cache/clear", content_type="application/json", headers=authorized
    )
    assert answer.json() == {"message": "Search cache cleared"}
    call_command("reset_circuit_breakers", "--no-input", verbosity=0)
    assert {it.state for it in services.list_breakers()} == {"closed"}


def test_the_same_from_a_command_line_knows_no_name(operator):
    page = press(operator, TYPED["clear"]).text
    for lines in re.findall(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL):
        assert NAME not in lines
