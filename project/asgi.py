"""ASGI entry point."""

import os

from django.core.asgi import get_asgi_application

from analytics_admin.middleware import ReportAtShutdown
from project.checks import require_safe_settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
application = ReportAtShutdown(get_asgi_application())
require_safe_settings()
