"""Runs every operation: permission, switches and reason, then its row, then the work itself.

Each operation is a command; the runner is the same for all.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

from analytics_admin.conf import app_settings
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.models import Operation
from analytics_admin.permissions import is_allowed
from analytics_admin.services import audit
from analytics_admin.services.audit import Actor
from analytics_admin.services.errors import (
    AuditUnavailable,
    DuplicateOperation,
    OperationDenied,
    OperationFailed,
    OperationRejected,
    OperationUnderWay,
    OperatorError,
    OutcomeUnknown,
    StoreUnavailable,
    log_unexpected,
)
from analytics_admin.services.idempotency import Repeat, take_turn
from analytics_admin.services.obedience import Obedience
from analytics_admin.stores.contained_logger import get_logger
from analytics_admin.stores.copies import Copies

logger = get_logger("analytics_admin.services")

Kind = Operation.Kind
Outcome = TypeVar("Outcome")

FAILURE_MESSAGES: dict[str, str] = {
    Kind.CLEAR_SEARCH_CACHE: _("Failed to clear cache: %(reason)s"),
    Kind.UNDO_CLEAR: _("Failed to undo the clear: %(reason)s"),
    Kind.SWEEP_SEARCH_CACHE: _("Failed to sweep cache: %(reason)s"),
    Kind.RESET_CIRCUIT_BREAKERS: _("Failed to reset circuit breakers: %(reason)s"),
    Kind.CONTROL_CIRCUIT_BREAKERS: _("Failed to control circuit breaker: %(reason)s"),
    Kind.FORGET_CIRCUIT_BREAKER: _("Failed to forget circuit breaker: %(reason)s"),
    Kind.ALLOW_PROBE: _("Failed to allow a probe: %(reason)s"),
    Kind.REVOKE_TOKENS: _("Failed to revoke tokens: %(reason)s"),
    Kind.PRUNE_OPERATIONS: _("Failed to prune the audit trail: %(reason)s"),
}

MAX_REASON_LENGTH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationResult:
    """The result of an operation.

    Only a dry run has a ``preview``, and no ``operation_id``. Only operations on chosen breakers
    have ``results``, one for each. ``generations``, by name, come from a dry run on breakers: pass
    them as ``expected_generation`` to change only what the dry run has shown. ``acknowledged`` says
    how many processes obey a change of breakers. ``warnings`` say what the message does not.
    ``replayed``: it was done before, by an earlier request with the same ``Idempotency-Key``.
    """

    message: str
    operation_id: UUID | None = None
    preview: Mapping[str, Any] | None = None
    results: Sequence[Mapping[str, Any]] | None = None
    generations: Mapping[str, str] | None = None
    acknowledged: Obedience | None = None
    warnings: Sequence[str] = ()
    replayed: bool = False


class Command(ABC, Generic[Outcome]):
    """One operation with its arguments; a frozen dataclass that ``perform`` runs."""

    __slots__ = ()

    kind: ClassVar[Operation.Kind]

    @property
    def targets(self) -> Mapping[str, Any]:
        """What the operation is aimed at, as its row keeps it."""
        return {}

    @property
    def action(self) -> str:
        """What the actor has to be allowed: the kind, or less."""
        return self.kind

    def validate(self) -> None:
        """Raise OperationRejected if the arguments make no sense. Asks no store."""

    def check(self) -> None:
        """Raise an OperatorError for what has to be refused without a row."""

    @abstractmethod
    def preview(self) -> OperationResult:
        """Return what ``execute`` would do now, and change nothing."""

    @abstractmethod
    def execute(self) -> Outcome:
        """Do it. The row is on record by then."""

    def execute_as(self, operation: Operation) -> Outcome:
        """Do it as the operation of this row, where that makes a difference."""
        return self.execute()

    def resume(self, operation: Operation) -> Outcome:
        """Do what is left of this operation, whose process ended on the way.

        Doing it once more from the beginning comes to the same, unless a command says otherwise.
        """
        return self.execute_as(operation)

    @abstractmethod
    def message(self, outcome: Outcome) -> str:
        """Return the message for the operator once it is done."""

    def record(self, outcome: Outcome) -> dict[str, Any]:
        """Return the outcome as the row keeps it."""
        return asdict(outcome)  # type: ignore[call-overload,no-any-return]

    def warnings(self, outcome: Outcome) -> Sequence[str]:
        """Return what the operator should know beside the message."""
        return ()

    def results(self, outcome: Outcome) -> Sequence[Mapping[str, Any]] | None:
        """Return the result of each target, where the operation has several."""
        return None

    def await_copies(self) -> Copies | None:
        """Wait a moment until the copies of the store have what was done; None: it has none.

        Raises nothing.
        """
        return None

    def await_obedience(self, outcome: Outcome) -> Obedience | None:
        """Wait a moment until all processes obey; None for an operation that asks for none.

        It is done and on record by then, whatever goes wrong here.
        """
        return None

    def announce(self, operation: Operation) -> None:
        """Send the signals that are this operation's own."""


