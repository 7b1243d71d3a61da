"""The walls of the house: who may import whom, read from the source, and what an import may do."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "analytics_admin"
SOURCES = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}

# Imports run downward: wiring > interfaces > services > domains > ground. Rooms of one level do
# not know each other, but for the services.
LEVELS = {
    4: {"admin", "urls", "apps", "testing", "templatetags"},
    3: {"api", "console", "management"},
    2: {
        "services",
        "permissions",
        "tokens",
        "checks",
        "middleware",
    },
    1: {"breakers", "caching"},
    0: {
        "conf",
        "models",
        "migrations",
        "i18n",
        "signals",
        "stores",
        "",
    },
}
LEVEL = {room: level for level, rooms in LEVELS.items() for room in rooms}
BEHIND_SERVICES = {"breakers", "caching", "stores"}
# Throttles count requests, which are no operator's, in a store of Django's.
COUNTS_FOR_ITSELF = {"api/throttling.py"}
PURE_NAMES = ("policy", "state", "state_machine")
PURE = tuple(f"analytics_admin.breakers.{name}." for name in PURE_NAMES)
DRIVERS = {"redis", "django_redis", "valkey"}
DRIVER_FILES = {
    "stores/packing.py",
    "stores/pool.py",
    "breakers/stores/redis.py",
    "caching/entries.py",
    *(f"caching/clear/{name}.py" for name in ("hard", "outcome", "sweep", "tags")),
    *(f"caching/inspection/{name}.py" for name in ("status", "survey")),
    "caching/statistics/store.py",
    "caching/stores/redis.py",
}


def room(module: str) -> str:
    """Return the part of the package that a dotted name or a path belongs to."""
    parts = module.removesuffix(".py").replace("/", ".").removeprefix("analytics_admin").split(".")
    return next((part for part in parts if part and part != "__init__"), "")


def imports(path: Path) -> Iterator[str]:
    """Yield each absolute dotted name that a file imports, at any depth."""
    package = ["analytics_admin", *path.parent.relative_to(PACKAGE).parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def own(name: str) -> Iterator[str]:
    """Yield the rooms of this package that a file imports."""
    for target in imports(SOURCES[name]):
        if f"{target}.".startswith("analytics_admin."):
            yield room(target)


@pytest.mark.parametrize("name", SOURCES)
def test_imports_run_downward_only(name: str) -> None:
    here = room(name)
    for there in own(name):
        assert there in LEVEL, f"{name}: give the room {there!r} its level"
        same_level = here == there or LEVEL[here] in {0, 2}
        assert LEVEL[there] < LEVEL[here] or (LEVEL[there] == LEVEL[here] and same_level), there


@pytest.mark.parametrize("name", [name for name in SOURCES if LEVEL[room(name)] == 3])
def test_interfaces_reach_the_domains_through_services_alone(name: str) -> None:
    assert name in COUNTS_FOR_ITSELF or not BEHIND_SERVICES.intersection(own(name))


@pytest.mark.parametrize("name", SOURCES)
def test_the_store_driver_is_imported_where_the_store_is_spoken_to_alone(name: str) -> None:
    drivers = {target.split(".")[0] for target in imports(SOURCES[name])} & DRIVERS
    assert not drivers or name in DRIVER_FILES


@pytest.mark.parametrize("name", [f"breakers/{name}.py" for name in PURE_NAMES])
def test_the_machine_and_the_policy_know_the_standard_library_and_each_other(name: str) -> None:
    for target in imports(SOURCES[name]):
        pure = target.startswith(PURE)
        assert pure or target.split(".")[0] in sys.stdlib_module_names, target


TOUCHING = """
import pkgutil, sys
from importlib import import_module
import django
from django.conf import settings

def refuse(event, args):
    if event in {"socket.connect", "sqlite3.connect"}:
        raise SystemExit(f"{event} at import")

class Tripwire(dict):
    def items(self):
        raise SystemExit("ANALYTICS_ADMIN was read at import")
    get = __getitem__ = items

sys.addaudithook(refuse)
settings.ANALYTICS_ADMIN = Tripwire()
django.setup()
package = import_module("analytics_admin")
for module in pkgutil.walk_packages(package.__path__, "analytics_admin."):
    import_module(module.name)
print("imported")
"""


def test_importing_everything_touches_no_store_no_database_and_no_setting() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", TOUCHING],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "DATABASE_URL": "sqlite:////nowhere/db.sqlite3",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (answer.returncode, answer.stdout) == (0, "imported\n"), answer.stderr


def test_breakers_and_caching_are_imported_before_there_are_any_settings() -> None:
    asked = "import analytics_admin.breakers, analytics_admin.caching.search_cache\n"
    told = "from django.conf import settings\nprint(settings.configured)"
    bare = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    answer = subprocess.run(
        [sys.executable, "-c", asked + told],
        cwd=ROOT,
        env=bare,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.stdout == "False\n", answer.stderr
