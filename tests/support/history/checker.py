"""Reads a history of a fleet and says where it breaks the promises of the circuit breakers.

It knows nothing of the engine but its promises. Where the order of two events is not certain, or a
process or the store was disturbed, it gives the benefit of the doubt; ``checked`` tells how much
was left to judge.
"""

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from tests.support.history.events import (
    FAILURE,
    REJECTED,
    SUCCESS,
    Away,
    Call,
    Disturbance,
    Event,
    Life,
    LocalTransition,
    Operation,
    Record,
    Reported,
    Transition,
)

PASSING = {"closed", "disabled", "metrics_only"}
REJECTING = {"open", "half_open", "forced_open"}
UNKNOWN = "unknown"
TOLERANCE = 0.02
"""Seconds by which the store's clock and the machine's may be read differently."""
HEARD_WITHIN = 0.5
"""Seconds in which a receiver hears of a process' own transition."""
REVIVED_WITHIN = 1.0
"""Seconds in which the processes give a hold back to a store that has lost it."""

WALK = {
    ("closed", "open"): {"consecutive_failures"},
    ("open", "half_open"): {"wait_over", "probe_allowed"},
    ("half_open", "open"): {"probe_failed"},
    ("half_open", "closed"): {"probes_succeeded", "reset"},
    ("open", "closed"): {"reset"},
    ("forced_open", "closed"): {"reset"},
    ("forced_open", "half_open"): {"control", "hold_over"},
    ("closed", "forced_open"): {"control"},
    ("open", "forced_open"): {"control"},
    ("half_open", "forced_open"): {"control"},
}
"""The causes by which a breaker comes from one state or hold to another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    """``interval`` is SYNC_INTERVAL; ``margin`` is for an answer and a round of the reporter."""

    threshold: int
    permitted: int
    wait: float
    interval: float = 0.25
    settle: float = 0.05
    margin: float = 0.15

    @property
    def obedience(self) -> float:
        """Undisturbed seconds within which a process obeys what is on record."""
        return self.interval + self.margin

    @property
    def reporting(self) -> float:
        """Undisturbed seconds within which a process has reported a success."""
        return self.interval + self.settle


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A promise that was broken, and where."""

    rule: str
    at: float
    text: str

    def __str__(self) -> str:
        return f"{self.at:.3f} {self.rule}: {self.text}"


