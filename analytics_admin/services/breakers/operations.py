"""What operators do to circuit breakers: reset, hold, release, forget, allow a probe.

Arguments are checked before a store is read. A wrong type is an error in the calling code and
raises TypeError. A bad choice of the operator's raises OperationRejected.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.utils.translation import ngettext_lazy

from analytics_admin.breakers import control, runtime
from analytics_admin.breakers.control import BreakerChange, BreakerChanged, state_message
from analytics_admin.breakers.history import MAX_HISTORY_NAME_CHARS
from analytics_admin.breakers.runtime import registered_names
from analytics_admin.breakers.state import Control
from analytics_admin.breakers.state_machine import CONTROL, PROBE_ALLOWED, RESET
from analytics_admin.i18n import Message, OperatorError
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.models import Operation, with_zone
from analytics_admin.services.audit import Actor
from analytics_admin.services.errors import OperationRejected
from analytics_admin.services.obedience import Obedience, await_obedience
from analytics_admin.services.runner import Command, OperationResult, perform
from analytics_admin.stores.copies import Copies

CONTROLS = tuple(choice.value for choice in Control)
"""What a breaker can be set to."""
MAX_RESULTS_RECORDED = 100
DEFAULT_HOLD_SECONDS = 3600.0
"""How long a hold lasts by default."""
MAX_HOLD_SECONDS = 366 * 86_400.0
"""A longer hold has to be ``math.inf``, which never expires."""
CAUSES = {
    Operation.Kind.RESET_CIRCUIT_BREAKERS: RESET,
    Operation.Kind.CONTROL_CIRCUIT_BREAKERS: CONTROL,
    Operation.Kind.ALLOW_PROBE: PROBE_ALLOWED,
}
"""Of the transitions that an operation makes."""
MAX_RESUMED = 500
"""Breakers whose history is read to find out what an interrupted operation did."""

ExpectedGenerations = str | Mapping[str, str] | None
"""The generation that one breaker must be at, or those of several by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _BreakerCommand(Command[list[BreakerChange]]):
    """A command that changes breakers one by one."""

    expected: Mapping[str, str]
    """The generations that breakers must be at, by name."""

    def record(self, outcome: list[BreakerChange]) -> dict[str, Any]:
        """Keep the row small: how many, and the first hundred that changed state."""
        moved = _rows(change for change in outcome if change.from_state != change.to_state)
        return {
            "count": len(outcome),
            "moved": len(moved),
            "results": moved[:MAX_RESULTS_RECORDED],
        }

    def results(self, outcome: list[BreakerChange]) -> Sequence[Mapping[str, Any]] | None:
        return _rows(outcome)

    def await_copies(self) -> Copies | None:
        return runtime.operator_store().await_copies()

    def await_obedience(self, outcome: list[BreakerChange]) -> Obedience | None:
        return await_obedience(max((change.sequence for change in outcome), default=0))

    def resume(self, operation: Operation) -> list[BreakerChange]:
        """Do it to the breakers to which the process that has ended did not."""
        done = self._find_done(operation)
        rest = self._without(set(done), operation)
        return [*done.values(), *(rest.execute() if rest else [])]

    def _find_done(self, operation: Operation) -> dict[str, BreakerChange]:
        """Return by name what the operation did already, as the breakers' history has it."""
        cause, actor = CAUSES[self.kind], operation.actor[:MAX_HISTORY_NAME_CHARS]
        store = runtime.operator_store()
        names = operation.target_names or sorted(registered_names())
        reading = store.load_many(names[:MAX_RESUMED])
        # By the store's clock: what the operator did just before is another operation.
        since = with_zone(operation.started_at).timestamp() + reading.now - time.time()
        return {
            name: BreakerChange(
                name=name,
                from_state=move.from_state,
                to_state=move.to_state,
                generation="",
                sequence=reading.sequence,
            )
            for name in reading.snapshots
            for move in store.transitions(name)[::-1]
            if (move.cause, move.actor) == (cause, actor) and move.at >= since
        }

    def _expected(self, name: str) -> Mapping[str, str]:
        return {name: self.expected[name]} if name in self.expected else {}

    def _without(self, done: set[str], operation: Operation) -> "_BreakerCommand | None":
        """Return the command for the other breakers; None if there are none."""
        names = operation.target_names or sorted(registered_names())
        rest = [name for name in names if name not in done]
        expected = {name: it for name, it in self.expected.items() if name not in done}
        fields: dict[str, Any] = {"names": rest, "expected": expected}
        return replace(self, **fields) if rest else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetBreakers(_BreakerCommand):
    kind = Operation.Kind.RESET_CIRCUIT_BREAKERS

    names: Sequence[str] | None = None
    only_open: bool = False
    previewed: Collection[str] | None = None
    actor: str

    @property
    def targets(self) -> Mapping[str, Any]:
        names = sorted(set(self.names)) if self.names else "all"
        return {"names": names, "only_open": self.only_open}

    def validate(self) -> None:
        _require_any(self.names)

    def check(self) -> None:
        if self.names:
            runtime.require_known(self.names)

    def preview(self) -> OperationResult:
        plan = control.plan_reset(self.names, only_open=self.only_open, expected=self.expected)
        template = ngettext_lazy(
            "%(number)d circuit breaker would be reset",
            "%(number)d circuit breakers would be reset",
            "number",
        )
        return _dry_run(Message(template, number=len(plan)), plan)

    def execute(self) -> list[BreakerChange]:
        return control.reset(
            self.names,
            only_open=self.only_open,
            actor=self.actor,
            expected=self.expected,
            seen=self.previewed,
        )

    def results(self, outcome: list[BreakerChange]) -> Sequence[Mapping[str, Any]] | None:
        """A reset of all breakers names none."""
        return _rows(outcome) if self._is_selective else None

    def message(self, outcome: list[BreakerChange]) -> str:
        if not self._is_selective:
            return Message(_("All circuit breakers reset successfully"))
        template = ngettext_lazy(
            "%(number)d circuit breaker reset successfully",
            "%(number)d circuit breakers reset successfully",
            "number",
        )
        return Message(template, number=len(outcome))

    @property
    def _is_selective(self) -> bool:
        return self.names is not None or self.only_open