def perform(
    command: Command[Any],
    *,
    actor: Actor,
    reason: str = "",
    dry_run: bool = False,
    operation_id: UUID | None = None,
) -> OperationResult:
    """Run the command, or its preview with ``dry_run``.

    Nothing is done before the row is durably on record. The operation runs once per
    ``operation_id``, which becomes the row's key; a dry run uses none up. A request that the actor
    repeats is answered as the first one was.

    Raises:
        TypeError: an argument has the wrong type.
        OperationDenied: the actor lacks the permission. Nothing was done; a "denied" row is left.
        OperationRejected: bad arguments, or operations are switched off. Nothing was done.
        DuplicateOperation: ``operation_id`` is taken. Nothing was done now.
        KeyReused, OperationUnderWay: of a repeated request. Nothing was done now.
        OperationFailed: the store or the audit trail failed.
        OperatorError: the command refused; see each service.
    """
    if operation_id is not None and not isinstance(operation_id, UUID):
        raise TypeError("operation_id has to be a UUID")
    reason = authorize(command, actor, reason, dry_run=dry_run)
    command.validate()
    attempt = _Attempt(kind=command.kind, actor=actor, requested_id=operation_id)
    if dry_run:
        with translate_errors(attempt):
            return command.preview()
    if actor.repeat is None or operation_id is not None:
        return _perform(command, attempt, reason)
    try:
        return _answer_repeat(command, attempt, reason, actor.repeat)
    except DuplicateOperation as error:  # another request with this key has begun meanwhile
        return _answer_repeat(command, attempt, reason, actor.repeat, begun=error.operation_id)


def _answer_repeat(
    command: Command[Any], attempt: "_Attempt", reason: str, repeat: Repeat, begun: Any = None
) -> OperationResult:
    """Run the operation of a request that may come again, or answer as the first one was.

    ``begun`` is the operation of the same request that another process began just now.
    """
    attempt.requested_id = None  # what says that it is under way is no refusal of a duplicate
    with translate_errors(attempt):
        turn = take_turn(repeat)
        if turn.done is None and turn.interrupted is None and begun is not None:
            raise OperationUnderWay(begun)  # it has failed already: the next request may try again
    if turn.done is not None:
        return _replay(turn.done)
    attempt.requested_id, attempt.interrupted = turn.operation_id, turn.interrupted
    return _perform(command, attempt, reason)


def _replay(operation: Operation) -> OperationResult:
    kept = operation.replay if isinstance(operation.replay, dict) else {}
    return OperationResult(
        message=operation.message,
        operation_id=operation.pk,
        results=kept.get("results"),
        acknowledged=Obedience.from_record(operation.outcome_fields.get("acknowledged")),
        warnings=kept.get("warnings") or (),
        replayed=True,
    )


def _perform(command: Command[Any], attempt: "_Attempt", reason: str) -> OperationResult:
    with translate_errors(attempt):
        outage = None if attempt.interrupted else _find_outage(command)
        with attempt.recorded(reason=reason, targets=command.targets) as operation:
            if outage is not None:
                raise outage
            outcome = _execute(command, operation, resumes=attempt.interrupted is not None)
            copies = command.await_copies() or Copies()
            operation.outcome = command.record(outcome) | copies.to_record()
            operation.message = command.message(outcome)
            results = command.results(outcome)
            warnings = [*command.warnings(outcome), *copies.warnings]
            if operation.replay is not None:
                operation.replay |= {"results": results, "warnings": warnings}
    command.announce(operation)
    acknowledged = _await_obedience(command, outcome)
    if acknowledged is not None:
        audit.add_to_outcome(operation, acknowledged=acknowledged.to_record())
    return OperationResult(
        message=operation.message,
        operation_id=operation.pk,
        results=results,
        acknowledged=acknowledged,
        warnings=warnings,
    )


def failure_message(kind: str, reason: str) -> Message:
    """Return the message of an operation that failed."""
    return Message(FAILURE_MESSAGES[kind], reason=reason)


def deny(kind: str, *, actor: Actor) -> OperationDenied:
    """Record a denied operation and return the exception to raise.

    Raises:
        OperationFailed: the audit trail cannot be written.
    """
    with translate_errors(_Attempt(kind=Kind(kind), actor=actor)):
        return OperationDenied(audit.record_denied(kind, actor=actor).pk)


