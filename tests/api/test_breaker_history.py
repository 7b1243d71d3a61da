"""GET of one circuit breaker: its history, the shapes of it, and its bounds."""

import math
import os
import re
import socket
from datetime import UTC, datetime

import pytest

from analytics_admin.breakers import circuit_breaker
from analytics_admin.services import Actor, reset_circuit_breakers, set_breaker_control
from tests.support.breakers import another, snapshot_of, trip

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("superuser")]

SHELL = Actor.system("root", channel="command")
HOSTILE = '<script>alert("x")</script>\x1b[31m\r\n {{ 7*7 }} [red] \u202e'
TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
NOTHING = {"calls": 0, "failures": 0, "slow": 0}


@pytest.fixture
def read(client, mint):
    def read(name):
        path = f"/api/v1/analytics/circuit-breakers/{name}"
        answer = client.get(path, headers={"Authorization": f"Bearer {mint()}"})
        assert answer.status_code == 200
        return answer.json()

    return read


def is_recent(text):
    assert TIME.fullmatch(text)
    return abs((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()) < 60


def test_an_open_one_says_why_and_by_which_failures(read):
    breaker = another("seen.one", failure_threshold=2)
    breaker.acquire().succeed()
    breaker.acquire().fail(ConnectionError("first"))
    breaker.acquire().fail()
    snapshot_of(breaker)
    answer = read("seen.one")
    opened = answer["opened"]
    assert is_recent(opened.pop("at"))
    assert opened == {
        "from_state": "closed",
        "to_state": "open",
        "cause": "consecutive_failures",
        "actor": "",
        "consecutive_failures": 2,
        "counts": {"calls": 3, "failures": 2, "slow": 0},
    }
    newest, older = answer["failures"]
    place = {"host": socket.gethostname()[:60], "pid": os.getpid()}
    assert is_recent(newest.pop("at"))
    assert is_recent(older.pop("at"))
    assert newest == {"error": "", "message": "", **place}
    assert older == {"error": "ConnectionError", "message": "first", **place}
    assert is_recent(answer["last_used"])
    assert answer["would_open"] is False


def test_its_history_is_thirty_periods_of_ten_seconds_without_gaps(read):
    breaker = trip("seen.one")
    snapshot_of(breaker)
    history = read("seen.one")["history"]
    assert len(history) == 30
    assert all(set(period) == {"at", "counts", "rejected"} for period in history)
    starts = [datetime.fromisoformat(period["at"]) for period in history]
    assert [int(start.timestamp()) % 10 for start in starts] == [0] * 30
    assert (starts[-1] - starts[0]).total_seconds() == 290
    assert sum(period["counts"]["failures"] for period in history) == 1
    assert history[0] == {"at": history[0]["at"], "counts": NOTHING, "rejected": 0}


def test_one_that_nobody_has_used_has_nothing_to_tell(read):
    circuit_breaker("seen.unused")
    answer = read("seen.unused")
    nothing = {"opened": None, "last_used": None, "since": None, "failures": [], "transitions": []}
    assert {key: answer[key] for key in nothing} == nothing
    assert {period["rejected"] for period in answer["history"]} == {0}


def test_what_opened_it_is_told_no_more_once_it_is_closed(read):
    trip("seen.one")
    reset_circuit_breakers(names=["seen.one"], actor=SHELL)
    answer = read("seen.one")
    assert answer["opened"] is None
    assert [move["cause"] for move in answer["transitions"]] == ["reset", "consecutive_failures"]
    assert len(answer["failures"]) == 1  # it is evidence still


def test_under_metrics_only_it_says_what_it_would_have_done(read):
    breaker = another("seen.dry", failure_threshold=2)
    breaker.acquire().succeed()
    set_breaker_control(name="seen.dry", control="metrics_only", actor=SHELL, for_seconds=math.inf)
    snapshot_of(breaker)
    breaker.acquire().fail(OSError("gone"))
    assert (read("seen.dry")["would_open"], read("seen.dry")["opened"]) == (False, None)
    breaker.acquire().fail(OSError("gone"))
    answer = read("seen.dry")
    assert (answer["state"], answer["would_open"]) == ("metrics_only", True)
    assert (answer["retry_after"], answer["held_until"]) == (None, None)
    assert answer["opened"]["to_state"] == "would_open"
    assert answer["opened"]["cause"] == "consecutive_failures"
    assert answer["opened"]["consecutive_failures"] == 2


def test_texts_of_exceptions_are_left_out_where_the_site_does_not_keep_them(read, settings):
    settings.ANALYTICS_ADMIN = {"KEEP_EXCEPTION_TEXTS": False}
    another("seen.quiet").acquire().fail(ValueError("card 4111 1111 1111 1111"))
    (failure,) = read("seen.quiet")["failures"]
    assert (failure["error"], failure["message"]) == ("ValueError", "")


def test_foreign_words_come_back_as_they_were_said(read, client, mint):
    another("seen.one").acquire().fail(ValueError(HOSTILE))
    (failure,) = read("seen.one")["failures"]
    assert failure["message"] == HOSTILE


def test_it_stays_small_whatever_happens(client, mint, read):
    """Twenty moves, ten failures with long foreign texts, a hold with the longest reason."""
    actor = Actor.system("\U0001f525" * 254)
    breaker = another("s" * 100, failure_threshold=1)
    long = type("L" * 500, (Exception,), {})
    for _ in range(11):
        breaker.acquire().fail(long("\U0001f525" * 1000))
        control = {"control": "disabled", "reason": "\U0001f525" * 500}
        set_breaker_control(name="s" * 100, actor=actor, **control)
        set_breaker_control(name="s" * 100, actor=actor, control="automatic")
        snapshot_of(breaker)
    answer = read("s" * 100)
    assert (len(answer["failures"]), len(answer["transitions"])) == (10, 20)
    path = f"/api/v1/analytics/circuit-breakers/{'s' * 100}"
    body = client.get(path, headers={"Authorization": f"Bearer {mint()}"}).content
    assert len(body) < 32_000
