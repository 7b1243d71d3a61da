"""What the doors of soft clear, undo, clear by tags and sweep take, refuse, show and announce."""

import json
import re
from typing import Any

import pytest
from django.core.cache import caches

from analytics_admin import permissions, services
from analytics_admin.caching import search_cache
from analytics_admin.caching.clear import soft as soft_clear
from analytics_admin.caching.clear import sweep
from analytics_admin.models import Operation
from analytics_admin.permissions import VIEW_CONSOLE
from analytics_admin.services import Actor, OperationDenied, OperationRejected
from analytics_admin.signals import search_cache_cleared
from tests.support.api import CLEAR, assert_error, call, nothing_changes
from tests.support.console_pages import asked, told
from tests.support.doors import run
from tests.support.proxy import Fault, Proxy
from tests.support.servers import StoreServer

pytestmark = pytest.mark.django_db

UNDO = "/api/v1/analytics/cache/undo"
PAGE = "/admin/analytics_admin/searchcache/"
SHELL = Actor.system("root", channel="command")


# REST

WRONG_FIELDS = {
    "mode unknown": ({"mode": "gentle"}, "mode"),
    "mode null": ({"mode": None}, "mode"),
    "mode empty": ({"mode": ""}, "mode"),
    "mode a list": ({"mode": ["soft"]}, "mode"),
    "mode a boolean": ({"mode": True}, "mode"),
    "mode in capitals": ({"mode": "SOFT"}, "mode"),
    "soft as an option": ({"soft": True}, "soft"),
    "tags null": ({"tags": None}, "tags"),
    "tags empty": ({"tags": []}, "tags"),
    "tags a text": ({"tags": "products"}, "tags"),
    "tags an object": ({"tags": {"products": 1}}, "tags"),
    "a tag null": ({"tags": ["x", None]}, "tags[1]"),
    "a tag a number": ({"tags": [1]}, "tags[0]"),
    "a tag a list": ({"tags": [["x"]]}, "tags[0]"),
    "a tag empty": ({"tags": [""]}, "tags[0]"),
    "a tag with NUL": ({"tags": ["a\0"]}, "tags[0]"),
    "a tag too long": ({"tags": ["x" * 501]}, "tags"),
    "too many tags": ({"tags": [str(n) for n in range(101)]}, "tags"),
    "soft with keys": ({"mode": "soft", "keys": ["x"]}, "keys"),
    "soft with keys, looked at": ({"mode": "soft", "keys": ["x"], "dry_run": True}, "keys"),
    "keys with tags": ({"keys": ["x"], "tags": ["x"]}, "keys"),
}


@pytest.mark.usefixtures("superuser")
@pytest.mark.parametrize("case", WRONG_FIELDS)
def test_a_wrong_field_of_a_clear_is_400_and_named(client, mint, case):
    body, name = WRONG_FIELDS[case]
    with nothing_changes():
        assert_error(call(client, CLEAR, mint(), body), 400, "invalid", name)


@pytest.mark.usefixtures("superuser")
@pytest.mark.parametrize("body", [{"mode": "soft"}, {"keys": ["x"]}, {"names": ["x"]}, {"x": 1}])
def test_an_undo_takes_no_options_of_a_clear(client, mint, body):
    with nothing_changes():
        assert_error(call(client, UNDO, mint(), body), 400, "invalid", next(iter(body)))


@pytest.mark.usefixtures("superuser")
@pytest.mark.parametrize("option", ["mode=soft", "tags=x"])
def test_an_option_in_the_url_is_400_and_no_operation(client, mint, option):
    with nothing_changes():
        assert_error(call(client, f"{CLEAR}?{option}", mint()), 400, "invalid", "in the body")


@pytest.mark.usefixtures("superuser")
@pytest.mark.parametrize("body", [None, {}, {"dry_run": True}, {"dry_run": False}])
def test_nothing_to_undo_is_409_without_a_row(client, mint, body):
    with nothing_changes():
        assert_error(call(client, UNDO, mint(), body), 409, "nothing_to_undo", "no soft clear")


@pytest.mark.usefixtures("plain_user")
def test_an_undo_wants_a_token_and_an_operator_and_a_refusal_is_on_record(client, mint):
    assert call(client, UNDO, None).status_code == 401
    with nothing_changes(rows=1):
        answer = call(client, UNDO, mint("una"))
    assert (answer.status_code, answer.json()["detail"]) == (403, "Not authorized")
    row = Operation.objects.get()
    assert (row.kind, row.status) == ("undo_clear", "denied")