def authorize(command: Command[Any], actor: Actor, reason: str, *, dry_run: bool) -> str:
    """Return the reason, stripped, if the actor may run the operation now.

    Raises:
        TypeError: ``reason`` is no str, or ``dry_run`` no bool.
        OperationDenied, OperationRejected, OperationFailed
    """
    if not isinstance(reason, str) or not isinstance(dry_run, bool):
        raise TypeError("reason has to be a str, and dry_run True or False")
    if actor.user is not None and not is_allowed(actor.user, command.action):
        raise deny(command.kind, actor=actor)
    settings = app_settings()
    if not audit.is_storable(reason):
        raise OperationRejected(Message(_("reason: contains characters that are not text")))
    reason = "" if audit.is_blank(reason) else reason.strip()
    if len(reason) > MAX_REASON_LENGTH:
        template = _("reason: at most %(most)s characters")
        raise OperationRejected(Message(template, most=MAX_REASON_LENGTH))
    if settings.read_only and not dry_run:
        template = _("This site is read-only: operations are switched off")
        raise OperationRejected(Message(template), code="read_only")
    if settings.require_reason and not reason and not dry_run:
        template = _("reason: this site requires a reason")
        raise OperationRejected(Message(template), code="reason_required")
    return reason


@dataclass(slots=True, kw_only=True)
class _Attempt:
    """One run of an operation.

    ``requested_id`` is the id that its caller wants for the row; ``interrupted`` the row of an
    operation to go on with.
    """

    kind: Operation.Kind
    actor: Actor
    requested_id: UUID | None = None
    interrupted: Operation | None = None
    operation_id: UUID | None = None

    @contextmanager
    def recorded(self, *, reason: str, targets: Mapping[str, Any]) -> Iterator[Operation]:
        """Keep the operation's row round the block; see ``audit.audited``."""
        with audit.audited(
            self.kind,
            actor=self.actor,
            reason=reason,
            targets=targets,
            operation_id=self.requested_id,
            interrupted=self.interrupted,
        ) as operation:
            self.operation_id = operation.pk
            yield operation

    def raise_if_duplicate(self) -> None:
        """Raise DuplicateOperation if the requested id is taken.

        A refusal before the row may only mean that the first run has already done it.
        """
        if self.requested_id is None or self.operation_id is not None:
            return
        if duplicate := audit.find_duplicate(self.requested_id, self.kind, actor=self.actor):
            raise duplicate


@contextmanager
def translate_errors(attempt: _Attempt) -> Iterator[None]:
    """Turn what goes wrong in the block into an OperatorError whose text holds no secret.

    Refusals pass as they are, with the id of the row if they left one.
    """
    try:
        with _duplicates_first(attempt):
            yield
    except DuplicateOperation:
        raise
    except (StoreUnavailable, AuditUnavailable, OutcomeUnknown) as error:
        raise _failed(attempt, error.reason, error.code) from None
    except OperatorError as error:
        error.operation_id = attempt.operation_id or error.operation_id
        raise
    # The operator is promised an answer whatever breaks.
    except Exception as error:
        reason = log_unexpected(logger, f"{attempt.kind} broke", error)
        raise _failed(attempt, reason, "internal_error") from None


@contextmanager
def _duplicates_first(attempt: _Attempt) -> Iterator[None]:
    try:
        yield
    except (StoreUnavailable, AuditUnavailable, DuplicateOperation):
        raise
    except OperatorError:
        attempt.raise_if_duplicate()
        raise


def _find_outage(command: Command[Any]) -> StoreUnavailable | None:
    """Let the command refuse before there is a row; return the outage that kept it from asking.

    An outage is reported on the row, and the operator does not wait for the store twice.
    """
    try:
        command.check()
    except StoreUnavailable as error:
        return error
    return None


def _execute(command: Command[Outcome], operation: Operation, *, resumes: bool) -> Outcome:
    """Execute; of one that was refused half-way the row keeps what was done until then."""
    try:
        return command.resume(operation) if resumes else command.execute_as(operation)
    except OperatorError as error:
        operation.outcome = dict(error.partial_outcome)
        raise


def _await_obedience(command: Command[Outcome], outcome: Outcome) -> Obedience | None:
    try:
        return command.await_obedience(outcome)
    # It is done and on record: whatever breaks here must not make it look failed.
    except Exception as error:
        reason = log_unexpected(logger, f"{command.kind}: who obeys is unknown", error)
        return Obedience(processes=None, obeyed=None, error=reason)


def _failed(attempt: _Attempt, reason: str, code: str) -> OperationFailed:
    row = f"operation {attempt.operation_id}" if attempt.operation_id else "not on record"
    logger.warning("%s failed: %s (%s)", attempt.kind, reason, row)
    message = failure_message(attempt.kind, reason)
    return OperationFailed(message, reason=reason, code=code, operation_id=attempt.operation_id)
