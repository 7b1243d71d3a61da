"""A site of few files, with its own settings and no store, run in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOWHERE = {
    alias: {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    for alias in ("default", "search", "breakers")
}
SETTINGS = f"""
SECRET_KEY = "of a site under test"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "analytics_admin"]
CACHES = {NOWHERE!r}
"""


def run_site(folder: Path, site: Mapping[str, str], *command: str, settings: str = "") -> str:
    """Run a Python module's command in a site of these files; return what it printed.

    ``settings`` are lines that the site's settings have besides.
    """
    for name, text in {**site, "site_settings.py": SETTINGS + settings}.items():
        (folder / name).write_text(text)
    answer = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert answer.returncode == 0, f"{answer.returncode} {answer.stdout}{answer.stderr}"
    return answer.stdout + answer.stderr