@pytest.mark.usefixtures("superuser")
def test_get_of_an_undo_is_405(client, mint):
    answer = client.get(UNDO, headers={"Authorization": f"Bearer {mint()}"})
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.usefixtures("superuser")
def test_a_clear_without_options_says_what_it_always_said(client, mint):
    for body in (None, {}, {"mode": "hard"}):
        answer = call(client, CLEAR, mint(), body)
        assert (answer.status_code, answer.json()) == (200, {"message": "Search cache cleared"})


@pytest.mark.usefixtures("superuser")
def test_an_undo_answers_with_its_message_and_its_row(client, mint):
    assert call(client, CLEAR, mint(), {"mode": "soft"}).status_code == 200
    answer = call(client, UNDO, mint())
    assert (answer.status_code, answer.json()) == (200, {"message": "Soft clear undone"})
    row = Operation.objects.get(kind="undo_clear")
    assert answer.headers["X-Operation-Id"] == str(row.pk)


def test_a_soft_clear_that_ends_in_the_very_moment_of_its_undo_is_409_and_on_record(
    client, mint, superuser, monkeypatch
):
    found = soft_clear.UndoableClear(alias="search", seconds_left=0.1, clear="1.5")
    monkeypatch.setattr(soft_clear, "find_undoable", lambda: found)
    answer = call(client, UNDO, mint())
    row = Operation.objects.get()
    assert_error(answer, 409, "nothing_to_undo")
    assert answer.headers["X-Operation-Id"] == str(row.pk)
    assert (row.status, row.error) == ("failed", "there is no soft clear to undo")


@pytest.mark.usefixtures("superuser")
@pytest.mark.parametrize(
    ("url", "body", "word", "sentence"),
    [
        (CLEAR, {"mode": "soft"}, b"EVAL", "Failed to clear cache: "),
        (CLEAR, {"tags": ["x"]}, b"DEL", "Failed to clear cache: "),
        (UNDO, {}, b"EVAL", "Failed to undo the clear: "),
    ],
)
def test_an_operation_whose_reply_is_lost_is_500_and_unknown_on_record(
    client, mint, settings, url, body, word, sentence
):
    with (
        StoreServer() as store,
        Proxy(store.socket_path, fault=Fault(word=word, deliver=False)) as proxy,
    ):
        config = settings.CACHES["search"]
        for location in (f"unix://{store.socket_path}?db=0", f"{proxy.url}/0"):
            settings.CACHES = {**settings.CACHES, "search": {**config, "LOCATION": location}}
            if location.startswith("unix"):
                search_cache.set("q", 1, tags=["x"])
                services.clear_search_cache(actor=SHELL, mode="soft")
                search_cache.set("q", 2, tags=["x"])
                Operation.objects.all().delete()
        answer = call(client, url, mint(), body)
    assert_error(answer, 500, "outcome_unknown", f"{sentence}the store did not answer during the")
    row = Operation.objects.get()
    assert (row.status, str(row.pk)) == ("unknown", answer.headers["X-Operation-Id"])


# Looking first


@pytest.mark.usefixtures("superuser")
def test_a_dry_run_of_each_way_says_what_it_would_do_and_does_nothing(client, mint):
    search_cache.set("q", 1, tags=["x"])
    with nothing_changes():
        soft = call(client, CLEAR, mint(), {"mode": "soft", "dry_run": True}).json()
        tags = call(client, CLEAR, mint(), {"tags": ["x", "y"], "dry_run": True}).json()
    assert soft["message"] == "Dry run: 3 keys would be stale, for at most 60 s"
    told = {"alias": "search", "dedicated": True, "keys": 3, "exact": True, "stale_for": 60.0}
    assert soft["preview"].items() >= told.items()
    assert "foreign" not in soft["preview"]  # it removes nobody's keys
    assert tags == {
        "message": "Dry run: the results of 2 tags would be cleared",
        "preview": {"alias": "search", "tags": 2, "in_use": 1},
    }
    services.clear_search_cache(actor=SHELL, mode="soft")
    undo = call(client, UNDO, mint(), {"dry_run": True}).json()
    assert undo["message"] == "Dry run: the last soft clear would be undone"
    assert 50 < undo["preview"]["seconds_left"] <= 60
    assert search_cache.get("q", tags=["x"]) is None


# Services


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"mode": 1}, TypeError),
        ({"mode": None}, TypeError),
        ({"tags": "x"}, TypeError),
        ({"tags": [1]}, TypeError),
        ({"tags": []}, OperationRejected),
        ({"tags": ["a\0"]}, OperationRejected),
        ({"tags": ["\ud800"]}, OperationRejected),
        ({"mode": "both"}, OperationRejected),
    ],
)
def test_what_is_no_way_to_clear_is_refused_before_anything_is_done(options, error):
    with nothing_changes(), pytest.raises(error):
        services.clear_search_cache(actor=SHELL, **options)