@dataclass(slots=True, kw_only=True)
class Verdict:
    violations: list[Violation] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A call that passed, and until when it had been reported."""

    call: Call
    reported: float

    def is_between(self, first: "Ended", last: "Ended") -> bool:
        """Return whether it certainly ended after the one and before the other."""
        return self.call.ended > first.reported and self.reported < last.call.ended


def check(events: Iterable[Event], promises: Promises) -> Verdict:
    """Judge a history."""
    return _Checker(list(events), promises).check()


class _Checker:
    def __init__(self, events: list[Event], promises: Promises) -> None:
        self._promises = promises
        self._verdict = Verdict()
        self._calls = sorted((it for it in events if isinstance(it, Call)), key=lambda it: it.began)
        self._reported = [it for it in events if isinstance(it, Reported)]
        self._lives = {it.process: it for it in events if isinstance(it, Life)}
        self._disturbances = [it for it in events if isinstance(it, Disturbance)]
        self._away = [it for it in events if isinstance(it, Away)]
        self._operations = [it for it in events if isinstance(it, Operation)]
        self._transitions = [it for it in events if isinstance(it, Transition)]
        self._local = [it for it in events if isinstance(it, LocalTransition)]
        self._records = sorted(
            (it for it in events if isinstance(it, Record)), key=lambda it: it.ended
        )
        self._quiet: dict[str, _Quiet] = {}
        self._timelines = {
            name: _Timeline(
                [it for it in self._transitions if it.name == name],
                [it for it in self._records if it.name == name],
                [it for it in self._disturbances if it.loses_data],
            )
            for name in {it.name for it in self._calls} | {it.name for it in self._records}
        }

    def check(self) -> Verdict:
        for call in self._calls:
            if call.had_store:
                self._check_call(call)
            else:
                self._check_lonely_call(call)
        self._check_probes()
        for name in self._timelines:
            self._check_walk(name)
        for transition in self._transitions:
            if transition.to_state == "open":
                self._check_opening(transition)
        for operation in self._operations:
            if operation.outcome == "done":
                self._check_operation(operation)
        for record in self._records:
            self._check_counts(record)
        self._check_local_walks()
        self._verdict.violations.sort(key=lambda violation: violation.at)
        return self._verdict

    def _break(self, rule: str, at: float, text: str) -> None:
        self._verdict.violations.append(Violation(rule=rule, at=at, text=text))

    def _quiet_of(self, process: str) -> "_Quiet":
        if process not in self._quiet:
            spans = [
                (it.began, it.ended) for it in self._disturbances if it.process in ("", process)
            ]
            spans += [(it.began, it.ended) for it in self._away if it.process == process]
            self._quiet[process] = _Quiet(spans)
        return self._quiet[process]

    # What a process that has the store does, obeys the record.

    def _check_call(self, call: Call) -> None:
        since = self._quiet_of(call.process).back(call.began, self._promises.obedience)
        if since < self._first_calls[call.process]:
            return
        timeline = self._timelines[call.name]
        if call.outcome == REJECTED:
            seen = timeline.labels(since - TOLERANCE, call.ended + TOLERANCE)
            self._verdict.checked["rejections"] += 1
            if not seen & {*REJECTING, UNKNOWN} and not self._opened_itself(call, since):
                text = f"{call.process} rejects, on record it is {sorted(seen)}"
                self._break("rejections are on record", call.began, f"{call.name}: {text}")
        elif not call.is_probe:
            # It may have waited for a probe's permit first, and have passed for another reason.
            seen = timeline.labels(since - TOLERANCE, call.ended + TOLERANCE)
            self._verdict.checked["passes"] += 1
            if not seen & {*PASSING, UNKNOWN} and not self._closed_itself(call, since, seen):
                text = f"{call.process} lets a call pass, on record it is {sorted(seen)}"
                self._break("the record is obeyed", call.began, f"{call.name}: {text}")

    def _opened_itself(self, call: Call, since: float) -> bool:
        """Return whether the process alone had reason to open it, or had opened it when alone."""
        runs = self._own_runs(call.process, call.name)
        if any(
            since - TOLERANCE <= last.reported and last.call.ended <= call.ended for last in runs
        ):
            return True
        return any(
            it.process == call.process
            and it.name == call.name
            and it.to_state == "open"
            and call.ended - self._promises.wait - HEARD_WITHIN <= it.at
            for it in self._local
        )

    def _closed_itself(self, call: Call, since: float, seen: set[str]) -> bool:
        """Return whether a probe of the process may have closed it, which is on record later."""
        return "half_open" in seen and any(
            it.call.is_probe
            and it.call.outcome == SUCCESS
            and since <= it.reported
            and it.call.ended <= call.began
            for it in self._ended_by_process[call.process, call.name]
        )

    def _own_runs(self, process: str, name: str) -> list[Ended]:
        """Return the failures of a process that were the last of a long enough run of its own."""
        return self._runs_by_process.get((process, name), [])

    @cached_property
    def _runs_by_process(self) -> dict[tuple[str, str], list[Ended]]:
        runs = defaultdict(list)
        for key, ended in self._ended_by_process.items():
            failures = [it for it in ended if it.call.outcome == FAILURE]
            successes = [it for it in ended if it.call.outcome == SUCCESS]
            for last in self._ends_of_runs(failures, successes):
                runs[key].append(last)
        return runs

    def _ends_of_runs(self, failures: Sequence[Ended], successes: Sequence[Ended]) -> list[Ended]:
        """Return each failure that ends a run of the threshold's length."""
        number = self._promises.threshold
        ends = []
        for first, last in zip(failures, failures[number - 1 :], strict=False):
            if not any(success.is_between(first, last) for success in successes):
                ends.append(last)
        return ends

    # A process without the store goes on by its own walk.

    def _check_lonely_call(self, call: Call) -> None:
        away = self._away_during(call)
        if away is None:
            return
        since = self._quiet_of(call.process).back(away.began, self._promises.obedience)
        seen = self._timelines[call.name].labels(since - TOLERANCE, away.began + TOLERANCE)
        seen |= {
            it.to_state
            for it in self._local
            if (it.process, it.name) == (call.process, call.name)
            and it.at - HEARD_WITHIN <= call.ended
        }
        self._verdict.checked["calls without the store"] += 1
        runs = self._own_runs(call.process, call.name)
        if call.outcome == REJECTED:
            has_run = any(last.call.ended <= call.ended for last in runs)
            if not seen & {*REJECTING, UNKNOWN} and not has_run:
                text = f"{call.process} rejects alone, having been {sorted(seen)}"
                self._break("a lonely process walks by itself", call.began, f"{call.name}: {text}")
        elif not call.is_probe and not seen & {*PASSING, UNKNOWN}:
            text = f"{call.process} lets a call pass alone, having been {sorted(seen)}"
            self._break("a lonely process walks by itself", call.began, f"{call.name}: {text}")

    def _away_during(self, call: Call) -> Away | None:
        for away in self._away:
            if away.process == call.process and away.began <= call.began <= away.ended:
                return away
        return None

    def _is_lonely(self, call: Call) -> bool:
        """Return whether its process certainly kept the result to itself."""
        away = None if call.had_store else self._away_during(call)
        return away is not None and call.ended + HEARD_WITHIN / 5 < away.ended

    def _check_local_walks(self) -> None:
        by_breaker = defaultdict(list)
        for it in self._local:
            by_breaker[it.process, it.name].append(it)
        for (process, name), walk in by_breaker.items():
            walk.sort(key=lambda it: it.at)
            for it in walk:
                self._verdict.checked["local transitions"] += 1
                if (it.from_state, it.to_state) not in WALK:
                    text = f"{process} {name}: {it.from_state} to {it.to_state}"
                    self._break("a lonely process walks by itself", it.at, text)
            for one, other in pairwise(walk):
                is_one_outage = any(
                    away.process == process and away.began <= one.at and other.at <= away.ended
                    for away in self._away
                )
                if is_one_outage and one.to_state != other.from_state:
                    text = f"{process} {name}: {other.from_state} after {one.to_state}"
                    self._break("a lonely process walks by itself", other.at, text)

    # Probes, transitions and counts.

    def _check_probes(self) -> None:
        probes = Counter(
            (call.name, call.generation) for call in self._calls if call.is_probe and call.had_store
        )
        self._verdict.checked["rounds of probes"] += len(probes)
        for (name, generation), number in probes.items():
            if number > self._promises.permitted:
                at = min(it.began for it in self._calls if it.generation == generation)
                self._break("probes are few", at, f"{name}: {number} probes of {generation}")

    def _check_walk(self, name: str) -> None:
        walk = [it for it in self._transitions if it.name == name]
        for it in walk:
            self._verdict.checked["transitions"] += 1
            if it.cause not in WALK.get((it.from_state, it.to_state), set()):
                text = f"{name}: {it.from_state} to {it.to_state} by {it.cause}"
                self._break("transitions are legal", it.at, text)
        for one, other in pairwise(walk):
            if self._timelines[name].is_unknown(one.at, other.at):
                continue
            if other.at <= one.at:
                self._break(
                    "time goes on", other.at, f"{name}: {other.cause} not after {one.cause}"
                )
            if other.from_state != one.to_state:
                text = f"{name}: from {other.from_state}, but it was {one.to_state}"
                self._break("transitions are legal", other.at, text)
            if other.cause == "wait_over" and other.at - one.at < self._promises.wait - TOLERANCE:
                text = f"{name}: half-open {other.at - one.at:.3f} s after it opened"
                self._break("an open breaker waits", other.at, text)

    def _check_opening(self, opening: Transition) -> None:
        self._verdict.checked["openings"] += 1
        if opening.cause == "probe_failed":
            is_justified = any(
                it.call.is_probe and it.call.outcome == FAILURE and self._led_to(it, opening)
                for it in self._ended_by_name[opening.name]
            )
        else:
            is_justified = self._has_run(opening)
        if not is_justified:
            text = f"{opening.name} by {opening.cause}: no such failures"
            self._break("openings are justified", opening.at, text)

    def _has_run(self, opening: Transition) -> bool:
        since, until = self._generation_began(opening) - TOLERANCE, opening.at + TOLERANCE
        ended = [
            it
            for it in self._ended_by_name[opening.name]
            if since <= it.reported and it.call.ended <= until and not self._is_lonely(it.call)
        ]
        generations = {it.call.generation for it in ended if it.call.outcome == FAILURE}
        for generation in generations:
            of_it = [it for it in ended if it.call.generation in (generation, "")]
            failures = [it for it in of_it if it.call.outcome == FAILURE]
            successes = [
                it
                for it in of_it
                if it.call.outcome == SUCCESS and self._must_be_reported(it, opening.at)
            ]
            for last in self._ends_of_runs(failures, successes):
                if not any(it.call.ended > last.reported for it in successes):
                    return True
        return any(
            self._led_to(last, opening)
            for (_, name), runs in self._runs_by_process.items()
            if name == opening.name
            for last in runs
        )

    def _generation_began(self, opening: Transition) -> float:
        """Return when the results that count for it began to count."""
        name, at = opening.name, opening.at
        began = [it.at for it in self._transitions if it.name == name and it.at < at]
        began += [
            it.began
            for it in self._operations
            if (it.name, it.outcome) == (name, "done") and it.kind != "release" and it.ended < at
        ]
        return max(began, default=-math.inf)

    def _led_to(self, last: Ended, opening: Transition) -> bool:
        """Return whether its process may have opened it for this failure, at once."""
        if last.call.ended > opening.at + TOLERANCE:
            return False
        quiet = self._quiet_of(last.call.process).seconds(last.reported, opening.at)
        return quiet <= self._promises.obedience

    def _must_be_reported(self, success: Ended, at: float) -> bool:
        """Return whether the store certainly knew of it at that instant."""
        call, within = success.call, self._promises.reporting
        if not call.had_store or call.ended + within > at:
            return False
        if self._quiet_of(call.process).seconds(call.ended, at) < within:
            return False
        life = self._lives.get(call.process)
        return life is None or not life.was_killed or life.ended > call.ended + within

    def _check_operation(self, operation: Operation) -> None:
        rivals = [
            it
            for it in self._operations
            if it.name == operation.name and it is not operation and it.ended > operation.began
        ]
        until = min([it.began for it in rivals], default=math.inf)
        if operation.seconds is not None:
            until = min(until, operation.began + operation.seconds)
        self._check_calls_after(operation, until)
        self._check_records_after(operation, until)

    def _check_calls_after(self, operation: Operation, until: float) -> None:
        timeline = self._timelines[operation.name]
        for call in self._calls_of(operation.name, operation.ended, until):
            if not call.had_store or call.ended >= until:
                continue
            since = max(operation.ended, self._first_calls[call.process])
            quiet = self._quiet_of(call.process).seconds(since, call.began)
            if quiet <= self._promises.obedience or timeline.is_unknown(
                operation.ended, call.ended
            ):
                continue
            self._verdict.checked[f"calls after {operation.kind}"] += 1
            if operation.kind == "forced_open":
                if call.outcome != REJECTED:
                    text = f"{operation.name}: {call.process} lets a call pass {quiet:.2f} s later"
                    self._break("an acknowledged operation binds", call.began, text)
            elif call.outcome == REJECTED and operation.kind == "reset":
                later = timeline.labels_after(operation.began - TOLERANCE, call.ended + TOLERANCE)
                if not later & REJECTING and not self._opened_itself(call, operation.ended):
                    text = f"{operation.name}: {call.process} rejects {quiet:.2f} s after a reset"
                    self._break("an acknowledged operation binds", call.began, text)

    def _check_records_after(self, operation: Operation, until: float) -> None:
        for record in self._records:
            if record.name != operation.name or record.began < operation.ended:
                continue
            if record.ended >= until:
                return
            if self._timelines[operation.name].is_unknown(
                record.began - REVIVED_WITHIN, record.ended
            ):
                continue
            self._verdict.checked["records after operations"] += 1
            is_lost = {
                "forced_open": record.label != "forced_open",
                "release": record.label == "forced_open",
                "reset": record.generation == operation.replaced,
            }[operation.kind]
            if is_lost:
                text = f"{operation.name}: {operation.kind} of {operation.ended:.3f} is not in it"
                self._break("an acknowledged operation is on record", record.began, text)
                return

    def _calls_of(self, name: str, since: float, until: float) -> list[Call]:
        calls = self._calls_by_name[name]
        begins = self._begins_by_name[name]
        return calls[bisect_right(begins, since) : bisect_right(begins, until)]

    def _check_counts(self, record: Record) -> None:
        made = self._made(record.name, record.generation, record.ended)
        early = self._made(record.name, "", record.ended)
        self._verdict.checked["counts"] += 1
        counted = record.calls, record.failures
        most = made[0] + early[0], made[1] + early[1]
        text = f"{record.name} {record.generation}: {counted} on record, {made} + {early} made"
        if counted[0] > most[0] or counted[1] > most[1]:
            self._break("nothing is counted twice", record.began, text)
        if record.is_final and record.label == "closed" and self._is_complete(record):
            self._verdict.checked["final counts"] += 1
            if counted[0] < made[0] or counted[1] < made[1]:
                self._break("nothing is lost", record.began, text)

    def _made(self, name: str, generation: str, until: float) -> tuple[int, int]:
        """Return how many calls of the generation had ended, and how many of them had failed."""
        ends, failures = self._ends.get((name, generation), ([], []))
        return bisect_right(ends, until), bisect_right(failures, until)

    def _is_complete(self, record: Record) -> bool:
        """Return whether no process was killed or without the store since its generation began."""
        calls = [
            it
            for it in self._calls_by_name.get(record.name, [])
            if it.generation == record.generation
        ]
        since = min((it.began for it in calls), default=record.began)
        was_away = any(it.ended > since for it in self._away)
        killed = {life.process for life in self._lives.values() if life.was_killed}
        return not was_away and not any(it.process in killed for it in calls)

    # Indexes.

    @cached_property
    def _first_calls(self) -> dict[str, float]:
        """By process: when it first called, and learned of the breakers."""
        first: dict[str, float] = {}
        for call in self._calls:
            first.setdefault(call.process, call.began)
        return first

    @cached_property
    def _calls_by_name(self) -> dict[str, list[Call]]:
        by_name = defaultdict(list)
        for call in self._calls:
            by_name[call.name].append(call)
        return defaultdict(list, by_name)

    @cached_property
    def _begins_by_name(self) -> dict[str, list[float]]:
        found = {name: [it.began for it in calls] for name, calls in self._calls_by_name.items()}
        return defaultdict(list, found)

    @cached_property
    def _ends(self) -> dict[tuple[str, str], tuple[list[float], list[float]]]:
        """By breaker and generation: when calls ended, and when those ended that failed."""
        ends: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
        for call in self._calls:
            if call.outcome != REJECTED and not self._is_lonely(call):
                all_ends, failures = ends.setdefault((call.name, call.generation), ([], []))
                all_ends.append(call.ended)
                if call.outcome == FAILURE:
                    failures.append(call.ended)
        for lists in ends.values():
            for each in lists:
                each.sort()
        return ends

    @cached_property
    def _ended_by_name(self) -> dict[str, list[Ended]]:
        by_name = defaultdict(list)
        for (_, name), ended in self._ended_by_process.items():
            by_name[name] += ended
        for each in by_name.values():
            each.sort(key=lambda it: it.call.ended)
        return defaultdict(list, by_name)

    @cached_property
    def _ended_by_process(self) -> dict[tuple[str, str], list[Ended]]:
        reports: dict[tuple[str, int], list[float]] = defaultdict(list)
        for it in self._reported:
            reports[it.process, it.thread].append(it.at)
        for times in reports.values():
            times.sort()
        ended = defaultdict(list)
        for call in sorted(self._calls, key=lambda it: it.ended):
            if call.outcome == REJECTED:
                continue
            times = reports[call.process, call.thread]
            at = bisect_right(times, call.ended)
            reported = times[at] if at < len(times) else math.inf
            ended[call.process, call.name].append(Ended(call=call, reported=reported))
        return ended


