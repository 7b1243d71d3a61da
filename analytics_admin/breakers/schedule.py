"""Which breakers of a process are to be reported and read, and when."""

import random
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import islice

from analytics_admin.breakers.judging import ANSWER_SECONDS
from analytics_admin.breakers.local_state import NEVER, LocalState
from analytics_admin.breakers.state import Snapshot, State
from analytics_admin.breakers.state_machine import closeness

IDLE_AFTER_SECONDS = 2.0
"""A breaker unused for this long has nothing to report. Unless the process gets pushes, it is no
longer kept up to date, and its next call reads it."""
YOUNG_SECONDS = 10.0
"""Results of a breaker are reported each interval until it has been in use for this long."""
STATISTICS_SECONDS = 10.0
"""Results on which nothing depends are reported this late."""
RATES_SECONDS = 2.0
"""Successes in a time window are reported this late while its rates are far from their limits: all
processes are asked for them once one comes close, and again before one opens the breaker."""
RATES_SHARE = 1 / 30
"""Nor are they later than this part of the window."""
RECENT_SECONDS = 60.0
MAX_DUE = 200
"""Maximum number of breakers that one turn reports and reads, so that turns are short."""
MAX_LOOKED_AT = 10_000
"""Maximum number of breakers in use that are looked at, for what is due, in LOOK_SECONDS."""
LOOK_SECONDS = 0.25
MAX_TRIED_AGAIN = 25
"""Maximum number, of these, that the store refused to register and that are tried again."""
REST_SECONDS = 0.005
"""Pause between turns for what is not urgent: calls need the interpreter, too."""
GATHER_SECONDS = 0.008
"""After a report of failures the next ones wait this long for each other, unless they open it."""


