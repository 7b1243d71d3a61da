"""Signed tokens by which an operator proves who they are; ``sub`` is the user name.

Keys and algorithm are simplejwt's settings. Which claims are read is decided here, because a host
project's claim settings serve its own tokens. Knows nothing of HTTP.
"""

import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.contrib.auth import get_user_model
from django.core.exceptions import MultipleObjectsReturned, ObjectDoesNotExist, ValidationError
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import Token

from analytics_admin.conf import app_settings

MAX_TOKEN_LENGTH = 8192
# The last second of the year 9999: what lies beyond is a mistake or an attempt to overflow.
_LAST_SECOND = 253_402_300_799


class _OperatorToken(Token):
    """A token of either kind; a given text is verified, without one a new payload is begun."""

    lifetime = timedelta()  # simplejwt wants one; each subclass asks for its own when it is used

    def __init__(self, token: Any = None, verify: bool = True) -> None:
        if token is not None:
            text: Any = _as_text(token)  # simplejwt's annotation says Token and means the text
            super().__init__(text, verify)
            return
        now = int(time.time())
        self.token = None
        self.payload = {
            "token_type": self.token_type,
            "iat": now,
            "exp": now + int(self.get_lifetime().total_seconds()),
            "jti": uuid4().hex,
        }

    @classmethod
    def get_lifetime(cls) -> timedelta:
        raise NotImplementedError

    @classmethod
    def for_operator(cls, user: Any) -> "_OperatorToken":
        """Return a new token of this kind for the user."""
        token = cls()
        token["sub"] = user.get_username()
        return token

    @property
    def subject(self) -> str:
        """The user name that the token speaks for."""
        return str(self.payload["sub"])

    def verify(self) -> None:
        """Check the claims; the signature and the expiry have been checked by now.

        Raises:
            TokenError: one of them is missing or is not what it has to be.
        """
        _require_time(self.payload, "exp")
        for optional in {"iat", "nbf"} & self.payload.keys():
            _require_time(self.payload, optional)
        _require_subject(self.payload.get("sub"))
        self.verify_token_type()

    def _types(self) -> list[Any]:
        """Return what the token says of its type, under our claim and under the host's."""
        # A host that names no claim has its tokens' type, or id, written under "null" all the same.
        claims = {"token_type", api_settings.TOKEN_TYPE_CLAIM or "null"}
        return [self.payload[claim] for claim in claims if claim in self.payload]


class OperatorAccessToken(_OperatorToken):
    """Lets its bearer act. One without any type counts as an access token minted elsewhere."""

    token_type = "access"  # noqa: S105  a claim's value, not a secret

    @classmethod
    def get_lifetime(cls) -> timedelta:
        lifetime: timedelta = api_settings.ACCESS_TOKEN_LIFETIME
        return lifetime

    def verify_token_type(self) -> None:
        types = self._types()
        if any(given != self.token_type for given in types):
            raise TokenError("Token has wrong type")
        if not types:
            _require_short_life(self.payload["exp"])


class OperatorRefreshToken(_OperatorToken):
    """Buys new access tokens, and nothing else; it always states its type."""

    token_type = "refresh"  # noqa: S105  a claim's value, not a secret

    @classmethod
    def get_lifetime(cls) -> timedelta:
        lifetime: timedelta = api_settings.REFRESH_TOKEN_LIFETIME
        return lifetime

    def verify_token_type(self) -> None:
        types = self._types()
        if not types or any(given != self.token_type for given in types):
            raise TokenError("Token has wrong type")


def issue_access_token(user: Any) -> str:
    """Return a signed access token for the user, alive for ``ACCESS_TOKEN_LIFETIME``."""
    return str(OperatorAccessToken.for_operator(user))


def issue_refresh_token(user: Any) -> str:
    """Return a signed refresh token for the user, alive for ``REFRESH_TOKEN_LIFETIME``."""
    return str(OperatorRefreshToken.for_operator(user))


def user_of(token: _OperatorToken) -> Any:
    """Return the active user that the token speaks for.

    Raises:
        TokenError: there is no such user, or the account is switched off.
    """
    try:
        user = get_user_model()._default_manager.get_by_natural_key(token.subject)
    # ValueError and ValidationError: a USERNAME_FIELD that is a number or a UUID.
    except (ObjectDoesNotExist, MultipleObjectsReturned, ValueError, ValidationError):
        raise TokenError("No active account for this token") from None
    if not user.is_active:
        raise TokenError("No active account for this token")
    return user


def _as_text(token: Any) -> str:
    """Return the token's text when it can be one: short enough, and nothing but ASCII."""
    if not isinstance(token, str) or len(token) > MAX_TOKEN_LENGTH or not token.isascii():
        raise TokenError("Token is invalid")
    return token


def _require_time(payload: dict[str, Any], claim: str) -> None:
    value = payload.get(claim)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenError(f"Token has no usable '{claim}' claim")
    if not 0 <= value <= _LAST_SECOND:  # nor are NaN and infinity between them
        raise TokenError(f"Token has no usable '{claim}' claim")


def _require_subject(subject: Any) -> None:
    if not isinstance(subject, str) or not subject or "\0" in subject:
        raise TokenError("Token has no usable 'sub' claim")
    if any("\ud800" <= character <= "\udfff" for character in subject):
        raise TokenError("Token has no usable 'sub' claim")


def _require_short_life(exp: float) -> None:
    longest = app_settings().external_token_max_lifetime
    if longest is None:
        return
    seconds = longest.total_seconds() if isinstance(longest, timedelta) else longest
    if exp - time.time() > seconds:
        raise TokenError("Token lives longer than this site allows")
