"""What every act goes through: permission, switches, reason, and one way to fail.

Knows nothing of what the acts do; services says that.
"""

import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from analytics_admin.conf import app_settings
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.models import Operation
from analytics_admin.permissions import Act, is_allowed
from analytics_admin.services import audit
from analytics_admin.services.audit import Actor
from analytics_admin.services.errors import (
    AuditUnavailable,
    DuplicateOperation,
    OperationDenied,
    OperationFailed,
    OperationRejected,
    OutcomeUnknown,
    StoreUnavailable,
)

logger = logging.getLogger("analytics_admin.services")

MAX_REASON_LENGTH = 500

# What the operator reads when an act fails; made into a sentence by ``failure_message``.
FAILURE_MESSAGES = {
    Act.CLEAR_SEARCH_CACHE: _("Failed to clear cache: %(reason)s"),
    Act.UNDO_CLEAR: _("Failed to undo the clear: %(reason)s"),
    Act.SWEEP_SEARCH_CACHE: _("Failed to sweep cache: %(reason)s"),
    Act.RESET_CIRCUIT_BREAKERS: _("Failed to reset circuit breakers: %(reason)s"),
    Act.CONTROL_CIRCUIT_BREAKERS: _("Failed to control circuit breaker: %(reason)s"),
    Act.FORGET_CIRCUIT_BREAKER: _("Failed to forget circuit breaker: %(reason)s"),
    Act.ALLOW_PROBE: _("Failed to let a probe through: %(reason)s"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationResult:
    """What an act says to its operator.

    ``preview`` is set by a dry run alone, which has no ``operation_id``; ``results`` by a reset
    of chosen breakers alone; ``generations``, by name, by a dry run on breakers: what they were at,
    to be the ``expected_generation`` of the act.
    """

    message: str
    operation_id: UUID | None = None
    preview: Mapping[str, Any] | None = None
    results: Sequence[Mapping[str, Any]] | None = None
    generations: Mapping[str, str] | None = None


def failure_message(act: Act, reason: str) -> Message:
    """Return what the operator reads when an act fails."""
    return Message(FAILURE_MESSAGES[act], reason=reason)


def deny(act: Act, *, actor: Actor) -> OperationDenied:
    """Put a refused act on record and return the exception that says so.

    Raises:
        OperationFailed: the audit trail can't be written.
    """
    with translate_errors(act, actor=actor):
        return OperationDenied(audit.record_denied(act.value, actor=actor).pk)


def authorize(act: Act, actor: Actor, reason: str, *, dry_run: bool) -> str:
    """Return the reason, trimmed, when the actor may do the act now.

    Raises:
        TypeError: ``reason`` is no text, or ``dry_run`` neither True nor False.
        OperationDenied, OperationRejected, OperationFailed
    """
    if not isinstance(reason, str) or not isinstance(dry_run, bool):
        raise TypeError("reason has to be a str, and dry_run True or False")
    if actor.user is not None and not is_allowed(actor.user, act):
        raise deny(act, actor=actor)
    settings = app_settings()
    reason = reason.strip()
    if not audit.is_storable(reason):
        raise OperationRejected(
            Message(_("reason: holds characters that are no text")), code="invalid"
        )
    if len(reason) > MAX_REASON_LENGTH:
        words = _("reason: at most %(most)s characters")
        raise OperationRejected(Message(words, most=MAX_REASON_LENGTH), code="invalid")
    if settings.read_only and not dry_run:
        words = _("This site is read-only: acts are switched off")
        raise OperationRejected(Message(words), code="read_only")
    if settings.require_reason and not reason and not dry_run:
        words = _("reason: this site asks for a reason")
        raise OperationRejected(Message(words), code="reason_required")
    return reason


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One try at an act; ``asked_id`` is the id that its caller wants it to have on record."""

    act: Act
    actor: Actor
    asked_id: UUID | None = None
    operation_id: UUID | None = None

    @contextmanager
    def recorded(
        self, *, reason: str, targets: Mapping[str, Any] | None = None
    ) -> Iterator[Operation]:
        """Keep the act's row round the block; see ``audit.audited``."""
        with audit.audited(
            self.act.value,
            actor=self.actor,
            reason=reason,
            targets=targets or {},
            operation_id=self.asked_id,
        ) as operation:
            self.operation_id = operation.pk
            yield operation

    def require_first(self) -> None:
        """Raise DuplicateOperation where somebody is ahead with the id that was asked for.

        What is refused before there is a row may be so because the first one has done it.
        """
        if self.asked_id is None or self.operation_id is not None:
            return
        if first := audit.find_duplicate(self.asked_id, self.act.value, actor=self.actor):
            raise first


@contextmanager
def translate_errors(
    act: Act,
    *,
    actor: Actor,
    passing: tuple[type[Exception], ...] = (),
    operation_id: UUID | None = None,
) -> Iterator[Attempt]:
    """Turn whatever goes wrong in the block into OperationFailed, in words that hold no secret.

    Exceptions of the classes ``passing``, which say that nothing was done, are left as they are,
    unless the act is on record under ``operation_id``: then that is what is said.

    Raises:
        TypeError: ``operation_id`` is no UUID.
        DuplicateOperation, OperationFailed
    """
    if operation_id is not None and not isinstance(operation_id, UUID):
        raise TypeError("operation_id has to be a UUID")
    attempt = Attempt(act=act, actor=actor, asked_id=operation_id)
    try:
        with _told_if_repeated(attempt, passing):
            yield attempt
    except DuplicateOperation:
        raise
    except passing as error:
        if hasattr(error, "operation_id"):
            error.operation_id = attempt.operation_id
        raise
    except (StoreUnavailable, AuditUnavailable, OutcomeUnknown) as error:
        raise _failed(act, error.reason, error.code, attempt) from None
    # The one broad except of the app: the operator is promised an answer whatever breaks, and
    # the exception's text may hold a URL with its password, so only its type and place are kept.
    except Exception as error:
        places = "".join(traceback.format_tb(error.__traceback__))
        logger.error("%s broke: %s\n%s", act, type(error).__name__, places)
        reason = Message(_("unexpected error (%(error)s)"), error=type(error).__name__)
        raise _failed(act, reason, "internal_error", attempt) from None


@contextmanager
def _told_if_repeated(attempt: Attempt, refusals: tuple[type[Exception], ...]) -> Iterator[None]:
    try:
        yield
    except refusals:
        attempt.require_first()
        raise


def _failed(act: Act, reason: str, code: str, attempt: Attempt) -> OperationFailed:
    record = f"operation {attempt.operation_id}" if attempt.operation_id else "not on record"
    logger.warning("%s failed: %s (%s)", act, reason, record)
    message = failure_message(act, reason)
    return OperationFailed(message, reason=reason, code=code, operation_id=attempt.operation_id)
