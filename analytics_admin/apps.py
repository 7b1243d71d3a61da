"""The Django app; ``ready()`` registers the system checks and does nothing else."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AnalyticsAdminConfig(AppConfig):
    name = "analytics_admin"
    verbose_name = _("Analytics admin")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from analytics_admin.checks import caches, settings, tokens  # noqa: F401  registers the checks
