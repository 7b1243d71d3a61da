"""What operators do to tokens: end those of a user."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils import timezone

from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.models import Operation
from analytics_admin.services.accounts import find_account, revoke_tokens_of
from analytics_admin.services.audit import Actor, username_of
from analytics_admin.services.errors import UnknownAccount
from analytics_admin.services.runner import Command, OperationResult, perform


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeTokens(Command[None]):
    kind = Operation.Kind.REVOKE_TOKENS

    username: str

    @property
    def targets(self) -> Mapping[str, Any]:
        return {"user": self.username}

    def check(self) -> None:
        self._account()

    def preview(self) -> OperationResult:
        name = username_of(self._account())
        message = Message(_("Dry run: the tokens of %(name)s would end"), name=name)
        return OperationResult(message=message, preview={"user": name})

    def execute(self) -> None:
        revoke_tokens_of(self._account(), at=timezone.now())

    def message(self, outcome: None) -> str:
        template = _(
            "Tokens of %(name)s revoked. Those minted elsewhere without iat stay valid until they "
            "expire"
        )
        return Message(template, name=self.username)

    def record(self, outcome: None) -> dict[str, Any]:
        return {}

    def _account(self) -> Any:
        account = find_account(self.username)
        if account is None:
            raise UnknownAccount(self.username)
        return account


def revoke_tokens(
    *,
    username: str,
    actor: Actor,
    reason: str = "",
    dry_run: bool = False,
    operation_id: UUID | None = None,
) -> OperationResult:
    """End all tokens of a user that were issued until now.

    Tokens minted elsewhere that do not say in ``iat`` when, stay valid until they expire.

    Raises:
        TypeError: an argument has another type.
        UnknownAccount: nothing was done or recorded.
        OperatorError: as for ``perform``.
    """
    if not isinstance(username, str):
        raise TypeError(f"username has to be a str, not {username!r}")
    return perform(
        RevokeTokens(username=username),
        actor=actor,
        reason=reason,
        dry_run=dry_run,
        operation_id=operation_id,
    )
