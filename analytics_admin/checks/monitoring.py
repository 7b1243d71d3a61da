"""System checks of what probes and scrapes need."""

from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, register
from django.urls import NoReverseMatch, reverse

from analytics_admin.checks.settings import TAG, are_unusable, check_settings, error, warning
from analytics_admin.conf import app_settings
from analytics_admin.middleware import MonitoringMiddleware
from analytics_admin.monitoring.urls import app_name

MIN_TOKEN_CHARACTERS = 16
MIDDLEWARE = f"{MonitoringMiddleware.__module__}.{MonitoringMiddleware.__qualname__}"


@register(TAG)
def check_middleware(**kwargs: Any) -> list[CheckMessage]:
    """Report URLs of monitoring that the site's other middleware may keep from those who ask."""
    try:
        reverse(f"{app_name}:healthz")
    except NoReverseMatch:
        return []
    if next(iter(settings.MIDDLEWARE), None) == MIDDLEWARE:
        return []
    text = "Probes and scrapes pass other middleware first, which may refuse or redirect them"
    return [warning("W013", text, f"Put '{MIDDLEWARE}' first in MIDDLEWARE.")]


@register(TAG)
def check_metrics(**kwargs: Any) -> list[CheckMessage]:
    """Report a token of the metrics that is easily guessed, or of no use."""
    if are_unusable(check_settings()) or not (token := app_settings().metrics_token):
        return []
    messages: list[CheckMessage] = []
    if find_spec("prometheus_client") is None:
        text = "METRICS_TOKEN is set, and prometheus-client is not installed"
        messages.append(error("E019", text, "Install analytics-admin[metrics], or unset it."))
    if len(token) < MIN_TOKEN_CHARACTERS:
        text = f"METRICS_TOKEN has fewer than {MIN_TOKEN_CHARACTERS} characters: it can be guessed"
        messages.append(warning("W014", text, "Take a random text of 40 characters."))
    return messages
