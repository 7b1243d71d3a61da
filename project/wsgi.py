"""WSGI entry point."""

import os

from django.core.wsgi import get_wsgi_application

from project.checks import require_safe_settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
application = get_wsgi_application()
require_safe_settings()
