"""What the processes of a fleet do while their history is written: calls, and operators' acts."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.test.utils import override_settings

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError, circuit_breaker, control
from analytics_admin.breakers.permit import Permit, is_probe
from analytics_admin.breakers.runtime import engine
from analytics_admin.breakers.state import Control
from analytics_admin.i18n import OperatorError
from analytics_admin.signals import breaker_state_changed
from tests.support.crew import sleep_until
from tests.support.history.checker import Promises
from tests.support.history.events import (
    FAILURE,
    REJECTED,
    SUCCESS,
    Away,
    Call,
    Disturbance,
    HistoryFile,
    LocalTransition,
    Operation,
    Reported,
)
from tests.support.history.plan import NAMES, Act, Plan

POLICY: dict[str, Any] = {
    "failure_threshold": 5,
    "wait_duration_in_open_state": 1.0,
    "permitted_number_of_calls_in_half_open_state": 3,
}
PROMISES = Promises(threshold=5, wait=1.0, permitted=3)
RETRY = 0.5
"""STORE_RETRY_INTERVAL, in seconds."""
CALLERS = 3
PAUSE = 0.03
"""Mean seconds between two calls of a caller."""
BEAT = 0.005
LATE = 0.025
"""A heart that beats so late was held up."""

_ended = threading.Event()
_threads: list[threading.Thread] = []


def begin_calls(folder: Path, process: str, plan: Plan, began: float) -> None:
    """Call all breakers from several threads until ``end``."""
    history = _begin(folder, process)
    breakers = [circuit_breaker(name, **POLICY) for name in NAMES]
    for number in range(CALLERS):
        _start(_Caller(history, process, number, plan, began).call_on, breakers)


def begin_operations(folder: Path, process: str, plan: Plan, began: float) -> None:
    """Do what operators do, two of them at once."""
    history = _begin(folder, process)
    for name in NAMES:
        circuit_breaker(name, **POLICY)
    for number in range(2):
        _start(_operate, history, plan.acts[number::2], began)


def end() -> None:
    """Stop, and report everything."""
    _ended.set()
    for thread in _threads:
        thread.join()
    engine.report_all(10)


def _begin(folder: Path, process: str) -> HistoryFile:
    override_settings(ANALYTICS_ADMIN={"STORE_RETRY_INTERVAL": RETRY}).enable()
    history = HistoryFile(folder / f"{process}.jsonl")

    def note(name: str, from_state: str, to_state: str, cause: str, **_: object) -> None:
        if cause == "local":
            at = time.monotonic()
            history.write(
                LocalTransition(
                    process=process, name=name, from_state=from_state, to_state=to_state, at=at
                )
            )

    breaker_state_changed.connect(note, weak=False)
    _start(_watch, history, process)
    return history


def _start(function: Callable[..., None], *arguments: Any) -> None:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    _threads.append(thread)
    thread.start()


def _watch(history: HistoryFile, process: str) -> None:
    """Write down when the process is held up, and while it is without the store."""
    last, away_since = time.monotonic(), None
    while not _ended.wait(BEAT):
        now = time.monotonic()
        if now - last > LATE:
            history.write(Disturbance(process=process, began=last, ended=now, what="held up"))
        if _has_store():
            if away_since is not None:
                history.write(Away(process=process, began=away_since, ended=now))
            away_since = None
        elif away_since is None:
            away_since = last
        last = now
    if away_since is not None:
        history.write(Away(process=process, began=away_since, ended=last))


def _has_store() -> bool:
    return engine.outage.stand_in is None


class _Caller:
    """One thread that calls breakers at random."""

    def __init__(
        self, history: HistoryFile, process: str, number: int, plan: Plan, began: float
    ) -> None:
        self._history, self._process, self._number = history, process, number
        self._plan, self._began = plan, began
        self._luck = random.Random(f"{plan.seed} {process} {number}")

    def call_on(self, breakers: Sequence[CircuitBreaker]) -> None:
        while not _ended.wait(self._luck.expovariate(1 / PAUSE)):
            self._call(self._luck.choice(breakers))

    def _call(self, breaker: CircuitBreaker) -> None:
        had_store, began = _has_store(), time.monotonic()
        try:
            permit = breaker.acquire()
        except CircuitOpenError:
            self._note(breaker, began, REJECTED, had_store=had_store)
            return
        admitted = permit._admitted
        assert admitted is not None
        time.sleep(self._luck.uniform(0.0, 0.004))
        part = self._plan.failing(breaker.name, time.monotonic() - self._began)
        outcome = FAILURE if self._luck.random() < part else SUCCESS
        self._note(
            breaker,
            began,
            outcome,
            had_store=had_store,
            generation=admitted.generation,
            is_probe=is_probe(admitted),
        )
        self._report(permit, outcome)

    def _report(self, permit: Permit, outcome: str) -> None:
        if outcome == FAILURE:
            permit.fail(ConnectionError())
        else:
            permit.succeed()
        self._history.write(
            Reported(process=self._process, thread=self._number, at=time.monotonic())
        )

    def _note(
        self, breaker: CircuitBreaker, began: float, outcome: str, *, had_store: bool, **more: Any
    ) -> None:
        self._history.write(
            Call(
                process=self._process,
                thread=self._number,
                name=breaker.name,
                began=began,
                ended=time.monotonic(),
                outcome=outcome,
                had_store=had_store and _has_store(),
                **more,
            )
        )


def _operate(history: HistoryFile, acts: Sequence[Act], began: float) -> None:
    for act in acts:
        sleep_until(began + act.at)
        if _ended.is_set():
            return
        _act(history, act)


def _act(history: HistoryFile, act: Act) -> None:
    names = [act.name] if act.name else list(NAMES)
    began, outcome = time.monotonic(), "done"
    replaced: dict[str, str] = {}
    try:
        replaced = {change.name: change.generation for change in _change(act)}
    except OperatorError as error:
        outcome = error.code
    ended = time.monotonic()
    for name in names:
        history.write(
            Operation(
                kind=act.kind,
                name=name,
                began=began,
                ended=ended,
                # Of all breakers, one may not be listed yet.
                outcome=outcome if outcome != "done" or name in replaced else "not listed",
                seconds=act.seconds,
                replaced=replaced.get(name, ""),
            )
        )


def _change(act: Act) -> Sequence[control.BreakerChange]:
    if act.kind == "reset":
        return control.reset([act.name] if act.name else None, only_open=False)
    hold = Control.AUTOMATIC if act.kind == "release" else Control(act.kind)
    return control.set_control(
        [act.name or ""], hold, for_seconds=act.seconds, actor="a test", reason=""
    )