class Schedule:
    """What the reporter has to do next for the breakers of its process.

    ``states`` are these breakers by name, ``interval`` is the setting SYNC_INTERVAL. Callers and
    the reporter use it at once, so each change of what they share is one step of the interpreter.
    """

    def __init__(self, states: Mapping[str, LocalState], interval: Callable[[], float]) -> None:
        self._states = states
        self._interval = interval
        self.gets_pushes = False
        """Whether every change of the fleet is pushed to this process within a moment."""
        self.asks_processes = False
        """Whether the store asks this process for what may keep a breaker closed."""
        self._phase = 0.0
        self.followed: dict[str, LocalState] = {}
        """The breakers in use. They are kept up to date without being asked for."""
        self._urgent: dict[str, LocalState] = {}
        self._first: dict[str, LocalState] = {}
        self._stale: dict[str, LocalState] = {}
        self._waiting = _Queues()
        self._unseen: list[LocalState] = []
        self._is_passing = self._wakes_for_followed = False
        self._looked_at = NEVER
        self._runs_at: dict[str, float] = {}
        self._answers_at: dict[str, float] = {}
        self._followed_read_at = NEVER
        self.gathers_until = NEVER
        """Until then a failure that decides nothing waits for others (monotonic)."""
        self._gathered_until = NEVER
        self._has_reported_urgent = False
        self.began_followed = self.took_followed = False
        """Whether the last ``take_due`` took the first, and the last, of the breakers in use
        that have to be read: of many, a turn takes a part."""

    def clear(self) -> None:
        """Have nothing to do: the store, or this process, is another."""
        self._phase = random.uniform(0.0, STATISTICS_SECONDS)
        for due in (self.followed, self._urgent, self._first, self._stale):
            due.clear()
        for times in (self._runs_at, self._answers_at):
            times.clear()
        self._waiting = _Queues()
        self._unseen = []
        self._is_passing = False

    def follow(self, state: LocalState) -> bool:
        """Keep the breaker up to date; return whether the reporter has to be told."""
        if state.name in self.followed:
            return False
        self.followed[state.name] = state
        return not self._wakes_for_followed

    @property
    def has_stale(self) -> bool:
        """Whether a breaker in use has changed and is not read yet."""
        return bool(self._stale or self._waiting.stale)

    def report_soon(self, state: LocalState) -> None:
        """Report the breaker in the next turn."""
        self._urgent[state.name] = state

    def begin_soon(self, state: LocalState) -> None:
        """Read a breaker for the first time, or report its first success, once there is time."""
        self._first[state.name] = state

    def read(self, state: LocalState) -> None:
        """Read the breaker in the next turn, or before its next call if it is not in use."""
        if state.is_followed:
            self._stale[state.name] = state

    def read_followed(self) -> None:
        """Read in the next turn all breakers in use that have to be read."""
        self._followed_read_at = NEVER

    def read_all(self) -> None:
        """Read in the next turn all breakers in use, and the others before their next calls."""
        self._followed_read_at = NEVER
        self._stale.update(self.followed)
        for state in list(self._states.values()):
            if state.is_followed and state.name not in self.followed:
                state.unfollow()

    def report_successes(self, names: Iterable[str]) -> None:
        """Report successes that the store does not have yet: soon, but not all processes at once.

        Those of the next moment count too: they end a run of calls that failed together.
        """
        for name in names:
            if name in self.followed:
                wait = ANSWER_SECONDS * random.uniform(0.3, 0.55)
                # Another question does not put the answer off.
                self._answers_at.setdefault(name, time.monotonic() + wait)

    def judge_run(self, name: str, wait: float | None) -> None:
        """Read the breaker again in ``wait`` seconds, to judge its run; None: there is none."""
        if wait is None:
            self._runs_at.pop(name, None)
        else:
            self._runs_at[name] = time.monotonic() + wait

    def take_due(self, asked: Iterable[LocalState]) -> dict[str, LocalState]:
        """Return by name the breakers to report and read now, with those that are asked for."""
        # What comes from now on has to ring.
        self._gathered_until, self.gathers_until = self.gathers_until, NEVER
        self._wakes_for_followed = False
        waiting, now = self._waiting, time.monotonic()
        due = {state.name: state for state in asked}
        urgent = _drain(self._urgent)
        self._has_reported_urgent = bool(urgent)
        for state in urgent.values():
            (waiting.urgent if state.ahead is None else waiting.trips)[state.name] = state
        for state in self._take_reached(self._runs_at, now):
            waiting.judged[state.name] = state
        for state in self._take_reached(self._answers_at, now):
            if state.has_rates or state.newest_success > state.reported_at:
                waiting.judged[state.name] = state
        waiting.stale |= _drain(self._stale)
        waiting.first |= _drain(self._first)
        self._look_at_followed(now)
        due |= waiting.take(MAX_DUE - len(due))
        self.took_followed = self._is_passing and not (self._unseen or waiting.in_use)
        if self.took_followed:
            self._is_passing = False
        return due

    def end_turn(self) -> float:
        """Have coming failures wait for each other; return the seconds until more is due."""
        now = time.monotonic()
        at = [*self._runs_at.values(), *self._answers_at.values()]
        if self._waiting.are_urgent:
            return 0.0
        if self._waiting.have_any:
            at.append(now + REST_SECONDS)
        self._wakes_for_followed = bool(self.followed)
        if self._unseen:
            at.append(self._looked_at + LOOK_SECONDS)
        elif self._wakes_for_followed:
            at.append(self._followed_read_at + self._interval())
        until = now + GATHER_SECONDS if self._has_reported_urgent else self._gathered_until
        if until > now:
            self.gathers_until = until
            at.append(until)
        return min(at, default=float("inf")) - now

    def recent(self) -> list[LocalState]:
        """Return the breakers that may have something to report."""
        since = time.monotonic() - RECENT_SECONDS
        return [
            state
            for state in list(self._states.values())
            if state.last_used_at() >= since or state.has_outcomes
        ]

    def _look_at_followed(self, now: float) -> None:
        """Have those in use wait that have to be read, or have something to report.

        A pass through all of them takes LOOK_SECONDS for each MAX_LOOKED_AT.
        """
        self.began_followed = False
        if not self._is_passing and now - self._followed_read_at >= self._interval():
            self.began_followed = self._is_passing = True
            self._followed_read_at = now
            self._unseen = list(self.followed.values())
        elif not self._unseen or now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        seen, self._unseen = self._unseen[:MAX_LOOKED_AT], self._unseen[MAX_LOOKED_AT:]
        tried_again = 0
        for state in seen:
            if self._drop_unused(state, now):
                continue
            if state.snapshot is None and state.unregistered_until > NEVER:
                if now < state.unregistered_until or tried_again >= MAX_TRIED_AGAIN:
                    continue
                tried_again += 1
            if not self.gets_pushes or self._matters(state, now):
                self._waiting.in_use[state.name] = state

    def _drop_unused(self, state: LocalState, now: float) -> bool:
        """Return whether the breaker is no longer followed."""
        if not state.is_followed:
            self.followed.pop(state.name, None)
            state.unfollow()
        elif now - state.last_used_at() >= IDLE_AFTER_SECONDS:
            if not self.gets_pushes:
                self.followed.pop(state.name, None)
                state.unfollow()
            elif state.last_used_at() <= state.reported_at:
                self.followed.pop(state.name, None)
                state.rest()
        return state.name not in self.followed

    def _take_reached(self, times: dict[str, float], now: float) -> list[LocalState]:
        """Take out the breakers whose time has come, but for those forgotten meanwhile."""
        reached = [name for name, at in list(times.items()) if at <= now]
        for name in reached:
            times.pop(name, None)
        return [state for name in reached if (state := self._states.get(name)) is not None]

    def _matters(self, state: LocalState, now: float) -> bool:
        """Return whether somebody may wait for what this process knows or does not know."""
        snapshot: Snapshot | None = state.snapshot
        if snapshot is None or snapshot.state is State.HALF_OPEN:
            return True
        if snapshot.hold is not None and snapshot.hold.is_over(state.store_time(now)):
            return True
        if closeness(snapshot.window, state.policy.rates):
            return True
        if state.last_used_at() <= state.reported_at:
            return False
        is_idle = now - state.last_used_at() >= IDLE_AFTER_SECONDS
        is_young = now - state.followed_at < YOUNG_SECONDS
        return snapshot.consecutive_failures > 0 or is_idle or is_young or self._is_late(state, now)

    def _is_late(self, state: LocalState, now: float) -> bool:
        """Return whether successes have waited for long enough. Those of many breakers go together,
        those of many processes do not.
        """
        window, every = state.policy.window, STATISTICS_SECONDS
        if window is not None:
            if not (window.timed and self.asks_processes):
                return True
            every = min(RATES_SECONDS, RATES_SHARE * window.size)
        if every <= self._interval() or now - state.reported_at >= every:
            return True
        return (now + self._phase) // every > (state.reported_at + self._phase) // every


