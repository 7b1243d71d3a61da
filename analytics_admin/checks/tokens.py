"""System checks of ``SIMPLE_JWT``: key length and token types."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, register

from analytics_admin.checks.settings import TAG, check_settings, error, warning
from analytics_admin.conf import app_settings

KEY_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""RFC 7518 §3.2: an HMAC key at least as long as its hash."""


@register(TAG)
def check_signing_key(**kwargs: Any) -> list[CheckMessage]:
    """Report a key so short that tokens could be forged by brute force."""
    simple_jwt = _simple_jwt()
    least = KEY_BYTES.get(simple_jwt.get("ALGORITHM", "HS256"))
    if least is None:  # an asymmetric algorithm, whose key is a PEM text
        return []
    key = simple_jwt.get("SIGNING_KEY", settings.SECRET_KEY) or ""
    length = len(key if isinstance(key, bytes) else str(key).encode())
    if length >= least:
        return []
    text = f"The JWT signing key is {length} bytes long; this algorithm needs at least {least}"
    hint = "Set JWT_SIGNING_KEY, or SIMPLE_JWT['SIGNING_KEY'], to a random text of 50 characters."
    return [error("E009", text, hint)]


@register(TAG)
def check_token_type(**kwargs: Any) -> list[CheckMessage]:
    """Report refresh tokens of the project that do not state their type."""
    simple_jwt = _simple_jwt()
    names_type = simple_jwt.get("TOKEN_TYPE_CLAIM", "token_type") is not None
    if names_type or _refuses_refresh_tokens(simple_jwt):
        return []
    text = (
        "SIMPLE_JWT['TOKEN_TYPE_CLAIM'] is None: a refresh token of this project can pass for an "
        "access token minted elsewhere, which need not state its type"
    )
    hint = (
        "Leave TOKEN_TYPE_CLAIM at its default, or set ANALYTICS_ADMIN"
        "['EXTERNAL_TOKEN_MAX_LIFETIME'] to less than a refresh token lives."
    )
    return [warning("W005", text, hint)]


def _simple_jwt() -> Mapping[str, Any]:
    simple_jwt: Mapping[str, Any] = getattr(settings, "SIMPLE_JWT", {})
    return simple_jwt


def _refuses_refresh_tokens(simple_jwt: Mapping[str, Any]) -> bool:
    """Return whether new refresh tokens outlive what EXTERNAL_TOKEN_MAX_LIFETIME accepts."""
    if check_settings():  # the setting itself may be unusable
        return False
    longest = app_settings().external_token_max_lifetime
    if longest is None:
        return False
    accepted = longest if isinstance(longest, timedelta) else timedelta(seconds=longest)
    lifetime: timedelta = simple_jwt.get("REFRESH_TOKEN_LIFETIME", timedelta(days=1))
    return accepted < lifetime
