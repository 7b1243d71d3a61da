"""Signed tokens that authenticate an operator; ``sub`` is the user name.

Keys and algorithm are simplejwt's settings. The claims are fixed here, because a project's own
claim settings are for its own tokens.

A token from here carries a seal of its account: it ends with the account's password, with its name,
and with the account itself. A token minted elsewhere has none; it ends by ``exp``, or by
``revoke_tokens`` if it says in ``iat`` when it was issued.
"""

import hmac
import re
import time
from collections.abc import Iterator
from copy import copy
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any
from uuid import uuid4

from django.apps import apps
from django.conf import settings
from django.utils.crypto import salted_hmac
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import Token

from analytics_admin.conf import app_settings
from analytics_admin.models import as_stored
from analytics_admin.services.accounts import find_account, find_revocation
from analytics_admin.services.audit import username_of

MAX_TOKEN_LENGTH = 8192
SEAL_CLAIM = "analytics_admin"
BLACKLIST = "rest_framework_simplejwt.token_blacklist"
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
        token["sub"] = username_of(user)
        token[SEAL_CLAIM] = next(_seals(user))
        return token

    def get_token_backend(self) -> TokenBackend:
        return _with_leeway(super().get_token_backend(), _leeway())

    @property
    def is_sealed(self) -> bool:
        """Whether it claims to come from here; ``user_of`` verifies it."""
        return SEAL_CLAIM in self.payload

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
        if not self.is_sealed:
            _require_short_life(self.payload["exp"])

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
        if any(token_type != self.token_type for token_type in self._types()):
            raise TokenError("Token has wrong type")


class OperatorRefreshToken(_OperatorToken):
    """A refresh token, valid only in exchange for access tokens; it comes from here."""

    token_type = "refresh"  # noqa: S105  a claim's value, not a secret
    lifetime_setting = "REFRESH_TOKEN_LIFETIME"

    def verify_token_type(self) -> None:
        types = self._types()
        if not types or any(token_type != self.token_type for token_type in types):
            raise TokenError("Token has wrong type")
        if not self.is_sealed:
            raise TokenError("Token was not issued here")


def issue_access_token(user: Any) -> str:
    """Return a signed access token for the user, valid for ``ACCESS_TOKEN_LIFETIME``."""
    return str(OperatorAccessToken.for_operator(user))


def issue_refresh_token(user: Any) -> str:
    """Return a signed refresh token for the user, valid for ``REFRESH_TOKEN_LIFETIME``."""
    return str(OperatorRefreshToken.for_operator(user))


def exchange_refresh_token(text: str) -> dict[str, str]:
    """Return a new access token for a refresh token, and a new refresh token if simplejwt rotates.

    With BLACKLIST_AFTER_ROTATION, and simplejwt's blacklist installed, the old one is good once.

    Raises:
        TokenError: the token, or its user, is not valid.
    """
    refresh = OperatorRefreshToken(text)
    user = user_of(refresh)
    if apps.is_installed(BLACKLIST):
        _require_not_blacklisted(refresh)
    pair = {"access": issue_access_token(user)}
    if api_settings.ROTATE_REFRESH_TOKENS:
        if api_settings.BLACKLIST_AFTER_ROTATION and apps.is_installed(BLACKLIST):
            _blacklist(refresh, user, text)
        pair["refresh"] = issue_refresh_token(user)
    return pair


def user_of(token: _OperatorToken) -> Any:
    """Return the active user of the token.

    Raises:
        TokenError: the user does not exist or is not active, or the token has ended.
    """
    user = find_account(token["sub"])
    if user is None or not user.is_active:
        raise TokenError("No active account for this token")
    if token.is_sealed:
        seal = str(token[SEAL_CLAIM]).encode()
        if not any(hmac.compare_digest(seal, valid.encode()) for valid in _seals(user)):
            raise TokenError("Token has ended: sign in again")
    elif "iat" in token:
        revoked_at = find_revocation(user)
        if revoked_at is not None and token["iat"] <= revoked_at.timestamp():
            raise TokenError("Token has been revoked")
    return user


def _seals(user: Any) -> Iterator[str]:
    """Yield the seal of the account as it is now, then those by earlier secret keys."""
    revoked_at = find_revocation(user)
    since = "" if revoked_at is None else revoked_at.astimezone(UTC).isoformat()
    for password in _password_hashes(user):
        sealed = "\n".join([str(user.pk), username_of(user), password, since])
        yield sha256(sealed.encode(errors="surrogatepass")).hexdigest()[:32]


def _password_hashes(user: Any) -> Iterator[str]:
    """Yield what sessions are bound to: a keyed hash of the password, and what a site adds."""
    if not hasattr(user, "get_session_auth_hash"):  # not made of Django's AbstractBaseUser
        password = str(getattr(user, "password", ""))
        yield salted_hmac("analytics_admin.tokens", password, algorithm="sha256").hexdigest()
        return
    yield user.get_session_auth_hash()
    yield from user.get_session_auth_fallback_hash()


def _leeway() -> float:
    """Return the seconds that clocks may differ: simplejwt's setting, if the site has it."""
    own = getattr(settings, "SIMPLE_JWT", {}).get("LEEWAY", ...)
    seconds = app_settings().token_leeway if own is ... else own or 0
    return seconds.total_seconds() if isinstance(seconds, timedelta) else float(seconds)


@lru_cache(maxsize=4)
def _with_leeway(backend: TokenBackend, seconds: float) -> TokenBackend:
    lenient = copy(backend)  # shares the keys; the project's own tokens keep their leeway
    lenient.leeway = seconds
    return lenient


def _require_not_blacklisted(token: _OperatorToken) -> None:
    from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken

    if BlacklistedToken._default_manager.filter(token__jti=token["jti"]).exists():
        raise TokenError("Token is blacklisted")


def _blacklist(token: _OperatorToken, user: Any, text: str) -> None:
    """Blacklist the token; of several requests with the same one, the first may do it."""
    from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken

    issued = {
        "user": user,
        "token": text,
        "created_at": as_stored(datetime.fromtimestamp(token["iat"], UTC)),
        "expires_at": as_stored(datetime.fromtimestamp(token["exp"], UTC)),
    }
    outstanding, _ = OutstandingToken._default_manager.get_or_create(
        jti=token["jti"], defaults=issued
    )
    _, is_first = BlacklistedToken._default_manager.get_or_create(token=outstanding)
    if not is_first:
        raise TokenError("Token is blacklisted")


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