class _Queues:
    """The breakers that wait for a turn, by name; what is urgent comes first."""

    def __init__(self) -> None:
        self.trips: dict[str, LocalState] = {}
        self.judged: dict[str, LocalState] = {}
        self.urgent: dict[str, LocalState] = {}
        self.first: dict[str, LocalState] = {}
        self.stale: dict[str, LocalState] = {}
        self.in_use: dict[str, LocalState] = {}

    @property
    def are_urgent(self) -> bool:
        return bool(self.trips or self.judged or self.urgent)

    @property
    def have_any(self) -> bool:
        return bool(self.first or self.stale or self.in_use)

    def take(self, number: int) -> dict[str, LocalState]:
        """Take out that many, and a few of those that are not urgent in any case."""
        urgent, others = (
            (self.trips, self.judged, self.urgent),
            (self.in_use, self.stale, self.first),
        )
        taken: dict[str, LocalState] = {}
        for queue in urgent:
            _move(queue, taken, number - len(taken))
        if taken and len(taken) + sum(map(len, others)) > number:
            number = len(taken) + MAX_DUE // 5  # what is urgent does not wait for more
        share = (number - len(taken)) // len(others)
        for queue in others:
            _move(queue, taken, share)
        for queue in others:
            _move(queue, taken, number - len(taken))
        return taken


def _move(queue: dict[str, LocalState], taken: dict[str, LocalState], number: int) -> None:
    """Take the first of a queue, as long as they wait."""
    for name, state in list(islice(queue.items(), max(0, number))):
        queue.pop(name, None)
        taken[name] = state


def _drain(states: dict[str, LocalState]) -> dict[str, LocalState]:
    """Take out all, one by one: callers add to them meanwhile."""
    taken = {}
    with suppress(KeyError):  # none is left
        while True:
            name, state = states.popitem()
            taken[name] = state
    return taken
