"""The Django app; ``ready()`` registers the system checks, and what needs the audit trail."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AnalyticsAdminConfig(AppConfig):
    name = "analytics_admin"
    verbose_name = _("Analytics admin")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from analytics_admin.breakers.runtime import register_reconciliation
        from analytics_admin.caching.stores.past import register_audit_trail
        from analytics_admin.checks import (  # noqa: F401  registers the checks
            caches,
            monitoring,
            rights,
            server,
            servers,
            settings,
            tokens,
        )
        from analytics_admin.services.audit import watch_accounts
        from analytics_admin.services.breakers.reconciliation import reconcile
        from analytics_admin.services.search_cache import reconciliation

        watch_accounts()
        register_audit_trail(reconciliation)
        register_reconciliation(reconcile)
        server.log_problems()