def test_the_signal_of_a_clear_says_which_it_was():
    heard: list[Any] = []

    def listen(outcome: Any, **_: Any) -> None:
        heard.append((outcome["mode"], outcome.get("tags")))

    search_cache_cleared.connect(listen)
    try:
        services.clear_search_cache(actor=SHELL)
        services.clear_search_cache(actor=SHELL, mode="soft")
        services.clear_search_cache(actor=SHELL, tags=["x"])
        services.undo_clear(actor=SHELL)
        services.sweep_search_cache(actor=SHELL)
    finally:
        search_cache_cleared.disconnect(listen)
    assert heard == [("hard", None), ("soft", None), ("hard", 1)]


@pytest.mark.parametrize("operation", [services.undo_clear, services.sweep_search_cache])
def test_undo_and_sweep_need_the_permission_of_a_clear(operation, staff_user, settings):
    settings.ANALYTICS_ADMIN = {"REQUIRE_MODEL_PERMISSIONS": True}
    with pytest.raises(OperationDenied):
        operation(actor=Actor.from_user(staff_user))
    assert Operation.objects.get().status == "denied"


# Commands


@pytest.mark.parametrize(
    "argv",
    [
        ["clear_search_cache", "--tag", "x", "--tag", "", "--no-input"],
        ["clear_search_cache", "--tag", "", "--no-input"],
        ["clear_search_cache", "--tag", "x" * 501, "--no-input"],
        ["clear_search_cache", *[f"--tag={n}" for n in range(101)], "--no-input"],
    ],
)
def test_wrong_options_of_a_clear_are_exit_code_2_and_nothing_is_done(argv):
    with nothing_changes():
        code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert err.startswith("tags: ")


@pytest.mark.parametrize("name", ["undo_clear", "sweep_search_cache"])
def test_without_a_terminal_an_operation_wants_to_be_told_not_to_ask(name):
    assert run(name)[0] == 2
    assert not Operation.objects.exists()


def test_nothing_to_undo_is_exit_code_1():
    code, out, err = run("undo_clear", "--no-input", "--json")
    assert (code, err) == (1, "There is no soft clear to undo")
    assert json.loads(out) == {"detail": err, "code": "nothing_to_undo"}


def test_a_sweep_says_what_it_removed_and_is_on_record(settings):
    settings.ANALYTICS_ADMIN = {"SEARCH_CACHE_SOFT_CLEAR_GRACE": 0.001}
    search_cache.set("old", 1)
    services.clear_search_cache(actor=SHELL, mode="soft")
    search_cache.set("new", 1)
    code, out, _ = run("sweep_search_cache", "--dry-run")
    assert (code, out) == (0, "Dry run: 1 of 2 results would be removed\n")
    code, out, _ = run("sweep_search_cache", "--no-input", "--json", "--reason", "room")
    assert (code, json.loads(out)["message"]) == (0, "Search cache swept: 1 of 2 results removed")
    row = Operation.objects.get(kind="sweep_search_cache")
    assert (row.status, row.reason, row.targets) == ("done", "room", {})
    assert row.outcome == {"alias": "search", "seen": 2, "removed": 1, "finished": True}


def test_a_sweep_that_is_interrupted_is_exit_code_1_and_says_what_is_removed(monkeypatch):
    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "sweep_leftovers", interrupt)
    code, out, err = run("sweep_search_cache", "--no-input", "--json")
    assert code == 1
    assert err == "Interrupted: what was removed stays removed. Run it again for the rest."
    assert json.loads(out) == {"detail": err, "code": "interrupted"}
    assert Operation.objects.get().status == "failed"


def test_a_sweep_that_the_store_fails_says_so():
    caches["search"].client.get_client(write=True).set("x", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "sweep_leftovers", _unavailable)
        code, _, err = run("sweep_search_cache", "--no-input")
    assert (code, err) == (1, "Failed to sweep cache: the store is away")


def _unavailable(**_: Any) -> None:
    raise services.StoreUnavailable("the store is away")


# Console


def test_the_page_offers_both_modes_hard_first_and_a_field_for_tags(operator):
    page = operator.get(PAGE).text
    assert page.index('value="hard"') < page.index('value="soft"')
    assert 'name="tags"' in page
    assert "sweep_search_cache" in page


