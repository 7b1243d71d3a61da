"""What a breaker's page tells of its past: why it opened, failures, five minutes, transitions."""

import os
import re
from html import unescape

import pytest

from analytics_admin import services
from analytics_admin.breakers import CircuitOpenError
from analytics_admin.console.breakers.detail import draw
from analytics_admin.console.breakers.labels import format_rule
from analytics_admin.console.labels import format_cause
from analytics_admin.services import Actor, set_breaker_control
from tests.support.breakers import another, snapshot_of, trip

BREAKERS = "/admin/analytics_admin/circuitbreaker/"
PAGE = f"{BREAKERS}seen:1/"
SHELL = Actor.system("root", channel="command")
RTL = "\u202egnp.exe \u2067\u200f"
HOSTILE = f"<script>alert(1)</script> & \"' {RTL}"


def cells(page, table):
    """Return the table's rows as the texts of their cells."""
    body = re.search(rf'id="{table}".*?<tbody>(.*?)</tbody>', page.text, re.DOTALL)[1]
    return [
        [
            " ".join(unescape(re.sub(r"<[^>]*>", " ", cell)).split())
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]


def part(page, marker):
    """Return the section of the page with this id, as plain text."""
    section = re.search(rf'<div class="module" id="{marker}">(.*?)</div>', page.text, re.DOTALL)
    return section and " ".join(unescape(re.sub(r"<[^>]*>", " ", section[1])).split())


def fail(*errors, name="seen:1", threshold=3):
    breaker = another(name, failure_threshold=threshold)
    for error in errors:
        breaker.acquire().fail(error)
    return breaker


def test_the_page_says_in_words_why_it_opened_with_counts_and_when(operator):
    fail(ValueError("one"), ValueError("two"), TimeoutError("three"))
    told = part(operator.get(PAGE), "aa-opened")
    assert told.startswith("Why it opened 3 consecutive failures reached the threshold.")
    assert "Counts at that time: 3 (failed: 3, slow: 0)." in told
    assert re.search(r"\d:\d\d UTC \( ?0\Wminutes ago ?\)", told)


def test_a_closed_breaker_says_nothing_of_having_opened(operator):
    fail(ValueError("one"))
    page = operator.get(PAGE)
    assert part(page, "aa-opened") is None
    assert len(cells(page, "aa-last-failures")) == 1


def test_the_last_failures_are_listed_with_class_text_host_and_process(operator):
    fail(ValueError("first"), ConnectionResetError(104, "reset by peer"), None)
    unsaid, reset, first = cells(operator.get(PAGE), "aa-last-failures")
    host = os.uname().nodename[:60]
    assert first[1:] == ["Error ValueError", "Text first", f"Host {host}", f"Process {os.getpid()}"]
    assert reset[1:3] == ["Error ConnectionResetError", "Text [Errno 104] reset by peer"]
    assert unsaid[1:3] == ["Error Result counted as a failure", "Text \u2013"]
    assert re.search(r"\d\d:\d\d:\d\d UTC$", first[0])


def test_the_class_of_a_failure_breaks_after_its_dots_and_stays_text(operator):
    odd = type("<i>", (Exception,), {"__module__": "shop.errors"})
    fail(odd())
    assert "<bdi>shop.<wbr>errors.<wbr>&lt;i&gt;</bdi>" in operator.get(PAGE).text


def test_the_last_five_minutes_are_told_in_numbers_for_everybody(operator):
    breaker = another("seen:1", failure_threshold=3)
    breaker.acquire().succeed()
    for _ in range(3):
        breaker.acquire().fail(ValueError("x"))
    for _ in range(2):
        with pytest.raises(CircuitOpenError):
            breaker.acquire()
    snapshot_of(breaker)
    page = operator.get(PAGE)
    assert "Calls: 4 (failed: 3, slow: 0). Rejected: 2." in part(page, "aa-history")
    rows = cells(page, "aa-history")
    assert len(rows) == 30
    sums = [sum(int(row[column].split()[1]) for row in rows) for column in range(1, 5)]
    assert sums == [4, 3, 0, 2]
    assert '<details id="aa-periods">' in page.text
    assert re.search(r'<svg class="aa-chart"[^>]* aria-hidden="true"', page.text)


def test_the_drawing_piles_failures_calls_and_rejections_and_is_empty_without_any():
    from datetime import UTC, datetime

    from analytics_admin.breakers.state import Counts
    from analytics_admin.services.breakers.types import BreakerPeriod

    at = datetime(2024, 5, 6, tzinfo=UTC)
    busy = BreakerPeriod(at=at, counts=Counts(calls=3, failures=1, slow=0), rejected=1)
    calm = BreakerPeriod(at=at, counts=Counts(), rejected=0)
    drawing = draw([calm, busy])
    assert [(bar["kind"], bar["x"], bar["y"], bar["height"]) for bar in drawing["bars"]] == [
        ("failures", 8, "30.00", "10.00"),
        ("successes", 8, "10.00", "20.00"),
        ("rejected", 8, "0.00", "10.00"),
    ]
    assert draw([calm, calm])["bars"] == []
    assert draw([])["bars"] == []


@pytest.mark.parametrize("language", ["en", "de"])
def test_figures_in_the_drawing_are_those_of_no_language(operator, language):
    fail(*[ValueError("x")] * 3, threshold=9999)
    page = operator.get(PAGE, headers={"Accept-Language": language}).text
    drawn = re.findall(r'<rect class="aa-bar-(\w+)" x="(\d+)" y="(\d+\.\d\d)"', page)
    assert [kind for kind, *_ in drawn] == ["failures"]


def test_transitions_are_told_with_their_causes_in_words(operator):
    trip("seen:1")
    set_breaker_control(name="seen:1", control="disabled", actor=SHELL)
    set_breaker_control(name="seen:1", control="automatic", actor=SHELL)
    services.reset_circuit_breakers(names=["seen:1"], actor=SHELL)
    told = [row[1] for row in cells(operator.get(PAGE), "aa-timeline")]
    assert told[-1] == "Event Consecutive failures"
    assert told[1:3] == ["Event Released", "Event Held"]


def test_every_cause_of_the_engine_has_words_and_another_one_keeps_its_name():
    from analytics_admin.breakers import state_machine

    causes = {
        state_machine.CONSECUTIVE_FAILURES,
        state_machine.FAILURE_RATE,
        state_machine.SLOW_CALL_RATE,
        state_machine.WAIT_OVER,
        state_machine.PROBE_FAILED,
        state_machine.PROBES_SUCCEEDED,
        state_machine.RESET,
        state_machine.CONTROL,
        state_machine.HOLD_OVER,
    }
    assert not [cause for cause in causes if "_" in format_cause(cause)]
    assert len({format_cause(cause) for cause in causes}) == len(causes)
    assert format_cause("sunspots") == format_rule("sunspots", 1) == "sunspots"
    assert format_rule(state_machine.CONSECUTIVE_FAILURES, 1).startswith("1 consecutive failure")


def test_under_metrics_only_the_page_says_why_it_would_have_opened(operator):
    trip("seen:1")
    set_breaker_control(name="seen:1", control="metrics_only", actor=SHELL)
    assert part(operator.get(PAGE), "aa-opened") is None
    fail(OSError("still"), OSError("down"), threshold=2)
    page = operator.get(PAGE)
    told = part(page, "aa-opened")
    assert "Why it would have opened 2 consecutive failures reached the threshold." in told
    assert "Metrics only: calls still pass" in told
    assert "Would have opened" in cells(page, "aa-timeline")[0][3]


def test_the_page_says_when_the_breaker_was_last_used(operator, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "BREAKERS": {"seen:unused": {}}}
    fact = r'<dd id="aa-last-used">(.*?)</dd>'
    unused = operator.get(f"{BREAKERS}seen:unused/").text
    assert re.search(fact, unused)[1] == "Never"
    trip("seen:1")
    assert "minutes ago" in re.search(fact, operator.get(PAGE).text)[1]


@pytest.mark.parametrize(
    "error",
    [
        ValueError(HOSTILE),
        type(HOSTILE, (Exception,), {})("text"),
        type("X" * 300, (Exception,), {})("y" * 300),
        ValueError("\x00\x07\ud800"),
    ],
    ids=["text", "class", "long", "control characters"],
)
def test_foreign_texts_are_shown_as_text_and_kept_apart_from_their_surroundings(operator, error):
    fail(error, threshold=1)
    page = operator.get(PAGE)
    assert page.status_code == 200
    main = page.text.partition('id="content-main"')[2]
    assert "<script" not in main
    (row,) = re.findall(r'id="aa-last-failures".*?<tbody>(.*?)</tbody>', main, re.DOTALL)
    outside = re.sub(r"<bdi>[^<]*</bdi>", "", row.replace(".<wbr>", "."))
    assert not re.search("alert|\u202e|\u2067|XXX|yyy", outside)
    assert len(re.findall("<bdi>", row)) == 3


def test_a_hostile_reason_and_actor_are_kept_apart_too(operator):
    actor = Actor.system(HOSTILE, channel="command")
    set_breaker_control(name=trip("seen:1").name, control="disabled", actor=actor, reason=HOSTILE)
    for url in (PAGE, BREAKERS):
        main = operator.get(url).text.partition('id="content-main"')[2]
        assert "<script" not in main
        outside = re.sub(r"<bdi>[^<]*</bdi>", "", main)
        assert not re.search("alert|\u202e|\u2067", outside)


def test_the_page_needs_no_inline_code(operator):
    fail(*[ValueError("x")] * 3)
    main = operator.get(PAGE).text.partition('id="content-main"')[2]
    assert not re.search(r"<script|<style|style=|\son[a-z]+=", main)
