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
        "OPTIONS": {
            "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
            "SOCKET_CONNECT_TIMEOUT": 0.5,
            "SOCKET_TIMEOUT": 0.5,
        },
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
import sys
import analytics_admin, django
django.setup()
assert analytics_admin.__file__.startswith(sys.prefix), analytics_admin.__file__
from django.core.cache import caches
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

# What follows runs Lua scripts of the package in the store.
from analytics_admin.breakers import CircuitOpenError, circuit_breaker
from analytics_admin.caching import search_cache
from analytics_admin.services import list_breakers

def fail():
    raise OSError

stock = circuit_breaker("stock", failure_threshold=1)
for expected in (OSError, CircuitOpenError):
    try:
        stock.call(fail)
    except expected:
        pass
assert search_cache.get_or_compute("lamp", lambda: 1) == 1
assert search_cache.get("lamp") == 1
call_command("clear_search_cache", "--soft", "--no-input")
call_command("undo_clear", "--no-input")
call_command("clear_search_cache", "--no-input")
assert search_cache.get("lamp") is None
call_command("reset_circuit_breakers", "--no-input")
assert [status.state for status in list_breakers()] == ["closed"]
"""
HOST_SAYS = """\
Search cache cleared softly: stale results for at most 60 s
Soft clear undone
Search cache cleared
All circuit breakers reset successfully
obeyed by 1 of 1 process
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built from a copy of the tree."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "analytics_admin", source / "analytics_admin", ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source)
    return next(folder.glob("analytics_admin-*.whl"))


@pytest.fixture(scope="module")
def host(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has installed the package, and what it asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("host")
    (folder / "host_settings.py").write_text(HOST_SETTINGS)
    (folder / "host_urls.py").write_text(HOST_URLS)
    run(sys.executable, "-m", "venv", folder / "venv")
    run(folder / "venv/bin/pip", "install", "-q", "--no-compile", wheel)
    return folder


def run(*argv: str | Path, cwd: Path | None = None) -> str:
    """Run a program that knows of this tree's packages only what ``argv`` names."""
    done = subprocess.run(
        [str(part) for part in argv],
        cwd=cwd,
        env={
            **{name: os.environ[name] for name in os.environ if name.startswith("PIP_")},
            "HOME": os.environ.get("HOME", "/"),
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "host_settings",
            "REDIS_URL": os.environ["REDIS_URL"],
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_holds_every_file_of_the_app_and_nothing_of_the_site(wheel: Path) -> None:
    app = ROOT / "analytics_admin"
    there = {path for path in app.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    with zipfile.ZipFile(wheel) as packed:
        files = {name for name in packed.namelist() if ".dist-info/" not in name}
    assert files == {path.relative_to(ROOT).as_posix() for path in there}
    assert any(name.endswith(".lua") for name in files)


def test_a_host_project_checks_migrates_shows_the_console_and_acts(host: Path) -> None:
    python = host / "venv/bin/python"
    checked = run(python, "-m", "django", "check", "--fail-level", "WARNING", cwd=host)
    assert checked == "System check identified no issues (0 silenced).\n"
    assert run(python, "-c", HOST_USE, cwd=host) == HOST_SAYS


def test_it_says_what_it_runs_on_as_readme_does() -> None:
    (line,) = re.findall(r"^Python .*", (ROOT / "README.md").read_text(), re.MULTILINE)
    first, last = (int(minor) for minor in re.findall(r"3\.(\d+)", line))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">=3.{first}"
    said = [name.rpartition(" :: ")[2] for name in project["classifiers"]]
    assert [name for name in said if re.fullmatch(r"3\.\d+", name)] == [
        f"3.{minor}" for minor in range(first, last + 1)
    ]
    (djangos,) = re.findall(r"Django ([\d., and]+\d)", line)
    assert [name for name in said if re.fullmatch(r"[456]\.\d", name)] == re.findall(
        r"\d\.\d", djangos
    )


def test_it_asks_for_what_the_tests_ran_with() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ranges = {wanted.name: wanted.specifier for wanted in map(Requirement, asked)}
    first_block = (ROOT / "requirements.txt").read_text().split("\n\n")[1]
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", first_block, re.MULTILINE))
    assert ranges.keys() == pins.keys()
    assert [name for name, pin in pins.items() if pin not in ranges[name]] == []
