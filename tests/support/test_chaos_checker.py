"""The checker of chaos finds each broken promise, and nothing in a run that keeps all."""

from typing import Any

import pytest

from tests.support.chaos.checker import Promises, check
from tests.support.chaos.events import (
    DATABASE,
    STORE,
    TWO_PRIMARIES,
    Away,
    Begun,
    Call,
    Calm,
    Disturbance,
    Fault,
    Life,
    Receipt,
    Row,
    Search,
    Seen,
    Told,
)
from tests.support.chaos.plan import SHARED, draw
from tests.support.history.events import REJECTED, SUCCESS

NAME, GENERATION = "alpha", "aa:1:bb"
CALM = Calm(began=100.0, ended=110.0)
FOR_EVER = Life(process="one", began=0.0, ended=200.0)
HOLD = {"name": NAME, "control": "forced_open"}


def broken(*events: Any) -> list[str]:
    """Return the rules that are broken, each once."""
    verdict = check(events, Promises())
    return sorted({violation.rule for violation in verdict.violations})


def call(at: float, outcome: str = SUCCESS, **more: Any) -> Call:
    more = {"name": NAME, "generation": GENERATION, **more}
    return Call(process="one", thread=0, began=at, ended=at + 0.01, outcome=outcome, **more)


def seen(at: float, **more: Any) -> Seen:
    values = {"state": "closed", "control": "automatic", "calls": 0, "failures": 0, "permits": 0}
    values |= {"name": NAME, "generation": GENERATION, **more}
    return Seen(began=at, ended=at + 0.01, **values)


def search(at: float, as_of: float, state: str = "hit", **more: Any) -> Search:
    values = {"process": "one", "key": "k", "tags": ("red",), **more}
    return Search(began=at, ended=at + 0.01, state=state, as_of=as_of, **values)


def act(
    kind: str,
    at: float,
    *,
    id: str = "act",
    told: str | None = "done",
    row: str | None = "done",
    warnings: tuple[str, ...] = (),
    reached: tuple[str, ...] = (),
    **targets: Any,
) -> list[Any]:
    """Return an act of 100 ms, with its row of this status."""
    events: list[Any] = [Begun(act=id, kind=kind, at=at, targets=targets)]
    if told is not None:
        events.append(Told(act=id, at=at + 0.1, outcome=told, warnings=warnings))
    if row is not None:
        events.append(
            Row(id=f"id-{id}", actor="root", reason=id, kind=kind, status=row, reached=reached)
        )
    return events


def trouble(began: float, ended: float, process: str = STORE, **more: Any) -> Disturbance:
    return Disturbance(process=process, began=began, ended=ended, **{"what": "trouble", **more})


def healed(*more: Any, obeys: bool = True) -> list[Any]:
    """Return a calm in which the process shares everything."""
    hold = act("hold", 102.0, id="hold", name=SHARED, control="forced_open")
    release = act("release", 104.0, id="release", name=SHARED)
    outcome = REJECTED if obeys else SUCCESS
    return [
        *(FOR_EVER, CALM, *hold, *release),
        *(call(at, outcome, name=SHARED) for at in (103.0, 103.5)),
        *(search(at, at) for at in (103.0, 105.0)),
        *more,
    ]


def test_nothing_is_found_where_all_promises_are_kept() -> None:
    run = [
        *healed(),
        *(call(at) for at in (1.0, 2.0)),
        seen(3.0, calls=2),
        *act("hold", 4.0, **HOLD),
        seen(4.5, control="forced_open", reason="act"),
        *act("release", 5.0, id="free", name=NAME),
        *act("clear", 6.0, id="clear"),
        search(7.0, 6.5),
        seen(101.0),
    ]
    verdict = check(run, Promises())
    assert verdict.violations == []
    assert {"counts", "done acts", "last acts", "heals", "acts"} <= set(verdict.checked)


def test_an_exception_that_no_backend_raised_is_found() -> None:
    assert broken(Fault(process="one", at=1.0, what="KeyError()")) == ["nothing is raised"]


