"""What stops the site from starting: it must not run for real on a store that nobody named."""

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
    """Report a site outside of DEBUG that was not told where its store is."""
    if not _store_is_missing():
        return []
    hint = "Set REDIS_URL to redis://, rediss:// or unix://."
    return [Error(_NO_STORE, hint=hint, id="project.E001")]


def require_store() -> None:
    """Refuse to serve without a store; system checks do not run under WSGI and ASGI.

    Raises:
        ImproperlyConfigured: DEBUG is off and REDIS_URL is not set.
    """
    if _store_is_missing():
        raise ImproperlyConfigured(_NO_STORE)
