"""Reads what a run has written down, and says which promises were broken.

It gives the benefit of the doubt where two events may have come in another order, or where the
driver did what a promise excepts. ``checked`` tells how much was left to judge.
"""

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from tests.support.chaos.events import (
    DATABASE,
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
from tests.support.chaos.plan import SHARED
from tests.support.history.checker import Verdict, Violation
from tests.support.history.events import FAILURE, REJECTED

DONE, FAILED, UNKNOWN, STARTED = "done", "failed", "unknown", "started"
NOT_RECORDED = "audit_unavailable"
UNKNOWN_OUTCOME = "outcome_unknown"
REFUSALS = {
    "database_unavailable",  # REST could not look up who asks
    "breaker_moved",
    "breaker_not_open",
    "nothing_to_undo",
    "another_clear",
    "unknown_breaker",
    "invalid",
}
"""Codes of acts that are refused before they have a row; one that came later has one."""
REPORTED_SECONDS = 11.0
"""Within which a process has told what it counted."""
EFFECT_SECONDS = 0.5
"""Within which what is done is in the store, for whoever reads it then."""

E = TypeVar("E")


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    """``retry`` is STORE_RETRY_INTERVAL, ``grace`` SEARCH_CACHE_SOFT_CLEAR_GRACE."""

    permitted: int = 2
    retry: float = 1.0
    grace: float = 2.0
    margin: float = 0.15
    leave: float = 4.5
    """Seconds in which a process finds out that another server is the primary now: the Sentinel
    that made it one looks within a second, tells the others within two, and the process asks each
    second."""

    @property
    def back(self) -> float:
        """Seconds within which a process shares the state again."""
        return self.retry + 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Act:
    """An act with what was told of it, and its row; ``ended``: infinity if that is not known."""

    begun: Begun
    told: Told | None
    row: Row | None
    ended: float

    @property
    def name(self) -> str:
        """The breaker that it is on."""
        return str(self.begun.targets.get("name", ""))

    @property
    def is_done(self) -> bool:
        return self.told is not None and self.told.outcome == DONE

    @property
    def is_said(self) -> bool:
        """Whether the operator was told that it may be lost."""
        return self.told is not None and bool(self.told.warnings)

    def __str__(self) -> str:
        return f"{self.begun.act} ({self.begun.kind} {self.begun.targets})"


def check(events: Iterable[Any], promises: Promises) -> Verdict:
    """Judge what a run has written down."""
    return _Checker(list(events), promises).check()


class _Checker:
    def __init__(self, events: list[Any], promises: Promises) -> None:
        self._promises, self._verdict = promises, Verdict()
        self._all = defaultdict(list)
        for event in events:
            self._all[type(event)].append(event)
        self._calls = self._of(Call)
        self._held_up = defaultdict(list)
        for it in sorted(self._of(Disturbance), key=lambda it: it.began):
            if it.what == "held up":
                self._held_up[it.process].append(it)
        self._seen = sorted(self._of(Seen), key=lambda it: it.ended)

    def check(self) -> Verdict:
        for fault in self._of(Fault):
            self._break("nothing is raised", fault.at, f"{fault.process}: {fault.what}")
        self._check_counts()
        self._check_probes()
        self._check_rows()
        self._check_effects()
        self._check_last_acts()
        self._check_searches()
        self._check_heals()
        self._verdict.violations.sort(key=lambda violation: violation.at)
        return self._verdict

    def _of(self, kind: type[E]) -> list[E]:
        return self._all[kind]

    def _break(self, rule: str, at: float, text: str) -> None:
        self._verdict.violations.append(Violation(rule=rule, at=at, text=text))

    # What the store has counted, and which probes it has let pass.

    def _check_counts(self) -> None:
        ends: dict[tuple[str, str], list[float]] = defaultdict(list)
        failures: dict[tuple[str, str], list[float]] = defaultdict(list)
        for call in self._calls:
            if call.outcome != REJECTED:
                ends[call.name, call.generation].append(call.ended)
                if call.outcome == FAILURE:
                    failures[call.name, call.generation].append(call.ended)
        for times in (*ends.values(), *failures.values()):
            times.sort()
        for seen in self._seen:
            if seen.name == SHARED:  # operators' processes call it, too
                continue
            self._verdict.checked["counts"] += 1
            for what, counted, made in (
                ("calls", seen.calls, ends),
                ("failures", seen.failures, failures),
            ):
                most = sum(
                    bisect_right(made[seen.name, generation], seen.ended)
                    for generation in {seen.generation, ""}
                )
                most += self._carried(made, seen)
                if counted > most:
                    text = f"{seen.name} {seen.generation}: {counted} {what} of {most}"
                    self._break("nothing is counted that was not sent", seen.ended, text)

    def _carried(self, made: dict[tuple[str, str], list[float]], seen: Seen) -> int:
        """Return how many calls were made under others, and may have been told to it.

        A store that was emptied counts what is told of the breakers of before.
        """
        if not (losses := self._losses_in(-math.inf, seen.ended)):
            return 0
        since = max(it.began for it in losses) - REPORTED_SECONDS
        return sum(
            bisect_right(times, seen.ended) - bisect_left(times, since)
            for (name, generation), times in made.items()
            if name == seen.name and generation not in {seen.generation, ""}
        )

    def _check_probes(self) -> None:
        rounds: dict[tuple[str, str], list[Call]] = defaultdict(list)
        for call in self._calls:
            if call.is_probe and call.had_store:
                rounds[call.name, call.generation].append(call)
        self._verdict.checked["rounds of probes"] += len(rounds)
        for (name, generation), probes in rounds.items():
            first, last = min(it.began for it in probes), max(it.ended for it in probes)
            # A server that takes over may lack the permits that were given last.
            losses = len(self._losses_in(first, last))
            if len(probes) > self._promises.permitted * (1 + losses):
                text = f"{name}: {len(probes)} probes of {generation}"
                self._break("probes are few", first, text)

    def _losses_in(self, since: float, until: float) -> list[Disturbance]:
        """Return the faults in that time by which the store may have lost something."""
        return [
            it
            for it in self._of(Disturbance)
            if it.loses_data and it.began <= until and since <= it.ended
        ]

    # Acts, and their rows.

    @cached_property
    def _acts(self) -> list[_Act]:
        told = {it.act: it for it in self._of(Told)}
        rows = {it.reason: it for it in self._of(Row)}
        killed = {it.process: it.ended for it in self._of(Life) if it.was_killed}
        last_kill = max(killed.values(), default=math.inf)
        acts = []
        for begun in self._of(Begun):
            answer = told.get(begun.act)
            later = [at for at in killed.values() if at >= begun.at]
            ended = answer.at if answer else min(later, default=last_kill)
            acts.append(_Act(begun=begun, told=answer, row=rows.get(begun.act), ended=ended))
        return sorted(acts, key=lambda it: it.begun.at)

    def _check_rows(self) -> None:
        number = Counter(it.reason for it in self._of(Row))
        for act in self._acts:
            self._verdict.checked["acts"] += 1
            if number[act.begun.act] > 1:
                text = f"{act}: {number[act.begun.act]} rows"
                self._break("each act has one row", act.ended, text)
            if act.told is not None:
                self._check_row(act, act.told)

    def _check_row(self, act: _Act, told: Told) -> None:
        self._verdict.checked[f"told {told.outcome}"] += 1
        if act.row is None:
            if told.outcome != NOT_RECORDED and told.outcome not in REFUSALS:
                text = f"{act} was told {told.outcome}, and has no row"
                self._break("each act has one row", told.at, text)
            return
        if told.operation_id and told.operation_id.replace("-", "") != act.row.id:
            text = f"{act}: the operator was told of another row"
            self._break("each act has one row", told.at, text)
        right = {DONE: DONE, UNKNOWN_OUTCOME: UNKNOWN}.get(told.outcome, FAILED)
        allowed = {right}
        if self._had_no_database(act):
            allowed.add(STARTED)
        if told.outcome == NOT_RECORDED:  # the commit was made, but not acknowledged
            allowed = {STARTED}
        if act.row.status not in allowed:
            text = f"{act} was told {told.outcome}, its row says {act.row.status}"
            self._break("rows are true", told.at, text)

    def _had_no_database(self, act: _Act) -> bool:
        return any(
            it.began <= act.ended and act.begun.at <= it.ended
            for it in self._of(Disturbance)
            if it.process == DATABASE
        )

    def _check_effects(self) -> None:
        """Compare the rows with what was seen in the store."""
        receipts = {it.operation_id: it for it in self._of(Receipt)}
        held = defaultdict(list)
        for seen in self._seen:
            if seen.reason:
                held[seen.reason].append(seen)
        for act in self._acts:
            row = act.row
            if row is not None and row.status == FAILED:
                self._verdict.checked["failed acts"] += 1
                is_seen = any(seen.name not in row.reached for seen in held[act.begun.act])
                if row.id in receipts or is_seen:
                    text = f"{act} is in the store, its row says failed"
                    self._break("rows are true", act.ended, text)
            if act.is_done and act.begun.kind in _HELD_AFTER:
                self._check_done(act)

    def _check_done(self, act: _Act) -> None:
        """Hold "done" to it: it is in the store at once."""
        until = min(self._next_on(act), self._expires(act), act.ended + 2 * EFFECT_SECONDS)
        for seen in self._seen_of(act.name, act.ended + TOLERANCE, until - TOLERANCE):
            if self._losses_in(act.begun.at - 1.0, seen.ended):
                return
            self._verdict.checked["done acts"] += 1
            if not _HELD_AFTER[act.begun.kind](act.begun, seen):
                text = f"{act} is done, but it is {seen.control}"
                self._break("rows are true", seen.began, text)
                return

    def _next_on(self, act: _Act) -> float:
        """Return when the next act may have changed its breaker; at once if one was under way."""
        others = (it for it in self._acts_on[act.name] if it is not act and it.ended > act.begun.at)
        return min((it.begun.at for it in others), default=math.inf)

    @cached_property
    def _acts_on(self) -> dict[str, list[_Act]]:
        by_name = defaultdict(list)
        for act in self._acts:
            if act.begun.kind in _HELD_AFTER:
                by_name[act.name].append(act)
        return by_name

    @staticmethod
    def _expires(act: _Act) -> float:
        seconds = act.begun.targets.get("for_seconds")
        return math.inf if seconds is None else act.begun.at + float(seconds)

    def _seen_of(self, name: str, since: float, until: float) -> Iterator[Seen]:
        """Yield what was read of a breaker within these instants."""
        seen, times = self._by_name[name]
        for it in seen[bisect_left(times, since) :]:
            if it.ended > until:
                return
            yield it

    @cached_property
    def _by_name(self) -> dict[str, tuple[list[Seen], list[float]]]:
        by_name: dict[str, tuple[list[Seen], list[float]]] = defaultdict(lambda: ([], []))
        for it in sorted(self._seen, key=lambda it: it.began):
            seen, times = by_name[it.name]
            seen.append(it)
            times.append(it.began)
        return by_name

    def _check_last_acts(self) -> None:
        """When all is calm, the last act on a breaker is in force, or it was said to be at risk."""
        for calm in self._of(Calm):
            for name, acts in self._acts_on.items():
                before = [it for it in acts if it.begun.at < calm.ended]
                if name == SHARED or not before:
                    continue
                last = max(before, key=lambda it: it.begun.at)
                rivals = [it for it in before if it is not last and it.ended >= last.begun.at]
                seen = [*self._seen_of(name, calm.began, calm.ended)]
                if rivals or not last.is_done or not seen or self._expires(last) < math.inf:
                    continue
                if last.row is None or last.row.status != DONE:
                    continue  # the trail does not say that it was done, so nobody does it again
                self._verdict.checked["last acts"] += 1
                if _HELD_AFTER[last.begun.kind](last.begun, seen[-1]):
                    continue
                if last.is_said:
                    self._verdict.checked["acts lost, as was said"] += 1
                    continue
                text = f"{last} was done, but it is {seen[-1].control}"
                self._break("an acknowledged act lasts", seen[-1].began, text)

    # Values of before a clear.

    def _check_searches(self) -> None:
        clears = [it for it in self._acts if it.begun.kind == "clear" and it.is_done]
        undoes = [it for it in self._acts if it.begun.kind == "undo"]
        for search in self._of(Search):
            self._verdict.checked[f"searches: {search.state}"] += 1
            for act in clears:
                if act.begun.at <= search.as_of or act.ended >= search.began - search.near:
                    continue
                if not _ends(act.begun, search) or act.is_said or self._is_on_old(search):
                    continue
                if act.begun.targets.get("mode") == "soft" and self._is_served(act, search, undoes):
                    continue
                text = (
                    f"{search.process} was given {search.key} of {search.as_of:.3f} "
                    f"({search.state}), before {act} of {act.begun.at:.3f} to {act.ended:.3f}"
                )
                self._break("nothing outdated is served", search.began, text)
                break

    def _is_on_old(self, search: Search) -> bool:
        """Return whether its process may not have heard yet that another server is the primary."""
        return any(
            it.began <= search.ended
            and search.began <= self._busy_until(search.process, it.began, self._promises.leave)
            for it in self._of(Disturbance)
            if it.what == TWO_PRIMARIES
        )

    def _is_served(self, act: _Act, search: Search, undoes: list[_Act]) -> bool:
        """Return whether a value of before the soft clear may be served."""
        if any(act.begun.at <= it.ended and it.begun.at <= search.ended for it in undoes):
            return True
        bound = act.ended + self._promises.grace + self._promises.margin
        return search.state == "stale" and search.began <= bound

    # In the calm.

    def _check_heals(self) -> None:
        for calm in self._of(Calm):
            for life in self._of(Life):
                does_search = life.process in self._searches_by_process
                if does_search and life.began < calm.began and life.ended >= calm.ended:
                    self._check_heal(life.process, calm)

    def _check_heal(self, process: str, calm: Calm) -> None:
        since = self._busy_until(process, calm.began, self._promises.back)
        aways = [it for it in self._of(Away) if it.process == process]
        if lost := [it for it in aways if it.ended > since and it.began < calm.ended]:
            text = f"{process} is without the breakers' store until {lost[-1].ended:.3f}"
            self._break("all heals by itself", lost[-1].began, text)
        searches = [
            it
            for it in self._searches_by_process[process]
            if since < it.began and it.ended < calm.ended
        ]
        if bypassed := [it for it in searches if it.state == "bypass"]:
            last = bypassed[-1].began
            text = f"{process}: {len(bypassed)} searches without the cache, until {last:.3f}"
            self._break("all heals by itself", bypassed[-1].began, text)
        if not searches:
            self._break("all heals by itself", calm.ended, f"{process} searches no more")
            return
        self._verdict.checked["heals"] += 1
        self._check_shares(process, calm)

    def _check_shares(self, process: str, calm: Calm) -> None:
        """A process obeys a hold that was set in the calm."""
        acts = [it for it in self._acts_on[SHARED] if calm.began <= it.begun.at <= calm.ended]
        hold = next((it for it in acts if it.begun.kind == "hold" and it.is_done), None)
        release = next((it for it in acts if it.begun.kind == "release"), None)
        if hold is None or release is None:
            said = [f"{it}: {it.told and it.told.text}" for it in acts]
            self._break("all heals by itself", calm.began, f"no hold in the calm: {said}")
            return
        since = self._busy_until(process, hold.ended, 0.5)
        for call in self._calls:
            if call.process != process or call.name != SHARED:
                continue
            if since < call.began and call.ended < release.begun.at:
                self._verdict.checked["calls under a hold in the calm"] += 1
                if call.outcome != REJECTED:
                    text = f"{process} does not obey {hold}"
                    self._break("all heals by itself", call.began, text)
                    return

    @cached_property
    def _searches_by_process(self) -> dict[str, list[Search]]:
        by_process = defaultdict(list)
        for it in self._of(Search):
            by_process[it.process].append(it)
        return dict(by_process)

    def _busy_until(self, process: str, since: float, seconds: float) -> float:
        """Return when so many seconds have passed in which the machine let the process run."""
        until = since + seconds
        for it in self._held_up[process]:
            if since <= it.ended and it.began <= until:
                until += it.ended - max(since, it.began)
        return until


TOLERANCE = 0.05
"""Seconds by which two clocks, or two readings, may be apart."""


def _is_held(begun: Begun, seen: Seen) -> bool:
    return seen.control == begun.targets["control"]


def _is_free(begun: Begun, seen: Seen) -> bool:
    return seen.control == "automatic"


_HELD_AFTER = {"hold": _is_held, "release": _is_free, "reset": _is_free}
"""Whether what was seen may follow such an act."""


def _ends(begun: Begun, search: Search) -> bool:
    """Return whether the clear ends the value of this search."""
    tags, keys = begun.targets.get("tags"), begun.targets.get("keys")
    if tags:
        return bool(set(tags) & set(search.tags))
    return not keys or search.key in keys