@pytest.mark.parametrize("what", ["calls", "failures"])
def test_a_count_of_more_than_was_sent_is_found(what: str) -> None:
    rule = "nothing is counted that was not sent"
    assert broken(call(1.0), seen(2.0, **{what: 1 if what == "failures" else 2})) == [rule]
    assert broken(call(1.0), seen(2.0, calls=1)) == []
    # What was sent later, or under another generation, is none of it; but for an emptied store.
    assert broken(call(3.0), seen(2.0, calls=1)) == [rule]
    other = call(1.0, generation="cc:1:dd")
    assert broken(other, seen(2.0, calls=1)) == [rule]
    assert broken(other, seen(2.0, calls=1), trouble(1.5, 1.6, loses_data=True)) == []


def test_too_many_probes_are_found() -> None:
    probes = [call(at, is_probe=True) for at in (1.0, 1.1, 1.2)]
    assert broken(*probes[:2]) == []
    assert broken(*probes) == ["probes are few"]
    assert broken(*probes, trouble(1.05, 1.06, loses_data=True)) == []
    alone = [call(at, is_probe=True, had_store=False) for at in (1.0, 1.1, 1.2)]
    assert broken(*alone) == []


def test_an_act_without_its_row_or_with_two_is_found() -> None:
    rule = "each act has one row"
    hold = act("hold", 1.0, **HOLD)
    assert broken(*act("hold", 1.0, row=None, **HOLD)) == [rule]
    assert broken(*hold, hold[-1]) == [rule]
    assert broken(*act("probe", 1.0, told="breaker_not_open", row=None, name=NAME)) == []
    assert broken(*act("clear", 1.0, told="audit_unavailable", row=None)) == []
    assert broken(*act("clear", 1.0, told=None, row=None)) == []  # its process was killed
    begun, _, row = act("clear", 1.0)
    told = Told(act="act", at=1.1, outcome="done", operation_id="another")
    assert broken(begun, told, row) == [rule]


@pytest.mark.parametrize(
    ("told", "row"),
    [
        ("done", "failed"),
        ("done", "unknown"),
        ("done", "started"),
        ("store_unavailable", "done"),
        ("store_unavailable", "unknown"),
        ("outcome_unknown", "failed"),
        ("audit_unavailable", "done"),
    ],
)
def test_a_row_that_says_other_than_the_operator_was_told_is_found(told: str, row: str) -> None:
    assert broken(*act("clear", 1.0, told=told, row=row)) == ["rows are true"]


def test_a_row_may_stay_open_while_the_database_is_away() -> None:
    away = trouble(0.5, 1.05, process=DATABASE)
    assert broken(*act("clear", 1.0, row="started"), away) == []
    assert broken(*act("clear", 1.0, told="audit_unavailable", row="started")) == []


def test_a_failed_act_that_is_in_the_store_is_found() -> None:
    clear = act("clear", 1.0, told="store_unavailable", row="failed")
    receipt = Receipt(began=2.0, ended=2.1, operation_id="id-act")
    assert broken(*clear) == []
    assert broken(*clear, receipt) == ["rows are true"]
    hold = seen(2.0, control="forced_open", reason="act")
    failed = {"told": "store_unavailable", "row": "failed"}
    assert broken(*act("hold", 1.0, **failed, **HOLD), hold) == ["rows are true"]
    assert broken(*act("hold", 1.0, **failed, reached=(NAME,), **HOLD), hold) == []


def test_a_done_act_that_is_not_in_the_store_is_found() -> None:
    assert broken(*act("hold", 1.0, **HOLD), seen(1.5)) == ["rows are true"]
    held = seen(1.5, control="forced_open")
    assert broken(*act("release", 1.0, name=NAME), held) == ["rows are true"]
    assert broken(*act("reset", 1.0, name=NAME), held) == ["rows are true"]
    # After another act, a loss, or its own end it may be gone.
    release = act("release", 1.2, id="other", told=None, name=NAME)
    assert broken(*act("hold", 1.0, **HOLD), *release, seen(1.5)) == []
    lost = trouble(1.2, 1.3, loses_data=True)
    assert broken(*act("hold", 1.0, **HOLD), lost, seen(1.5)) == []
    assert broken(*act("hold", 1.0, for_seconds=0.3, **HOLD), seen(1.5)) == []


