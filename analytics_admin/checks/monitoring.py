"""System check of what probes and scrapes need."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, register
from django.urls import NoReverseMatch, reverse

from analytics_admin.checks.settings import TAG, warning
from analytics_admin.middleware import MonitoringMiddleware
from analytics_admin.monitoring.urls import app_name

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
