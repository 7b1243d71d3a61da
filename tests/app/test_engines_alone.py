"""A process may use the engines without the rest of Django's apps."""

import subprocess
import sys

ALONE = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["analytics_admin"], CACHES={
    "breakers": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
})
django.setup()
from analytics_admin.breakers import circuit_breaker
print(circuit_breaker("alone").call(int))
"""


def test_breakers_work_where_no_accounts_are_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