def test_an_act_that_is_lost_for_good_is_found() -> None:
    lost = trouble(1.2, 1.3, loses_data=True)
    run = [*healed(), lost, seen(105.0)]
    rule = "an acknowledged act lasts"
    assert broken(*run, *act("hold", 1.0, **HOLD)) == [rule]
    assert broken(*run, *act("hold", 1.0, warnings=("Not yet on 1 replica",), **HOLD)) == []
    assert broken(*run, *act("hold", 1.0, row="started", **HOLD), _database_away(1.0)) == []
    unknown = act("release", 2.0, id="other", told=None, name=NAME)
    assert broken(*run, *act("hold", 1.0, **HOLD), *unknown) == []


def _database_away(at: float) -> Disturbance:
    return trouble(at, at + 0.1, process=DATABASE)


@pytest.mark.parametrize(
    "targets", [{}, {"mode": "soft"}, {"tags": ["red"]}, {"keys": ["k"]}], ids=str
)
def test_a_value_of_before_an_acknowledged_clear_is_found(targets: dict[str, Any]) -> None:
    rule = "nothing outdated is served"
    clear = act("clear", 2.0, **targets)
    assert broken(*clear, search(2.2, 1.0)) == [rule]
    assert broken(*clear, search(2.2, 1.0, "bypass")) == [rule]
    assert broken(*clear, search(9.0, 1.0, "stale")) == [rule]
    # It had begun before, or the value is of a later time.
    assert broken(*clear, search(2.05, 1.0)) == []
    assert broken(*clear, search(2.2, 2.05)) == []
    assert broken(*clear, search(2.15, 1.0, near=0.1)) == []
    assert broken(*clear, search(2.25, 1.0, near=0.1)) == [rule]


def test_a_clear_ends_only_what_it_names_and_only_if_it_was_acknowledged() -> None:
    assert broken(*act("clear", 2.0, tags=["green"]), search(2.2, 1.0)) == []
    assert broken(*act("clear", 2.0, keys=["other"]), search(2.2, 1.0)) == []
    failed = act("clear", 2.0, told="store_unavailable", row="failed")
    assert broken(*failed, search(2.2, 1.0)) == []
    assert broken(*act("clear", 2.0, warnings=("Not yet",)), search(2.2, 1.0)) == []


def test_a_soft_clear_lets_stale_values_be_served_for_its_time_and_ends_with_its_undo() -> None:
    clear = act("clear", 2.0, mode="soft")
    assert broken(*clear, search(2.2, 1.0, "stale")) == []
    undo = act("undo", 3.0, id="undo", told=None)
    assert broken(*clear, *undo, search(9.0, 1.0)) == []


def test_a_process_has_a_moment_to_leave_an_old_primary() -> None:
    two = trouble(1.5, 12.0, what=TWO_PRIMARIES)
    clear = act("clear", 2.0)
    assert broken(*clear, two, search(2.5, 1.0)) == []
    assert broken(*clear, two, search(6.5, 1.0)) == ["nothing outdated is served"]
    held_up = trouble(4.0, 6.0, process="one", what="held up")
    assert broken(*clear, two, held_up, search(6.5, 1.0)) == []


def test_what_does_not_heal_by_itself_is_found() -> None:
    rule = "all heals by itself"
    assert broken(*healed()) == []
    assert broken(*healed(Away(process="one", began=90.0, ended=101.0))) == []
    assert broken(*healed(Away(process="one", began=90.0, ended=103.0))) == [rule]
    assert broken(*healed(search(101.0, 101.0, "bypass"))) == []
    assert broken(*healed(search(103.0, 103.0, "bypass"))) == [rule]
    assert broken(*healed(obeys=False)) == [rule]
    without_hold = [event for event in healed() if not isinstance(event, Told)]
    assert broken(*without_hold) == [rule]
    silent = [it for it in healed(search(50.0, 50.0)) if getattr(it, "began", 0) not in (103, 105)]
    assert broken(*silent) == [rule]


def test_a_seed_draws_the_same_plan_again() -> None:
    assert draw(7, 100) == draw(7, 100)
    assert draw(7, 100) != draw(8, 100)
    assert len(draw(7, 100).rounds) == 3