class _Quiet:
    """The time in which nothing disturbed a process."""

    def __init__(self, spans: list[tuple[float, float]]) -> None:
        self._spans: list[tuple[float, float]] = []
        for began, ended in sorted(spans):
            if self._spans and began <= self._spans[-1][1]:
                self._spans[-1] = self._spans[-1][0], max(ended, self._spans[-1][1])
            else:
                self._spans.append((began, ended))
        self._begins = [began for began, _ in self._spans]

    def seconds(self, since: float, until: float) -> float:
        """Return the undisturbed seconds between two instants."""
        total = max(0.0, until - since)
        first = max(0, bisect_right(self._begins, since) - 1)
        for began, ended in self._spans[first:]:
            if began >= until:
                break
            total -= max(0.0, min(ended, until) - max(began, since))
        return total

    def back(self, until: float, seconds: float) -> float:
        """Return the instant since when so many undisturbed seconds have passed."""
        for began, ended in reversed(self._spans[: bisect_right(self._begins, until)]):
            quiet = max(0.0, until - min(ended, until))
            if quiet >= seconds:
                break
            seconds -= quiet
            until = began
        return until - seconds


class _Timeline:
    """What the store held of one breaker."""

    def __init__(
        self, transitions: list[Transition], records: list[Record], losses: list[Disturbance]
    ) -> None:
        points = [(it.at, it.to_state) for it in transitions]
        points += [(it.began, it.label) for it in records]
        self._points = sorted(points)
        self._times = [at for at, _ in self._points]
        self._moves = sorted((it.at, it.to_state) for it in transitions)
        self._unknown = []
        for loss in losses:
            known_at = min((it.ended for it in records if it.began >= loss.ended), default=math.inf)
            self._unknown.append((loss.began - TOLERANCE, known_at))

    def labels(self, since: float, until: float) -> set[str]:
        """Return what was on record at any time between two instants."""
        first = max(0, bisect_right(self._times, since) - 1)
        seen = {label for at, label in self._points[first:] if at <= until}
        if not seen or self._times[first] > since or self.is_unknown(since, until):
            seen.add(UNKNOWN)  # nothing is known of the time before the first reading
        return seen

    def labels_after(self, since: float, until: float) -> set[str]:
        """Return what began to be on record between two instants."""
        return {label for at, label in self._moves if since <= at <= until}

    def is_unknown(self, since: float, until: float) -> bool:
        return any(began <= until and since <= ended for began, ended in self._unknown)
