"""The app as a host project installs it: built from this tree, complete, working by itself."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.sites import ROOT

HOST_SETTINGS = """
import os

SECRET_KEY = "a-host-project-of-a-test-with-a-key-that-is-long-enough"
DEBUG = True
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "host_urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "analytics_admin",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "static/"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "host.sqlite3"}}
CACHES = {
    alias: {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ["REDIS_URL"] + f"?db={database}",
        "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 0.5, "SOCKET_TIMEOUT": 0.5},
    }
    for database, alias in enumerate(["default", "search", "breakers"], start=8)
}
"""
HOST_URLS = """
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/", include("analytics_admin.urls")),
]
"""
HOST_USE = """
import analytics_admin, django, os
django.setup()
assert analytics_admin.__file__.startswith(os.environ["PYTHONPATH"]), analytics_admin.__file__
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client

call_command("migrate", verbosity=0)
call_command("makemigrations", "--check", verbosity=0)
client = Client()
client.force_login(User.objects.create_superuser("admin"))
for page in ("searchcache", "circuitbreaker", "operation"):
    assert client.get(f"/admin/analytics_admin/{page}/").status_code == 200, page
assert client.post("/admin/analytics_admin/circuitbreaker/reset/").status_code == 200
assert client.post("/admin/analytics_admin/searchcache/clear/").status_code == 200
assert client.post("/api/v1/analytics/cache/clear").status_code == 401
assert finders.find("analytics_admin/console.css")
call_command("clear_search_cache", "--no-input")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip would put among a host's packages, built from a copy of the tree."""
    folder = tmp_path_factory.mktemp("package")
    source, target = folder / "source", folder / "installed"
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "analytics_admin", source / "analytics_admin", ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir")
    built = subprocess.run(
        [*pip, str(folder), str(source)], check=False, capture_output=True, text=True, timeout=100
    )
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(folder.glob("analytics_admin-*.whl"))) as wheel:
        wheel.extractall(target)
    return target


def test_it_holds_every_file_of_the_app_and_nothing_of_the_site(installed: Path) -> None:
    app = ROOT / "analytics_admin"
    there = {path for path in app.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    packed = {path for path in installed.rglob("*") if ".dist-info" not in str(path)}
    assert {str(path.relative_to(installed)) for path in packed if path.is_file()} == {
        str(path.relative_to(ROOT)) for path in there
    }


def test_a_host_project_migrates_shows_the_console_and_acts(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "host_settings.py").write_text(HOST_SETTINGS)
    (tmp_path / "host_urls.py").write_text(HOST_URLS)
    done = subprocess.run(
        [sys.executable, "-c", HOST_USE],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(installed),
            "DJANGO_SETTINGS_MODULE": "host_settings",
            "REDIS_URL": os.environ["REDIS_URL"],
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "Search cache cleared\n"), done.stderr


def test_it_asks_for_what_the_tests_ran_with() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ranges = {wanted.name: wanted.specifier for wanted in map(Requirement, asked)}
    first_block = (ROOT / "requirements.txt").read_text().split("\n\n")[1]
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", first_block, re.MULTILINE))
    assert ranges.keys() == pins.keys()
    assert [name for name, pin in pins.items() if pin not in ranges[name]] == []
