"""System checks of ``SIMPLE_JWT``, whose keys and claims decide what a token is worth here."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from analytics_admin.checks.settings import TAG, check_settings
from analytics_admin.conf import app_settings

KEY_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""RFC 7518 §3.2: an HMAC key at least as long as its hash."""


@register(TAG)
def check_signing_key(**kwargs: Any) -> list[CheckMessage]:
    """Find a key so short that tokens could be forged by trying."""
    given = _simple_jwt()
    least = KEY_BYTES.get(given.get("ALGORITHM", "HS256"))
    if least is None:  # an asymmetric algorithm: its key is a PEM text
        return []
    key = given.get("SIGNING_KEY", settings.SECRET_KEY) or ""
    length = len(key if isinstance(key, bytes) else str(key).encode())
    if length >= least:
        return []
    text = f"The JWT signing key is {length} bytes long; this algorithm needs at least {least}."
    hint = "Set JWT_SIGNING_KEY, or SIMPLE_JWT['SIGNING_KEY'], to a random text of 50 characters."
    return [Error(text, hint=hint, id=f"{TAG}.E009")]


@register(TAG)
def check_token_type(**kwargs: Any) -> list[CheckMessage]:
    """Find refresh tokens of the project's own that do not say what they are."""
    given = _simple_jwt()
    if given.get("TOKEN_TYPE_CLAIM", "token_type") is not None or _is_bounded(given):
        return []
    text = (
        "SIMPLE_JWT['TOKEN_TYPE_CLAIM'] is None: a refresh token of this project can pass for an "
        "access token minted elsewhere, which need not state its type."
    )
    hint = (
        "Leave TOKEN_TYPE_CLAIM at its default, or set ANALYTICS_ADMIN"
        "['EXTERNAL_TOKEN_MAX_LIFETIME'] to less than a refresh token lives."
    )
    return [Warning(text, hint=hint, id=f"{TAG}.W005")]


def _simple_jwt() -> Mapping[str, Any]:
    given: Mapping[str, Any] = getattr(settings, "SIMPLE_JWT", {})
    return given


def _is_bounded(given: Mapping[str, Any]) -> bool:
    """Say whether a new refresh token lives longer than this app takes from elsewhere."""
    if check_settings():  # the bound itself may be unusable
        return False
    longest = app_settings().external_token_max_lifetime
    if longest is None:
        return False
    bound = longest if isinstance(longest, timedelta) else timedelta(seconds=longest)
    lifetime: timedelta = given.get("REFRESH_TOKEN_LIFETIME", timedelta(days=1))
    return bound < lifetime
