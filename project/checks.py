"""Stops the site from starting in production without a store, and anywhere with a short key."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from analytics_admin.checks.tokens import check_signing_key

_NO_STORE = "REDIS_URL is not set; the embedded store is for development, with DEBUG on"


@register
def check_store(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a missing REDIS_URL where DEBUG is off."""
    if settings.DEBUG or settings.REDIS_URL_IS_SET:
        return []
    hint = "Set REDIS_URL to the address of a server, of Sentinels or of a cluster."
    return [Error(_NO_STORE, hint=hint, id="project.E001")]


def require_safe_settings() -> None:
    """Refuse to serve without a store or with a short key: WSGI and ASGI run no system checks.

    Raises:
        ImproperlyConfigured: DEBUG is off and REDIS_URL is not set, or the key that signs tokens
            is so short that they could be forged.
    """
    for problem in (*check_store(None), *check_signing_key()):
        raise ImproperlyConfigured(problem.msg)
