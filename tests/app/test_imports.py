"""The package's rules: who may import whom, read from the source, and what an import may do."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "analytics_admin"

# Imports run down these layers. Within a layer only rooms of one line may import one another,
# so that doors never know each other, nor engines.
LAYERS = [
    ["admin apps http middleware testing urls templatetags checks"],
    ["api", "console", "management"],
    ["monitoring"],
    ["services permissions tokens"],
    ["breakers", "caching"],
    ["stores"],
    ["conf i18n migrations models signals"],
]
DOORS = {"api", "console", "management"}
ENGINES = {"breakers", "caching"}
FOR_ENGINES = (
    "django.conf",
    "django.core.cache",
    "django.core.signals",
    "django.db.connections",  # a thread of theirs closes those that a search has opened
    "django.dispatch",
)
"""What engines import of Django: settings, signals, aliases of caches."""
DRIVERS = {"redis", "django_redis", "valkey"}
SPEAK_TO_STORES = (
    "stores",
    "breakers.stores",
    "caching.stores",
    "caching.clear",
    "caching.inspection",
    "caching.statistics.store",
    "caching.epochs",
)
"""Where a driver's errors and types may be named."""
KEEP_THEIR_OWN_COUNTS = ("api.throttling",)
"""Throttles count requests, which are no operator's, in a store of Django's."""
MAX_ROOT_MODULES = 12


@dataclass(frozen=True, slots=True, order=True)
class Import:
    """One name that a module imports; ``for_types`` says that only type checkers do."""

    module: str
    target: str
    for_types: bool = False

    def __str__(self) -> str:
        return f"{self.module} imports {self.target}"


class Tree:
    """The imports of a package's modules, each with the module that it leads to."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        """``sources``: path from the repository's root → Python."""
        self.sources = sources
        self.modules = {dotted(path): path for path in sources}
        self.imports = sorted(
            found for path in sources for found in imports_of(path, sources[path])
        )

    def module_of(self, target: str) -> str | None:
        """Return this package's module that holds the name, if it is one of ours."""
        while target and target not in self.modules:
            target = target.rpartition(".")[0]
        return target or None

    def own(self) -> Iterator[tuple[Import, str]]:
        """Yield each import of another module of this package, with that module."""
        for found in self.imports:
            there = self.module_of(found.target)
            if there is not None and there != found.module:
                yield found, there


