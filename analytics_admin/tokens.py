"""Signed tokens that authenticate an operator; ``sub`` is the user name.

Keys and algorithm are simplejwt's settings. The claims are fixed here, because a project's own
claim settings are for its own tokens.
"""

import re
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
# The last second of the year 9999: anything later is a mistake or an attempted overflow.
_LAST_SECOND = 253_402_300_799


class _OperatorToken(Token):
    """A token of either type: verifies an encoded token, or starts a new payload."""

    lifetime = timedelta()  # required by simplejwt, and not used
    lifetime_setting: str  # of simplejwt, read for each new token

    def __init__(self, token: Any = None, verify: bool = True) -> None:
        if token is not None:
            text: Any = _require_text(token)  # simplejwt annotates the text as Token
            super().__init__(text, verify)
            return
        now = int(time.time())
        lifetime: timedelta = getattr(api_settings, self.lifetime_setting)
        self.token = None
        self.payload = {
            "token_type": self.token_type,
            "iat": now,
            "exp": now + int(lifetime.total_seconds()),
            "jti": uuid4().hex,
        }

    @classmethod
    def for_operator(cls, user: Any) -> "_OperatorToken":
        """Return a new token of this type for the user."""
        token = cls()
        token["sub"] = user.get_username()
        return token

    def verify(self) -> None:
        """Check the claims; signature and expiry are already verified.

        Raises:
            TokenError: a claim is missing or invalid.
        """
        _require_time(self.payload, "exp")
        for optional in {"iat", "nbf"} & self.payload.keys():
            _require_time(self.payload, optional)
        _require_subject(self.payload.get("sub"))
        self.verify_token_type()

    def _types(self) -> list[Any]:
        """Return the token's types, by our claim and by the project's."""
        # With TOKEN_TYPE_CLAIM = None, simplejwt writes the type, or the id, under "null".
        claims = {"token_type", api_settings.TOKEN_TYPE_CLAIM or "null"}
        return [self.payload[claim] for claim in claims if claim in self.payload]


class OperatorAccessToken(_OperatorToken):
    """An access token. One without a type counts as an access token minted elsewhere."""

    token_type = "access"  # noqa: S105  a claim's value, not a secret
    lifetime_setting = "ACCESS_TOKEN_LIFETIME"

    def verify_token_type(self) -> None:
        types = self._types()
        if any(token_type != self.token_type for token_type in types):
            raise TokenError("Token has wrong type")
        if not types:
            _require_short_life(self.payload["exp"])


class OperatorRefreshToken(_OperatorToken):
    """A refresh token, valid only in exchange for access tokens; it must state its type."""

    token_type = "refresh"  # noqa: S105  a claim's value, not a secret
    lifetime_setting = "REFRESH_TOKEN_LIFETIME"

    def verify_token_type(self) -> None:
        types = self._types()
        if not types or any(token_type != self.token_type for token_type in types):
            raise TokenError("Token has wrong type")


def issue_access_token(user: Any) -> str:
    """Return a signed access token for the user, valid for ``ACCESS_TOKEN_LIFETIME``."""
    return str(OperatorAccessToken.for_operator(user))


def issue_refresh_token(user: Any) -> str:
    """Return a signed refresh token for the user, valid for ``REFRESH_TOKEN_LIFETIME``."""
    return str(OperatorRefreshToken.for_operator(user))


def user_of(token: _OperatorToken) -> Any:
    """Return the active user of the token.

    Raises:
        TokenError: the user does not exist or is not active.
    """
    try:
        user = get_user_model()._default_manager.get_by_natural_key(token["sub"])
    # ValueError and ValidationError: a USERNAME_FIELD that is a number or a UUID.
    except (ObjectDoesNotExist, MultipleObjectsReturned, ValueError, ValidationError):
        user = None
    if user is None or not user.is_active:
        raise TokenError("No active account for this token")
    return user


def _require_text(token: Any) -> str:
    """Return the token if it is an ASCII string of acceptable length."""
    if not isinstance(token, str) or len(token) > MAX_TOKEN_LENGTH or not token.isascii():
        raise TokenError("Token is invalid")
    return token


def _require_time(payload: dict[str, Any], claim: str) -> None:
    value: Any = payload.get(claim)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= _LAST_SECOND:  # also for NaN and infinity
        raise TokenError(f"Token has no usable '{claim}' claim")


def _require_subject(subject: Any) -> None:
    # A database may fail on NUL, and on half a surrogate pair.
    if not isinstance(subject, str) or not re.fullmatch(r"[^\0\ud800-\udfff]+", subject):
        raise TokenError("Token has no usable 'sub' claim")


def _require_short_life(exp: float) -> None:
    longest = app_settings().external_token_max_lifetime
    if longest is None:
        return
    seconds = longest.total_seconds() if isinstance(longest, timedelta) else longest
    if exp - time.time() > seconds:
        raise TokenError("Token lives longer than this site allows")
