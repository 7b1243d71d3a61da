"""The breakers' store in the memory of one process: for tests, first steps and Redis outages."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from analytics_admin.breakers.history import MAX_HISTORY_NAME_CHARS, HistoryBuffer, TransitionRecord
from analytics_admin.breakers.policy import Window
from analytics_admin.breakers.presence import GONE_SECONDS, Process, Told
from analytics_admin.breakers.state import Control, Results, Snapshot, State
from analytics_admin.breakers.state_machine import (
    control_in_force,
    count_run,
    display_state,
    first_generation,
)
from analytics_admin.breakers.stores.base import (
    MAX_NAMES,
    Channel,
    Inspection,
    Move,
    MoveOutcome,
    Reading,
    Report,
    Survey,
    is_in_use,
)
from analytics_admin.breakers.stores.totals import BreakerTotals, Totals, TotalsReading
from analytics_admin.breakers.windows import WindowCounts
from analytics_admin.stores.threads import allocate_rlock


class MemoryStore:
    """The BreakerStore protocol within one process; counts are exact under threads."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = allocate_rlock()  # a signal handler may come in its middle
        self._records: dict[str, Snapshot] = {}
        self._windows: dict[tuple[str, Window], tuple[str, WindowCounts]] = {}
        self._histories: defaultdict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._seen: dict[str, float] = {}
        self._processes: dict[str, Process] = {}
        self._totals: dict[str, Totals] = {}
        self.is_shared = True
        self.asks_processes = False
        self.connecting_since: float | None = None
        self._find: Callable[[str], Snapshot | None] = lambda name: None
        self._found: set[str] = set()
        self._sequence = 0

    @classmethod
    def standing_in(
        cls, find: Callable[[str], Snapshot | None], clock: Callable[[], float]
    ) -> "MemoryStore":
        """Return a store whose records begin as ``find`` returns them, with their generations.

        New generations are random, so that none equals one that the shared store makes meanwhile.
        """
        store = cls(clock)
        store._find = find
        store.is_shared = False
        return store

    def after_fork(self) -> None:
        """Start as a child, whose parent may have held the lock, and has the permits."""
        self._lock = allocate_rlock()
        self._processes = {}
        for name, record in self._records.items():
            if record.state is State.HALF_OPEN and record.hold is None:
                permits = min(record.permits, record.counts.calls)
                self._records[name] = replace(record, permits=permits)

    def add(self, reports: Sequence[Report]) -> Reading:
        with self._lock:
            now = self._clock()
            self._begin_with([report.name for report in reports])
            snapshots = {report.name: self._add(report, now) for report in reports}
            slowest = max([it.answered_in for it in self._present(now)], default=0.0)
            return Reading(
                now=now,
                snapshots=snapshots,
                sequence=self._sequence,
                slowest_answer=slowest,
            )

    def load_many(self, names: Sequence[str], *, activity_of: Sequence[str] = ()) -> Reading:
        with self._lock:
            return self._read(names, activity_of, self._clock())

    def read_transitions(self, names: Sequence[str]) -> Reading:
        with self._lock:
            reading = self._read(names, (), self._clock())
            transitions = {name: list(self._history_of(name).transitions) for name in names}
            return replace(reading, transitions=transitions)

    def compare_and_set(self, moves: Sequence[Move]) -> list[MoveOutcome]:
        with self._lock:
            return [self._move(move) for move in moves]

    def register(self, names: Sequence[str], *, keep_for: float | None) -> list[str]:
        with self._lock:
            now = self._clock()
            for name in set(self._seen) - self._names_in_use(keep_for, now):
                self._forget(name)
            refused = []
            for name in names:
                if name in self._seen or len(self._seen) < MAX_NAMES:
                    self._seen[name] = now
                else:
                    refused.append(name)
            return refused

    def survey(
        self,
        names: Sequence[str],
        *,
        keep_for: float | None,
        activity_of: Sequence[str] | None = None,
        all_up_to: int = 0,
        with_processes: bool = False,
    ) -> Survey:
        with self._lock:
            now = self._clock()
            in_use = self._names_in_use(keep_for, now)
            active: Sequence[str] = activity_of or ()
            if len(in_use) <= all_up_to:
                names = [*names, *in_use]
                active = () if activity_of is None else names
            return Survey(
                names=frozenset(in_use),
                not_closed={
                    name: display_state(self._records[name], now) for name in self._not_closed()
                },
                reading=self._read(names, active, now),
                processes=self._present(now) if with_processes else (),
            )

    def read_totals(
        self,
        names: Iterable[str],
        *,
        keep_for: float | None,
        most: int,
        beside: Sequence[Sequence[Any]] = (),
    ) -> TotalsReading:
        with self._lock:
            now = self._clock()
            in_use = sorted(self._names_in_use(keep_for, now))
            return TotalsReading(
                breakers={name: self._totals_of(name, now) for name in in_use[:most]},
                left_out=max(0, len(in_use) - most),
                processes=self._present(now),
                now=now,
                seconds=0.0,
                beside=(),
            )

    def _totals_of(self, name: str, now: float) -> BreakerTotals:
        record = self._records.get(name)
        if record is None:
            return BreakerTotals(State.CLOSED.value, None, None)
        totals = self._totals.get(name, Totals())
        is_held = control_in_force(record, now) is not Control.AUTOMATIC
        until = record.hold.until if record.hold and is_held else None
        return BreakerTotals(
            state=display_state(record, now),
            held_until=float("inf") if is_held and until is None else until,
            totals=totals.counted(record.counts),
        )

    def not_closed(self) -> set[str]:
        with self._lock:
            return self._not_closed()

    def inspect(self, name: str, window: Window | None = None) -> Inspection:
        with self._lock:
            now, record = self._clock(), self._records.get(name)
            windows = {stored for owner, stored in self._windows if owner == name} | {window}
            return Inspection(
                now=now,
                snapshot=record,
                seen_at=self._seen.get(name),
                history=self._history_of(name).history(now),
                windows={
                    window: self._window(name, window, record).counts(now)
                    for window in windows
                    if window is not None and record is not None
                },
            )

    def transitions(self, name: str) -> list[TransitionRecord]:
        with self._lock:
            return list(self._history_of(name).transitions)

    def forget(self, name: str, *, generation: str) -> bool:
        with self._lock:
            record = self._records.get(name)
            if generation != (record.generation if record else ""):
                return False
            self._forget(name)
            self._sequence += 1
            return True

    def present(self, process: Process) -> Told:
        with self._lock:
            now = self._clock()
            told = replace(process, seen_at=now, since=process.since or now)
            self._processes[process.process_id] = told
            self._processes = {it.process_id: it for it in self._present(now)}
            return Told(now, self._sequence, is_new_server=False)

    def settle_server(self) -> None:
        return None

    def processes(self) -> tuple[float, int, list[Process]]:
        with self._lock:
            now = self._clock()
            return now, self._sequence, self._present(now)

    def withdraw(self, process_id: str) -> None:
        with self._lock:
            self._processes.pop(process_id, None)

    def repair(self) -> None:
        return None

    def channel(self) -> Channel | None:
        return None

    def connect(self) -> None:
        return None

    def renew(self) -> None:
        return None

    def check_writable(self) -> None:
        return None

    def await_copies(self) -> None:
        return None

    def within(self, seconds: float) -> AbstractContextManager[None]:
        return nullcontext()

    def ping(self) -> bool:
        return True

    def _begin_with(self, names: Iterable[str]) -> None:
        """Have a stand-in find the records that it does not have yet."""
        if self.is_shared:
            return
        for name in names:
            if name not in self._found:
                self._found.add(name)
                if (snapshot := self._find(name)) is not None:
                    self._records[name] = snapshot
                    self._seen[name] = self._clock()

    def _read(self, names: Sequence[str], activity_of: Sequence[str], now: float) -> Reading:
        return Reading(
            now=now,
            snapshots={name: self._records.get(name) for name in names},
            activity={name: self._history_of(name).activity(now) for name in activity_of},
            sequence=self._sequence,
        )

    def _present(self, now: float) -> list[Process]:
        known = list(self._processes.values())
        return [process for process in known if abs(now - process.seen_at) < GONE_SECONDS]

    def _history_of(self, name: str) -> HistoryBuffer:
        return self._histories[name] if name in self._histories else HistoryBuffer()

    def _names_in_use(self, keep_for: float | None, now: float) -> set[str]:
        """Return the names used in the last ``keep_for`` seconds, and those that are held."""
        return {
            name
            for name, seen_at in self._seen.items()
            if is_in_use(self._records.get(name), seen_at, now=now, keep_for=keep_for)
        }

    def _not_closed(self) -> set[str]:
        return {name for name, snapshot in self._records.items() if not snapshot.is_plain}

    def _forget(self, name: str) -> None:
        self._seen.pop(name, None)
        self._records.pop(name, None)
        self._histories.pop(name, None)
        self._totals.pop(name, None)
        for key in [key for key in self._windows if key[0] == name]:
            del self._windows[key]

    def _add(self, report: Report, now: float) -> Snapshot | None:
        current = self._records.get(report.name)
        if current is None:
            return None
        if report.policy_text is not None:
            self._seen[report.name] = now
            if self.is_shared:  # no operator sees the history of a stand-in
                self._histories[report.name].add_policy(report.policy_text, now)
        results = report.results
        counted = current.generation == report.generation and _counts(current, results)
        if (counted or results.rejected) and self.is_shared:
            self._histories[report.name].add(results, now, counted=counted)
            totals = self._totals.get(report.name, Totals())
            self._totals[report.name] = totals._replace(rejected=totals.rejected + results.rejected)
        if counted:
            current = self._records[report.name] = _counted(current, results, now)
            if report.window is not None:
                self._window(report.name, report.window, current).add(results, now)
        if report.window is None:
            return current
        counts = self._window(report.name, report.window, current).counts(now)
        return replace(current, window=counts)

    def _window(self, name: str, window: Window, current: Snapshot) -> WindowCounts:
        """Return the window's counts, empty if the stored ones are of another generation."""
        generation, counts = self._windows.get((name, window), ("", None))
        if counts is None or generation != current.generation:
            counts = WindowCounts(window)
            self._windows[name, window] = (current.generation, counts)
        return counts

    def _move(self, move: Move) -> MoveOutcome:
        current, now = self._records.get(move.name), self._clock()
        if not move.applies_to(current):
            return MoveOutcome(won=False, now=now, snapshot=current, sequence=self._sequence)
        if current is not None and current.generation == move.new.generation:
            new = replace(current, permits=move.new.permits)
        else:
            self._sequence += 1
            new = replace(move.new, entered_at=now)
            if current is None:
                self._totals.pop(move.name, None)
            elif self.is_shared:
                totals = self._totals.get(move.name, Totals()).counted(current.counts)
                self._totals[move.name] = totals.moved(move.to_label) if move.cause else totals
            if not self.is_shared:
                new = replace(new, generation=first_generation())
        self._records[move.name] = new
        self._seen.setdefault(move.name, now)
        if current is not None and move.cause and self.is_shared:
            self._record(move, current, now)
        return MoveOutcome(won=True, now=now, snapshot=new, sequence=self._sequence)

    def _record(self, move: Move, current: Snapshot, now: float) -> None:
        self._histories[move.name].transitions.appendleft(
            TransitionRecord(
                attempt=move.attempt,
                from_state=move.from_label,
                to_state=move.to_label,
                cause=move.cause,
                at=now,
                consecutive_failures=current.consecutive_failures,
                counts=current.counts,
                actor=move.actor[:MAX_HISTORY_NAME_CHARS],
            )
        )


def _counts(current: Snapshot, results: Results) -> bool:
    """Return whether there are results to count; DISABLED and FORCED_OPEN count none."""
    if current.hold and current.hold.control in (Control.DISABLED, Control.FORCED_OPEN):
        return False
    return results.all_successes + results.all_failures > 0


def _counted(current: Snapshot, results: Results, now: float) -> Snapshot:
    if current.last_failure_at > now:  # the clock was set back
        current = replace(current, last_failure_at=0.0, last_success_at=0.0, run_times=())
    return replace(count_run(current, results, now), counts=current.counts + results.counts)
