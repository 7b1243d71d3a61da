"""Accounts by their names, whatever field the user model has for those; when their tokens end."""

from datetime import datetime
from hashlib import sha256
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import MultipleObjectsReturned, ObjectDoesNotExist, ValidationError
from django.db import DataError, router

from analytics_admin.models import TokenRevocation, as_stored, with_zone
from analytics_admin.services.audit import username_of

UNUSABLE_NAME = (ValidationError, ValueError, TypeError, ArithmeticError, DataError)
"""What fields and databases raise for a text that is no name of theirs, such as "x" for a number.

ArithmeticError includes OverflowError and those of ``decimal``.
"""


def parse_username(text: str) -> Any:
    """Return the value of the field for names; None if no account can have this name.

    A number, a date or a UUID has many spellings: only the field's own counts.
    """
    users = get_user_model()
    field: Any = users._meta.get_field(users.USERNAME_FIELD)
    try:
        value = field.to_python(text)
        if isinstance(value, str):
            return value if value == text else None
        own = field.value_to_string(users(**{field.attname: value}))
    except UNUSABLE_NAME:
        return None
    return value if text in {own, str(value)} else None


def find_account(username: str) -> Any:
    """Return the account of this name, active or not; None if there is none, or are several.

    Raises:
        DatabaseError: the database does not answer.
    """
    users: Any = get_user_model()
    value = parse_username(username)
    if value is None:
        return None
    accounts = users._default_manager
    try:
        if hasattr(accounts, "get_by_natural_key"):
            return accounts.get_by_natural_key(value)
        return accounts.get(**{users.USERNAME_FIELD: value})
    except (ObjectDoesNotExist, MultipleObjectsReturned, *UNUSABLE_NAME):
        return None


def find_revocation(user: Any) -> datetime | None:
    """Return when the tokens of this user name were last revoked."""
    rows = TokenRevocation.objects.using(router.db_for_write(TokenRevocation))
    row = rows.filter(pk=_revocation_key(user)).first()
    return None if row is None else with_zone(row.revoked_at)


def revoke_tokens_of(user: Any, *, at: datetime) -> None:
    """End the user's tokens; ``at`` is the present time."""
    alias = router.db_for_write(TokenRevocation)
    TokenRevocation.objects.using(alias).update_or_create(
        pk=_revocation_key(user), defaults={"revoked_at": as_stored(at)}
    )


def _revocation_key(user: Any) -> str:
    """A name's, not an account's: it outlives an account that is created again."""
    return sha256(username_of(user).encode(errors="surrogatepass")).hexdigest()
