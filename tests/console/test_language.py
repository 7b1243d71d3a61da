"""Every word of the console goes through gettext: shown by a language that brackets what does."""

import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.staticfiles import finders
from django.test import override_settings
from django.utils import translation

from analytics_admin.breakers import history, runtime
from analytics_admin.console.audit.labels import format_duration
from tests.console.operation_states import ACTS, IN_EVERY_WAY, MOVING, WALKS, stage
from tests.console.page_states import STATES
from tests.console.staging import breaker_in, fill_the_cache, url
from tests.support.breakers import another
from tests.support.cases import case
from tests.support.pseudo_locale import pseudo_locale, untranslated
from tests.support.routes import console_routes

pytestmark = pytest.mark.one_database

DJANGOS_OWN = {
    "Search",  # read aloud beside the field above a list
    "403 Forbidden",
    "Not Found",
    "The requested resource was not found on this server.",
}
"""What Django itself does not translate."""
ADMIN = "the pages of the admin that the section is on"


@pytest.fixture
def client(client: Any, db: None, django_user_model: Any, monkeypatch: Any) -> Any:
    """A superuser, whose name has no letters, at a site that speaks the pseudo-language."""
    monkeypatch.setattr(runtime, "_breakers", {})
    monkeypatch.setattr(runtime, "_options", {})
    monkeypatch.setattr(history, "_host", "1")
    client.force_login(django_user_model.objects.create_superuser("0"))
    # A zone without a name: the admin's recent actions keep the instant of an operation as a text.
    zone = {"TIME_ZONE": "Etc/GMT-1"}
    with pseudo_locale() as language, override_settings(LANGUAGE_CODE=language, **zone):
        yield client


def bare(answers: Any) -> list[str]:
    """Return the texts of the pages that are not translated."""
    pages = answers if isinstance(answers, list) else [answers]
    assert all(page.status_code in {200, 403, 404} for page in pages)
    return sorted({text for page in pages for text in untranslated(page.text)} - DJANGOS_OWN)


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("<p>⟦Calls⟧ <b>12</b> ⟦to ⟧catalog_1</p><p>Rejected</p>", "Rejected"),
        ('<p title="Exact">⟦Since ⟧<time title="UTC">May</time></p>', "Exact"),
        ('<input type="submit" value="Go"><input type="text" value="went">', "Go"),
        ("<p>⟦Unknown: ⟧<bdi>it is away</bdi></p>", "it is away"),
        ('<p data-age="Updated {age}." data-tag="abc"></p>', "Updated ."),
        ("<p>5 %</p>", "5 %"),
        ("<p>⟦5 keys⟧ and <em>⟦more⟧</em></p>", "and"),
    ],
)
def test_a_text_that_is_not_translated_is_found(page, found):
    assert untranslated(page) == [found]


def test_every_address_of_the_console_is_in_the_tables():
    assert sorted({*STATES, *ACTS} - {ADMIN}) == sorted(console_routes())


# One that is a state of several routes returns the pages of them all.
@pytest.mark.parametrize(
    "state",
    {state: 1 for states in STATES.values() for state in states.values()},
    ids=lambda state: state.__name__,
)
def test_a_page_is_translated_in_each_of_its_states(client, state):
    assert bare(state(client)) == []


@pytest.mark.parametrize("route", ACTS)
def test_an_operation_is_translated_whatever_becomes_of_it(client, route):
    address, is_staged = route.replace("<str:name>", "1"), False
    for walk, steps in WALKS.items():
        ways = ACTS[route] if walk in IN_EVERY_WAY else dict([next(iter(ACTS[route].items()))])
        for name, pressed in ways.items():
            with case(walk, name):
                if not is_staged:
                    stage()
                assert bare(steps(client, address, pressed)) == []
                is_staged = walk not in MOVING


def test_a_page_says_in_which_language_and_direction_it_is(client):
    breaker_in("closed")
    for path in ("circuitbreaker/", "circuitbreaker/1/", "searchcache/", "operation/"):
        page = client.get(url(path)).text
        assert re.search(r'<html lang="he" dir="rtl"', page), path
        assert "rtl.css" in page


def test_the_style_sheet_knows_no_left_and_right():
    style = Path(finders.find("analytics_admin/console.css")).read_text()
    assert re.findall(r"\b(?:left|right)\b", style) == []


def test_numbers_are_written_as_the_language_writes_them(client):
    fill_the_cache()
    with override_settings(LANGUAGE_CODE="de"), translation.override("de"):
        page = client.get(url("searchcache/")).text
    assert "16.000" in page  # hits of the last hour's two minutes
    assert "88,9 %" in page


def test_counts_of_a_breaker_are_grouped_as_the_language_groups_them(client):
    breaker = another("busy", failure_threshold=1000)
    with patch.object(breaker.engine, "report_all", lambda timeout: True):  # once, not each time
        for _ in range(999):
            breaker.acquire().fail(None)
    breaker.acquire().fail(None)
    with override_settings(LANGUAGE_CODE="de"), translation.override("de"):
        page = client.get(url("circuitbreaker/busy/")).text
    assert "1.000 consecutive failures reached the threshold." in page
    assert "Counts at that time: 1.000 (failed: 1.000, slow: 0)." in page
    assert re.search(r"Calls: 1\.000 \(failed: 1\.000,", page)


def test_durations_are_written_as_the_language_writes_them():
    with translation.override("de"):
        assert [format_duration(ms) for ms in (0.4, 999, 1500, 3_600_000)] == [
            "0 ms",
            "999 ms",
            "1,5 s",
            "3.600,0 s",
        ]
