"""What a door may catch: every error is an OperatorError, identified by its ``code``."""

import traceback
from uuid import UUID

from analytics_admin.breakers.control import BreakerChanged, BreakerInUse, BreakerNotOpen
from analytics_admin.breakers.runtime import UnknownBreakers
from analytics_admin.caching.clear.soft import AnotherClear, NothingToUndo
from analytics_admin.i18n import Message, OperatorError
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.models import Operation
from analytics_admin.stores.client import OutcomeUnknown, StoreUnavailable
from analytics_admin.stores.contained_logger import ContainedLogger
from analytics_admin.stores.contained_logger import get_logger as get_logger  # noqa: PLC0414  for doors

__all__ = [
    "AnotherClear",
    "AuditUnavailable",
    "BreakerChanged",
    "BreakerInUse",
    "BreakerNotOpen",
    "DuplicateOperation",
    "KeyReused",
    "NothingToUndo",
    "OperationDenied",
    "OperationFailed",
    "OperationRejected",
    "OperationUnderWay",
    "OperatorError",
    "OutcomeUnknown",
    "StoreUnavailable",
    "UnknownAccount",
    "UnknownBreakers",
    "UnknownOperation",
]


class OperationFailed(OperatorError):
    """The store, the audit trail or the code failed; the operation may not be done.

    ``code`` and ``reason`` are those of the failure.
    """


class OperationDenied(OperatorError):
    """The actor lacks the permission; it left a row with status "denied"."""

    code = "permission_denied"

    def __init__(self, operation_id: UUID) -> None:
        super().__init__(Message(_("Not authorized")), operation_id=operation_id)


class OperationRejected(OperatorError):
    """The arguments are unusable, or operations are switched off. Nothing was done or recorded."""

    code = "invalid"


class DuplicateOperation(OperatorError):
    """An operation with this id exists already. Nothing was done now.

    ``first`` is its row; None if somebody else began it, or if it is another kind of operation.
    """

    code = "already_on_record"

    def __init__(self, operation_id: UUID, first: Operation | None) -> None:
        self.first = first
        message = Message(_("An operation with this id exists already: nothing was done"))
        super().__init__(message, operation_id=operation_id)


class AuditUnavailable(OperatorError):
    """The audit trail cannot be read or written."""

    code = "audit_unavailable"


class UnknownOperation(OperatorError, LookupError):
    """No operation has this id."""

    code = "unknown_operation"

    def __init__(self, operation_id: UUID) -> None:
        super().__init__(Message(_("Unknown operation: %(id)s"), id=operation_id))


class UnknownAccount(OperatorError, LookupError):
    """No account has this user name."""

    code = "unknown_user"

    def __init__(self, username: str) -> None:
        super().__init__(Message(_("There is no user '%(name)s'"), name=username))


class KeyReused(OperatorError):
    """Another request of this user has had this key."""

    code = "idempotency_key_reused"

    def __init__(self, operation_id: UUID) -> None:
        text = _("This Idempotency-Key was sent with another request: nothing was done")
        super().__init__(Message(text), operation_id=operation_id)


class OperationUnderWay(OperatorError):
    """The first request with this key has not ended yet; ``wait``: seconds until to ask again."""

    code = "operation_under_way"
    wait = 1

    def __init__(self, operation_id: UUID) -> None:
        text = _("The first request with this Idempotency-Key is still under way")
        super().__init__(Message(text), operation_id=operation_id)


def log_unexpected(logger: ContainedLogger, what: str, error: Exception) -> Message:
    """Log the type and the place of an error, and return the type as a reason for operators.

    Its text is in neither: that may hold a secret, such as a URL with its password.
    """
    places = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s: %s\n%s", what, type(error).__name__, places)
    return Message(_("unexpected error (%(error)s)"), error=type(error).__name__)