def test_the_undo_button_is_there_while_there_is_something_to_undo(operator):
    assert f'action="{PAGE}undo/"' not in operator.get(PAGE).text
    services.clear_search_cache(actor=SHELL, mode="soft")
    assert f'action="{PAGE}undo/"' in operator.get(PAGE).text
    services.clear_search_cache(actor=SHELL)
    assert f'action="{PAGE}undo/"' not in operator.get(PAGE).text


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({}, "is emptied"),
        ({"mode": "hard"}, "is emptied"),
        ({"mode": "soft"}, "searches get the old one, for at most 60 s"),
        ({"tags": "x, <b>"}, "Results with one of these tags are removed"),
        ({"tags": "x, <b>"}, "&lt;b&gt;"),
        ({"tags": "x, <b>"}, "0 of 2 tags are in use"),
    ],
)
def test_the_confirm_page_says_what_this_way_does_and_does_nothing(operator, form, words):
    with nothing_changes():
        page = operator.post(f"{PAGE}clear/", form)
    assert words in page.text
    assert "<b>" not in page.text


WRONG_WAYS = {
    "an unknown way": ({"mode": "gentle"}, "Select a valid choice"),
    "soft with tags": ({"mode": "soft", "tags": "x"}, "This mode clears all results."),
    "hard with tags": ({"mode": "hard", "tags": "x"}, "This mode clears all results."),
    "by tag without one": ({"mode": "tags", "tags": " , "}, "Enter at least one tag."),
    "a tag too long": ({"mode": "tags", "tags": "x" * 501}, "at most 500 characters"),
    "too many tags": ({"mode": "tags", "tags": ",".join(map(str, range(101)))}, "At most 100 tags"),
}


@pytest.mark.parametrize("case", WRONG_WAYS)
def test_what_is_no_way_to_clear_is_said_in_the_form_and_nothing_is_asked(operator, case):
    form, complaint = WRONG_WAYS[case]
    with nothing_changes():
        page = operator.post(f"{PAGE}clear/", form)
    clear = re.search(r'<form[^>]* id="aa-clear".*?</form>', page.text, re.DOTALL)[0]
    assert complaint in clear
    assert "autofocus" in clear
    assert f'value="{form["tags"]}"' in clear if "tags" in form else True
    assert "Nothing was done yet." in page.text
    assert 'name="confirmed"' not in page.text
    assert 'id="aa-live"' not in page.text  # it would look at an address that leads elsewhere


@pytest.mark.parametrize("case", WRONG_WAYS)
def test_a_forged_confirmation_of_no_way_to_clear_leads_back_with_a_complaint(operator, case):
    with nothing_changes():
        confirmed = {**WRONG_WAYS[case][0], "confirmed": "yes"}
        answer = operator.post(f"{PAGE}clear/", confirmed, follow=True)
    ((level, message),) = told(answer)
    assert (level, answer.redirect_chain) == ("error", [(PAGE, 302)])
    assert WRONG_WAYS[case][1] in message


@pytest.mark.parametrize("confirmed", [{}, {"confirmed": "yes"}])
@pytest.mark.parametrize("tags", ["x" * 501, ",".join(map(str, range(101)))])
def test_wrong_tags_without_a_way_lead_back_with_a_complaint(operator, tags, confirmed):
    with nothing_changes():
        answer = operator.post(f"{PAGE}clear/", {"tags": tags, **confirmed}, follow=True)
    ((level, message),) = told(answer)
    assert (level, answer.redirect_chain) == ("error", [(PAGE, 302)])
    assert message


def test_a_clear_by_tag_is_on_record_as_the_hard_one_that_it_is(operator):
    search_cache.set("q", 1, tags=["x"])
    search_cache.set("other", 1)
    confirm = operator.post(f"{PAGE}clear/", {"mode": "tags", "tags": "x"})
    answer = operator.post(f"{PAGE}clear/", asked(confirm, f"{PAGE}clear/"), follow=True)
    assert told(answer) == [("success", "Search cache cleared for 1 tag")]
    assert Operation.objects.get().targets == {"mode": "hard", "tags": ["x"]}
    assert (search_cache.get("q", tags=["x"]), search_cache.get("other")) == (None, 1)


def test_the_confirm_page_of_an_undo_says_how_long_it_can_be_done(operator):
    services.clear_search_cache(actor=SHELL, mode="soft")
    page = operator.post(f"{PAGE}undo/")
    assert "are valid again" in page.text
    answer = operator.post(f"{PAGE}undo/", asked(page, f"{PAGE}undo/"), follow=True)
    assert told(answer) == [("success", "Soft clear undone")]


def test_a_forged_undo_is_403_and_on_record(client, plain_user):
    services.clear_search_cache(actor=SHELL, mode="soft")
    plain_user.is_staff = True
    plain_user.save()
    client.force_login(plain_user)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(permissions, "is_allowed", lambda user, operation: operation == VIEW_CONSOLE)
        assert client.post(f"{PAGE}undo/", {"confirmed": "yes"}).status_code == 403
    assert Operation.objects.get(kind="undo_clear").status == "denied"