def dotted(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def room(module: str) -> str:
    """Return the folder or file at the package's root that a module belongs to."""
    return module.split(".")[1] if "." in module else ""


def within(module: str, places: tuple[str, ...]) -> bool:
    return f"{module}.".startswith(tuple(f"{PACKAGE}.{place}." for place in places))


def imports_of(path: str, source: str) -> Iterator[Import]:
    """Yield each absolute name that a file imports, at any depth."""
    module = dotted(path)
    package = path.rpartition("/")[0].split("/")

    def walk(node: ast.AST, for_types: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(module, alias.name, for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(module, f"{base}.{alias.name}", for_types)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body:
                yield from walk(child, True)
            for child in node.orelse:
                yield from walk(child, for_types)
        else:
            for child in ast.iter_child_nodes(node):
                yield from walk(child, for_types)

    return walk(ast.parse(source), False)


Rule = Callable[[Tree], list[str]]
"""Returns what breaks the rule."""


def upward(tree: Tree) -> list[str]:
    level = {
        name: (-number, rooms)
        for number, layer in enumerate(LAYERS)
        for rooms in layer
        for name in rooms.split()
    }
    faults = []
    for found, there in tree.own():
        here, target = room(found.module), room(there)
        if not target:  # the package itself
            continue
        if here not in level or target not in level:
            faults.append(f"{found}: give {here} and {target} their layer")
        elif level[target][0] > level[here][0] or (
            level[target][0] == level[here][0] and level[target][1] != level[here][1]
        ):
            faults.append(str(found))
    return faults


def past_the_services(tree: Tree) -> list[str]:
    return [
        str(found)
        for found, there in tree.own()
        if room(found.module) in DOORS
        and (
            room(there) in ENGINES
            or (room(there) == "stores" and not within(found.module, KEEP_THEIR_OWN_COUNTS))
        )
    ]


def through_the_sites_api(tree: Tree) -> list[str]:
    return [str(found) for found, there in tree.own() if there == f"{PACKAGE}.services"]


def engines_with_django(tree: Tree) -> list[str]:
    return [
        str(found)
        for found in tree.imports
        if room(found.module) in ENGINES
        and found.target.startswith(("django.", "rest_framework."))
        and not f"{found.target}.".startswith(tuple(f"{name}." for name in FOR_ENGINES))
    ]


def drivers_elsewhere(tree: Tree) -> list[str]:
    return [
        str(found)
        for found in tree.imports
        if found.target.split(".")[0] in DRIVERS and not within(found.module, SPEAK_TO_STORES)
    ]


def circles(tree: Tree) -> list[str]:
    """Return modules of which each imports the next, and the last the first."""
    arrows: dict[str, set[str]] = {module: set() for module in tree.modules}
    for found, there in tree.own():
        if not found.for_types:
            arrows[found.module].add(there)
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return [" -> ".join(reversed(error.args[1]))]
    return []


def crowded_root(tree: Tree) -> list[str]:
    modules = [path for path in tree.sources if path.count("/") == 1]
    return modules if len(modules) > MAX_ROOT_MODULES else []


def lua_in_python(tree: Tree) -> list[str]:
    return [
        f"{path}:{node.lineno}"
        for path, source in tree.sources.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and ("redis.call(" in node.value or "redis.pcall(" in node.value)
    ]


PURE = {f"{PACKAGE}.breakers.{name}" for name in ("state_machine", "policy", "predicates", "state")}


def impure(tree: Tree) -> list[str]:
    """The state machine and the policy know the standard library and one another."""
    return [
        str(found)
        for found in tree.imports
        if found.module in PURE
        and tree.module_of(found.target) not in PURE
        and found.target.split(".")[0] not in sys.stdlib_module_names
    ]


RULES = [
    upward,
    past_the_services,
    through_the_sites_api,
    engines_with_django,
    drivers_elsewhere,
    impure,
    circles,
    crowded_root,
    lua_in_python,
]
CIRCLE = {
    "breakers/a.py": "from . import b",
    "breakers/b.py": "def f():\n    from analytics_admin.breakers.c import d",
    "breakers/c.py": "from analytics_admin.breakers import a",
}
BROKEN: dict[str, tuple[Rule, dict[str, str]]] = {
    "an engine imports a service": (
        upward,
        {"breakers/a.py": "if x:\n    from analytics_admin.services import b", "services/b.py": ""},
    ),
    "a door imports another": (
        upward,
        {"api/a.py": "from analytics_admin.console.b import c", "console/b.py": ""},
    ),
    "an engine imports the other": (
        upward,
        {"caching/a.py": "from ..breakers import b", "breakers/__init__.py": ""},
    ),
    "a room without a layer": (upward, {"cellar/a.py": "from .. import conf", "conf.py": ""}),
    "a door imports an engine": (
        past_the_services,
        {"console/a.py": "from analytics_admin.breakers import b", "breakers/__init__.py": ""},
    ),
    "a door imports from what sites import": (
        through_the_sites_api,
        {"api/a.py": "from analytics_admin.services import act", "services/__init__.py": ""},
    ),
    "an engine imports Django's views": (
        engines_with_django,
        {"caching/a.py": "from django.http import HttpRequest"},
    ),
    "a driver where no store is spoken to": (
        drivers_elsewhere,
        {"services/a.py": "def f():\n    import redis"},
    ),
    "a state machine that knows a store": (
        impure,
        {"breakers/policy.py": "from .stores import base", "breakers/stores/base.py": ""},
    ),
    "a circle through a function": (circles, CIRCLE),
    "a crowded root": (crowded_root, {f"{n}.py": "" for n in range(MAX_ROOT_MODULES + 1)}),
    "Lua between Python": (lua_in_python, {"breakers/a.py": "X = \"return redis.call('GET')\""}),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    assert rule(the_package()) == []


@cache
def the_package() -> Tree:
    folder = ROOT / PACKAGE
    sources = {path.relative_to(ROOT).as_posix(): path.read_text() for path in folder.rglob("*.py")}
    return Tree(sources)


@pytest.mark.parametrize(("rule", "files"), BROKEN.values(), ids=BROKEN)
def test_the_rule_finds_what_breaks_it(rule: Rule, files: dict[str, str]) -> None:
    tree = Tree({f"{PACKAGE}/{path}": source for path, source in files.items()})
    assert rule(tree)
    assert {broken for broken, _ in BROKEN.values()} == set(RULES)


def test_what_type_checkers_alone_import_makes_no_circle() -> None:
    files = {
        **CIRCLE,
        "breakers/c.py": "if TYPE_CHECKING:\n    from analytics_admin.breakers import a",
    }
    assert circles(Tree({f"{PACKAGE}/{path}": source for path, source in files.items()})) == []


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
        timeout=100,
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
        timeout=100,
        check=False,
    )
    assert answer.stdout == "False\n", answer.stderr
