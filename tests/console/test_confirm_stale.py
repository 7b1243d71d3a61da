"""A confirm page acts on what it has shown: where that is not so any more, nothing is done."""

import pytest
from django.test import Client

from analytics_admin import services
from analytics_admin.caching import search_cache
from analytics_admin.caching.clear import soft
from analytics_admin.console.breakers import operations
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from tests.console.search_cache_pages import PAGE
from tests.support.breakers import trip
from tests.support.console_pages import asked, told

SHELL = Actor.system("root", channel="command")
UNDO = f"{PAGE}undo/"
RESET = "/admin/analytics_admin/circuitbreaker/reset/"
ANOTHER = ("error", "There has been another soft clear since: nothing was undone")


@pytest.fixture
def colleague(django_user_model, db):
    client = Client()
    client.force_login(django_user_model.objects.create_superuser("olga"))
    return client


def clear_softly():
    services.clear_search_cache(actor=SHELL, mode="soft")


def undone():
    return Operation.objects.filter(kind="undo_clear").count()


def test_a_soft_clear_that_came_after_the_page_is_not_undone_by_it(operator):
    clear_softly()
    sent = asked(operator.post(UNDO), UNDO)
    clear_softly()
    before = soft.find_undoable()
    assert told(operator.post(UNDO, sent, follow=True)) == [ANOTHER]
    assert soft.find_undoable().clear == before.clear
    assert not undone()


def test_two_operators_with_the_same_page_undo_one_clear_and_not_the_one_before(
    operator, colleague
):
    clear_softly()
    clear_softly()
    pages = [asked(browser.post(UNDO), UNDO) for browser in (operator, colleague)]
    assert told(operator.post(UNDO, pages[0], follow=True)) == [("success", "Soft clear undone")]
    assert told(colleague.post(UNDO, pages[1], follow=True)) == [ANOTHER]
    assert undone() == 1


def test_a_clear_that_comes_in_the_very_moment_of_an_undo_stays(operator, monkeypatch):
    clear_softly()
    sent, seen = asked(operator.post(UNDO), UNDO), soft.find_undoable()
    clear_softly()
    monkeypatch.setattr(soft, "find_undoable", lambda: seen)
    assert told(operator.post(UNDO, sent, follow=True)) == [ANOTHER]
    assert Operation.objects.get(kind="undo_clear").status == "failed"


def test_the_page_of_an_undo_that_asks_again_for_a_reason_still_means_the_first_clear(
    operator, settings
):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_REASON": True}
    services.clear_search_cache(actor=SHELL, mode="soft", reason="x")
    first = asked(operator.post(UNDO), UNDO)
    again = asked(operator.post(UNDO, {**first, "reason": ""}), UNDO)
    assert again["clear"] == first["clear"]
    search_cache.set("kept", 1)
    services.clear_search_cache(actor=SHELL, mode="soft", reason="x")
    assert told(operator.post(UNDO, {**again, "reason": "y"}, follow=True)) == [ANOTHER]


# Reset the open ones


def open_now():
    return sorted(it.name for it in services.list_breakers() if it.state == "open")


def test_a_breaker_that_opened_after_the_page_is_not_reset_by_it(operator):
    trip("a.seen")
    sent = asked(operator.post(RESET, {"only_open": "on"}), RESET)
    trip("b.new")
    again = operator.post(RESET, {**sent, "reason": "backend is back"})
    assert again.status_code == 200
    assert told(again) == [
        (
            "error",
            "Circuit breaker b.new has changed meanwhile: nothing was done. "
            "Check it as it is now, then decide again.",
        )
    ]
    assert open_now() == ["a.seen", "b.new"]
    assert "Yes, reset 2 circuit breakers" in again.text
    fresh = asked(again, RESET)
    assert fresh["reason"] == "backend is back"
    answer = operator.post(RESET, fresh, follow=True)
    assert told(answer) == [("success", "2 circuit breakers reset successfully")]
    assert open_now() == []


def test_one_that_has_closed_since_holds_nobody_up(operator):
    trip("a.seen")
    trip("b.seen")
    sent = asked(operator.post(RESET, {"only_open": "on"}), RESET)
    services.reset_circuit_breakers(actor=SHELL, names=["a.seen"])
    answer = operator.post(RESET, sent, follow=True)
    assert told(answer) == [("success", "1 circuit breaker reset successfully")]


def test_where_the_page_had_nothing_to_reset_nothing_is(operator):
    sent = asked(operator.post(RESET, {"only_open": "on"}), RESET)
    trip("b.new")
    assert "Yes, reset 1 circuit breaker" in operator.post(RESET, sent).text
    assert open_now() == ["b.new"]


def test_sent_twice_the_second_is_told_of_the_first_whatever_has_opened_since(operator):
    trip("a.seen")
    sent = asked(operator.post(RESET, {"only_open": "on"}), RESET)
    operator.post(RESET, sent, follow=True)
    trip("b.new")
    answer = operator.post(RESET, sent, follow=True)
    done = "This was already done: 1 circuit breaker reset successfully"
    assert told(answer) == [("success", done)]
    assert open_now() == ["b.new"]


def test_a_reset_of_all_is_one_of_all_whatever_opens_meanwhile(operator):
    trip("a.seen")
    sent = asked(operator.post(RESET), RESET)
    trip("b.new")
    answer = operator.post(RESET, sent, follow=True)
    assert told(answer) == [("success", "All circuit breakers reset successfully")]
    assert open_now() == []


def test_more_names_than_a_form_takes_are_not_carried(operator, monkeypatch):
    monkeypatch.setattr(operations, "MAX_CARRIED_CHARACTERS", 5)
    trip("a.seen")
    sent = asked(operator.post(RESET, {"only_open": "on"}), RESET)
    assert sent["seen"] == ""
    answer = operator.post(RESET, sent, follow=True)
    assert told(answer) == [("success", "1 circuit breaker reset successfully")]