@dataclass(frozen=True, slots=True, kw_only=True)
class SetControl(_BreakerCommand):
    kind = Operation.Kind.CONTROL_CIRCUIT_BREAKERS

    names: Sequence[str]
    control: str
    for_seconds: float | None
    actor: str
    reason: str

    @property
    def targets(self) -> Mapping[str, Any]:
        new_control, seconds = self._hold
        return {
            "names": sorted(set(self.names)),
            "control": new_control.value,
            "for_seconds": seconds,
        }

    def validate(self) -> None:
        _require_any(self.names)
        _parse_hold(self.control, self.for_seconds)

    def check(self) -> None:
        runtime.require_known(self.names)

    def preview(self) -> OperationResult:
        plan = control.plan_control(self.names, self._hold[0], expected=self.expected)
        if len(plan) == 1:
            template: Any = _("circuit breaker %(name)s would be set to %(control)s")
        else:
            template = ngettext_lazy(
                "%(number)d circuit breaker would be set to %(control)s",
                "%(number)d circuit breakers would be set to %(control)s",
                "number",
            )
        return _dry_run(self._describe(template, plan), plan)

    def execute(self) -> list[BreakerChange]:
        new_control, seconds = self._hold
        return control.set_control(
            self.names,
            new_control,
            for_seconds=seconds,
            actor=self.actor,
            reason=self.reason.strip(),
            expected=self.expected,
        )

    def message(self, outcome: list[BreakerChange]) -> str:
        if len(outcome) == 1:
            template: Any = _("Circuit breaker %(name)s set to %(control)s")
        else:
            template = ngettext_lazy(
                "%(number)d circuit breaker set to %(control)s",
                "%(number)d circuit breakers set to %(control)s",
                "number",
            )
        return self._describe(template, outcome)

    @property
    def _hold(self) -> tuple[Control, float | None]:
        return _parse_hold(self.control, self.for_seconds)

    def _describe(self, template: Any, changes: Sequence[BreakerChange]) -> Message:
        return Message(
            template,
            name=changes[0].name,
            number=len(changes),
            control=state_message(self.control),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetBreakers(_BreakerCommand):
    kind = Operation.Kind.FORGET_CIRCUIT_BREAKER

    names: Sequence[str]

    @property
    def targets(self) -> Mapping[str, Any]:
        return {"names": sorted(set(self.names))}

    def validate(self) -> None:
        _require_any(self.names)

    def check(self) -> None:
        if len(self.names) > 1:  # the plan of one says so itself
            runtime.require_known(self.names)
        with suppress(BreakerChanged):  # leaves a row
            self._plan()

    def preview(self) -> OperationResult:
        plan = self._plan()
        if len(plan) == 1:
            template: Any = _("circuit breaker %(name)s would be forgotten")
        else:
            template = ngettext_lazy(
                "%(number)d circuit breaker would be forgotten",
                "%(number)d circuit breakers would be forgotten",
                "number",
            )
        return _dry_run(Message(template, name=plan[0].name, number=len(plan)), plan)

    def execute(self) -> list[BreakerChange]:
        return _one_by_one(
            self.names, lambda name: control.forget(name, expected=self._expected(name))
        )

    def message(self, outcome: list[BreakerChange]) -> str:
        if len(outcome) == 1:
            return Message(_("Circuit breaker %(name)s forgotten"), name=outcome[0].name)
        template = ngettext_lazy(
            "%(number)d circuit breaker forgotten",
            "%(number)d circuit breakers forgotten",
            "number",
        )
        return Message(template, number=len(outcome))

    def await_obedience(self, outcome: list[BreakerChange]) -> Obedience | None:
        """No call goes by a breaker that nobody uses."""
        return None

    def _find_done(self, operation: Operation) -> dict[str, BreakerChange]:
        """A name that is not on the list any more is forgotten; what it was, nobody knows."""
        gone = set(operation.target_names or ()) - set(registered_names())
        return {
            name: BreakerChange(
                name=name, from_state="unknown", to_state=control.FORGOTTEN, generation=""
            )
            for name in sorted(gone)
        }

    def _plan(self) -> list[BreakerChange]:
        return [
            control.plan_forget(name, expected=self._expected(name))
            for name in sorted(set(self.names))
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowProbes(_BreakerCommand):
    kind = Operation.Kind.ALLOW_PROBE

    names: Sequence[str]
    actor: str

    @property
    def targets(self) -> Mapping[str, Any]:
        return {"names": sorted(set(self.names))}

    def validate(self) -> None:
        _require_any(self.names)

    def check(self) -> None:
        if len(self.names) > 1:  # the plan of one says so itself
            runtime.require_known(self.names)
        with suppress(BreakerChanged):  # leaves a row
            self._plan()

    def preview(self) -> OperationResult:
        plan = self._plan()
        if len(plan) == 1:
            template: Any = _("circuit breaker %(name)s would allow a probe")
        else:
            template = ngettext_lazy(
                "%(number)d circuit breaker would allow a probe",
                "%(number)d circuit breakers would allow a probe",
                "number",
            )
        return _dry_run(Message(template, name=plan[0].name, number=len(plan)), plan)

    def execute(self) -> list[BreakerChange]:
        return _one_by_one(
            self.names,
            lambda name: control.allow_probe(name, actor=self.actor, expected=self._expected(name)),
        )

    def message(self, outcome: list[BreakerChange]) -> str:
        if len(outcome) == 1:
            return Message(_("Circuit breaker %(name)s allows a probe"), name=outcome[0].name)
        template = ngettext_lazy(
            "%(number)d circuit breaker allows a probe",
            "%(number)d circuit breakers allow a probe",
            "number",
        )
        return Message(template, number=len(outcome))

    def _plan(self) -> list[BreakerChange]:
        return [
            control.plan_probe(name, expected=self._expected(name))
            for name in sorted(set(self.names))
        ]


def reset_circuit_breakers(  # noqa: PLR0913  each by its name
    *,
    actor: Actor,
    names: Sequence[str] | None = None,
    only_open: bool = False,
    reason: str = "",
    dry_run: bool = False,
    expected_generation: ExpectedGenerations = None,
    operation_id: UUID | None = None,
    previewed: Collection[str] | None = None,
) -> OperationResult:
    """Return breakers to closed with zero counts: all registered ones, or those named.

    ``only_open`` leaves closed breakers alone. ``previewed`` are the names that a preview listed:
    no other breaker is reset.

    Raises:
        TypeError: an argument has another type; ``names`` is one str instead of several.
        ValueError: ``expected_generation`` is one generation, but there is not exactly one name.
        UnknownBreakers: a name is not registered. Nothing was reset, created or recorded.
        BreakerChanged: a breaker is not at its ``expected_generation`` any more, or is not among
            those ``previewed``. Nothing was reset.
        OperatorError: as for ``perform``.
    """
    _require_bool("only_open", only_open)
    for several in (names, previewed):
        if several is not None:
            _require_names(several)
    command = ResetBreakers(
        names=names,
        only_open=only_open,
        expected=_generations_by_name(names or (), expected_generation),
        previewed=previewed,
        actor=actor.name,
    )
    return perform(command, actor=actor, reason=reason, dry_run=dry_run, operation_id=operation_id)


def set_breaker_control(  # noqa: PLR0913  each by its name
    *,
    name: str,
    control: str,
    actor: Actor,
    for_seconds: float | None = None,
    reason: str = "",
    expected_generation: str | None = None,
    dry_run: bool = False,
    operation_id: UUID | None = None,
) -> OperationResult:
    """Hold a breaker forced_open, disabled or metrics_only, or release it with automatic.

    Holds expire after ``for_seconds`` (default 3600; ``math.inf``: never).

    Raises:
        UnknownBreakers: nothing was held, created or recorded.
        BreakerChanged: the breaker is not at ``expected_generation`` any more. Nothing was done.
        OperatorError: as for ``perform``.
    """
    return set_breaker_controls(
        names=[name],
        control=control,
        actor=actor,
        for_seconds=for_seconds,
        reason=reason,
        expected_generation=expected_generation,
        dry_run=dry_run,
        operation_id=operation_id,
    )


def set_breaker_controls(  # noqa: PLR0913  each by its name
    *,
    names: Sequence[str],
    control: str,
    actor: Actor,
    for_seconds: float | None = None,
    reason: str = "",
    expected_generation: ExpectedGenerations = None,
    dry_run: bool = False,
    operation_id: UUID | None = None,
) -> OperationResult:
    """Do what set_breaker_control does to several breakers, as one operation.

    Raises:
        TypeError, ValueError: as for reset_circuit_breakers.
        UnknownBreakers: nothing was done.
        BreakerChanged: nothing was done, unless a breaker changed while the operation ran; then
            its row names those that were set before.
        OperatorError: as for ``perform``.
    """
    _require_names(names)
    command = SetControl(
        names=names,
        control=control,
        for_seconds=for_seconds,
        expected=_generations_by_name(names, expected_generation),
        actor=actor.name,
        reason=reason,
    )
    return perform(command, actor=actor, reason=reason, dry_run=dry_run, operation_id=operation_id)


def forget_breaker(
    *,
    name: str,
    actor: Actor,
    reason: str = "",
    expected_generation: str | None = None,
    dry_run: bool = False,
    operation_id: UUID | None = None,
) -> OperationResult:
    """Remove a mistyped or retired breaker from the list, with its record and history.

    A process that still uses the name registers it again, as closed.

    Raises:
        UnknownBreakers, BreakerInUse: nothing was done or recorded.
        BreakerChanged: the breaker is not at ``expected_generation`` any more. Nothing was done.
        OperatorError: as for ``perform``.
    """
    return forget_breakers(
        names=[name],
        actor=actor,
        reason=reason,
        expected_generation=expected_generation,
        dry_run=dry_run,
        operation_id=operation_id,
    )


def forget_breakers(
    *,
    names: Sequence[str],
    actor: Actor,
    reason: str = "",
    expected_generation: ExpectedGenerations = None,
    dry_run: bool = False,
    operation_id: UUID | None = None,
) -> OperationResult:
    """Do what forget_breaker does to several breakers, as one operation.

    Raises:
        TypeError, ValueError: as for reset_circuit_breakers.
        UnknownBreakers, BreakerInUse: nothing was done or recorded.
        OperatorError: as for set_breaker_controls.
    """
    _require_names(names)
    command = ForgetBreakers(names=names, expected=_generations_by_name(names, expected_generation))
    return perform(command, actor=actor, reason=reason, dry_run=dry_run, operation_id=operation_id)


def allow_probe(
    *,
    name: str,
    actor: Actor,
    reason: str = "",
    expected_generation: str | None = None,
    dry_run: bool = False,
    operation_id: UUID | None = None,
) -> OperationResult:
    """Allow a probe of an open breaker now, instead of at the end of its wait.

    It becomes half-open: the next calls probe, as many as its policy permits, and their results
    close it or open it again.

    Raises:
        UnknownBreakers: nothing was done or recorded.
        BreakerNotOpen: it is closed, half-open or held. Nothing was done or recorded.
        BreakerChanged: the breaker is not at ``expected_generation`` any more. Nothing was done.
        OperatorError: as for ``perform``.
    """
    return allow_probes(
        names=[name],
        actor=actor,
        reason=reason,
        expected_generation=expected_generation,
        dry_run=dry_run,
        operation_id=operation_id,
    )


def allow_probes(
    *,
    names: Sequence[str],
    actor: Actor,
    reason: str = "",
    expected_generation: ExpectedGenerations = None,
    dry_run: bool = False,
    operation_id: UUID | None = None,
) -> OperationResult:
    """Do what allow_probe does to several breakers, as one operation.

    Raises:
        TypeError, ValueError: as for reset_circuit_breakers.
        UnknownBreakers, BreakerNotOpen: nothing was done or recorded.
        OperatorError: as for set_breaker_controls.
    """
    _require_names(names)
    command = AllowProbes(
        names=names,
        expected=_generations_by_name(names, expected_generation),
        actor=actor.name,
    )
    return perform(command, actor=actor, reason=reason, dry_run=dry_run, operation_id=operation_id)


def _one_by_one(
    names: Iterable[str], change: Callable[[str], BreakerChange]
) -> list[BreakerChange]:
    """Return the changes of these breakers, which are made in the order of their names.

    Raises:
        OperatorError: one cannot be changed; it says which were changed before.
    """
    reached: dict[str, BreakerChange] = {}
    for name in sorted(set(names)):
        try:
            reached[name] = change(name)
        except BreakerChanged as error:
            raise BreakerChanged(name, error.status, reached) from error
        except OperatorError as error:
            error.partial_outcome = {
                "count": len(reached),
                "names": list(reached)[: control.MAX_NAMES_RECORDED],
            }
            raise
    return list(reached.values())


def _require_names(names: Iterable[Any]) -> None:
    """Raise TypeError unless these are several str. A single str would be split into letters."""
    if (
        isinstance(names, str)
        or not isinstance(names, Iterable)
        or not all(isinstance(name, str) for name in names)
    ):
        raise TypeError("names has to be a sequence of str, like ['catalog']")


def _require_bool(what: str, value: Any) -> None:
    """Raise TypeError unless it is True or False: "false" must not count as true."""
    if not isinstance(value, bool):
        raise TypeError(f"{what} has to be True or False, not {value!r}")


def _generations_by_name(names: Sequence[str], expected: ExpectedGenerations) -> Mapping[str, str]:
    """Return the generations that the breakers must be at, by name.

    Raises:
        TypeError: neither a generation nor generations by name.
        ValueError: one generation but not one name; a generation of a breaker that is not named.
    """
    if expected is None:
        return {}
    if isinstance(expected, str):
        if len(set(names)) != 1:
            raise ValueError("expected_generation as a str requires exactly one name")
        return {names[0]: expected}
    if not isinstance(expected, Mapping):
        raise TypeError("expected_generation has to be a str, or a mapping by name")
    _require_names([*expected, *expected.values()])
    if names and not expected.keys() <= set(names):
        raise ValueError("expected_generation has a breaker that is not in names")
    return expected


def _parse_hold(control: str, for_seconds: float | None) -> tuple[Control, float | None]:
    """Return the control and its duration in seconds; None: it never expires.

    Raises:
        OperationRejected: no such control or duration.
    """
    if not isinstance(control, str) or control not in set(Control):
        template = _("control: one of %(choices)s")
        raise OperationRejected(Message(template, choices=", ".join(Control)))
    hold = Control(control)
    if hold is Control.AUTOMATIC:
        if for_seconds is not None:
            raise OperationRejected(Message(_("for_seconds: a release has no duration")))
        return hold, None
    seconds = DEFAULT_HOLD_SECONDS if for_seconds is None else for_seconds
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise OperationRejected(Message(_("for_seconds: has to be a number")))
    if seconds == math.inf:
        return hold, None
    if not 0 < seconds <= MAX_HOLD_SECONDS:  # false for a NaN too
        template = _("for_seconds: more than 0, at most %(most)s")
        raise OperationRejected(Message(template, most=f"{MAX_HOLD_SECONDS:.0f}"))
    return hold, float(seconds)


def _require_any(names: Sequence[str] | None) -> None:
    if names is not None and not names:
        raise OperationRejected(Message(_("names: at least one name is needed")))


def _dry_run(plan: str, changes: Sequence[BreakerChange]) -> OperationResult:
    return OperationResult(
        message=Message(_("Dry run: %(plan)s"), plan=plan),
        preview={"count": len(changes), "breakers": _rows(changes)},
        generations={change.name: change.generation for change in changes},
    )


def _rows(changes: Iterable[BreakerChange]) -> list[dict[str, str]]:
    return [
        {"name": change.name, "from": change.from_state, "to": change.to_state}
        for change in changes
    ]
