"""Keeps the site's secrets out of Django's error pages, error mails and log lines.

The debug page prints settings, the request's META (under runserver: the whole environment) and
every local variable. Values under secret-sounding keys are redacted, and so are known secrets.
"""

import logging
import os
import re
from collections.abc import ItemsView
from html import escape
from types import FrameType
from typing import Any
from urllib.parse import unquote

from django.conf import settings
from django.http import HttpRequest
from django.template.defaultfilters import pprint
from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

REDACTED = SafeExceptionReporterFilter.cleansed_substitute


def known_secrets() -> set[str]:
    """Return the site's secrets, each in every form in which a page could print it."""
    plain = {settings.SECRET_KEY, str(settings.SIMPLE_JWT.get("SIGNING_KEY", ""))}
    plain |= {str(entry.get("PASSWORD", "")) for entry in settings.DATABASES.values()}
    plain |= {
        str(entry.get("OPTIONS", {}).get("PASSWORD", "")) for entry in settings.CACHES.values()
    }
    plain |= {
        str(entry.get("OPTIONS", {}).get("CONNECTION_POOL_KWARGS", {}).get("sentinel_password", ""))
        for entry in settings.CACHES.values()
    }
    plain |= {_password(os.environ.get(name, "")) for name in ("REDIS_URL", "DATABASE_URL")}
    forms = plain | {unquote(secret) for secret in plain}
    forms |= {repr(secret)[1:-1] for secret in forms}
    return (forms | {escape(secret) for secret in forms}) - {""}


def redact(text: str) -> str:
    """Return the text with each known secret replaced by asterisks."""
    for secret in sorted(known_secrets(), key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    return text


def _password(url: str) -> str:
    """Return the password as the URL spells it, quoted or not, however wrong the rest is."""
    netloc = re.split("[/?#]", url.partition("://")[2], maxsplit=1)[0]
    credentials, at, _ = netloc.rpartition("@")
    return credentials.partition(":")[2] if at or "@" not in url else url


def _holds_secret(text: str) -> bool:
    return any(secret in text for secret in known_secrets())


class RedactingFilter(SafeExceptionReporterFilter):
    """Redacts settings, META and variables that hold a secret or an address with credentials."""

    hidden_settings = re.compile(
        SafeExceptionReporterFilter.hidden_settings.pattern + "|LOCATION|URL|DSN",
        flags=re.IGNORECASE,
    )

    def cleanse_setting(self, key: str | int, value: Any) -> Any:
        cleansed = super().cleanse_setting(key, value)
        return REDACTED if isinstance(cleansed, str) and _holds_secret(cleansed) else cleansed

    def get_traceback_frame_variables(
        self, request: HttpRequest | None, tb_frame: FrameType
    ) -> ItemsView[str, Any]:
        variables = super().get_traceback_frame_variables(request, tb_frame)
        # Whole values: the page cuts long ones, and a cut secret would not be recognised.
        return {
            name: REDACTED if _holds_secret(pprint(value)) else value for name, value in variables
        }.items()


class RedactingReporter(ExceptionReporter):
    """Redacts the known secrets in the rest of an error report: the exceptions' messages."""

    def get_traceback_html(self) -> SafeString:
        return SafeString(redact(super().get_traceback_html()))

    def get_traceback_text(self) -> SafeString:
        return SafeString(redact(super().get_traceback_text()))


class RedactingFormatter(logging.Formatter):
    """Redacts the known secrets in log lines and their tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
