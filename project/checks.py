"""Stops the site from starting in production without a configured store."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

_NO_STORE = "REDIS_URL is not set; the embedded store is for development, with DEBUG on"


def _store_is_missing() -> bool:
    return not settings.DEBUG and not settings.REDIS_URL_IS_SET


@register
def check_store(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a missing REDIS_URL where DEBUG is off."""
    if not _store_is_missing():
        return []
    hint = "Set REDIS_URL to the address of a server, of Sentinels or of a cluster."
    return [Error(_NO_STORE, hint=hint, id="project.E001")]


def require_store() -> None:
    """Refuse to serve without a store: WSGI and ASGI run no system checks.

    Raises:
        ImproperlyConfigured: DEBUG is off and REDIS_URL is not set.
    """
    if _store_is_missing():
        raise ImproperlyConfigured(_NO_STORE)
