"""Fixtures for every test: the throw-away store, users, tokens."""

import gc
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import jwt
import pytest
import redis
from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
)
from django.http import HttpRequest
from django.test import Client
from xdist import is_xdist_controller, is_xdist_worker

from analytics_admin.breakers import listener, runtime
from analytics_admin.breakers.engine import Engine
from analytics_admin.caching import client as cache_client
from analytics_admin.caching import search_cache
from analytics_admin.caching.inspection import status
from analytics_admin.caching.statistics import queries, reporter
from analytics_admin.stores import latency
from tests.settings import STORE_FOLDER
from tests.support.breakers import note_engine, reset_engines
from tests.support.servers import StoreServer
from tests.support.turns import Turns

pytest_plugins = ["tests.support.fixtures"]

_turns = pytest.StashKey[Turns]()
_represented = pytest.StashKey[set[str]]()
_store = StoreServer(socket_path=f"{STORE_FOLDER}/store.sock")
_cleaner = redis.Redis(unix_socket_path=_store.socket_path)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share the tests among the cores, but not those of a few files.

    There is one process more, to work while another waits for a server or for time to pass; but
    not beside fleets, whose processes have to start within seconds.
    """
    folders = [Path(argument) for argument in config.args]
    if config.option.keyword or not all(folder.is_dir() for folder in folders):
        return 0
    has_fleets = any("fleet" in folder.parts for folder in folders)
    return min(4, len(os.sched_getaffinity(0))) + (0 if has_fleets else 1)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["turns"] = STORE_FOLDER


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """Run a hurried test while no other process of this run has one."""
    turns = item.config.stash.get(_turns, None)
    if turns is None:
        return (yield)
    with turns.turn(alone=_is_hurried(item)):
        return (yield)


def pytest_itemcollected(item: pytest.Item) -> None:
    # pytest-django keeps the database from every other test.
    asked_for = {"db", "transactional_db"} & set(getattr(item, "fixturenames", ()))
    if not asked_for and not item.get_closest_marker("django_db"):
        return
    # Of cases that differ in nothing that reaches the database, the first stands for all.
    test = item.nodeid.partition("[")[0]
    seen = item.config.stash.setdefault(_represented, set())
    if test not in seen or not item.get_closest_marker("one_database"):
        item.add_marker("database")
    seen.add(test)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take long files first, so that no process is left with one; and hurried tests at the end."""
    sizes = Counter(item.path for item in items)
    for item in items:
        if item.get_closest_marker("lengthy"):
            sizes[item.path] += len(items)
    items.sort(key=lambda item: (_is_hurried(item), -sizes[item.path], item.path))


def _is_hurried(item: pytest.Item) -> bool:
    return item.get_closest_marker("hurried") is not None


def pytest_sessionstart(session: pytest.Session) -> None:
    # A shell's background job ignores Ctrl-C, and so would every program that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.mkdir(STORE_FOLDER, mode=0o700)
    if is_xdist_controller(session):  # it runs no test itself
        return
    _have_examples_on_any_machine()
    _store.start()
    if is_xdist_worker(session):
        session.config.stash[_turns] = Turns(Path(session.config.workerinput["turns"]))


def _have_examples_on_any_machine() -> None:
    """An example that a busy machine holds up is no failure."""
    import hypothesis  # a second's work, which the process that only hands out the tests is spared

    hypothesis.settings.register_profile(
        "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("any machine")


def pytest_collection_finish() -> None:
    # What was imported stays: the search for garbage need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def pytest_sessionfinish() -> None:
    _store.close()
    shutil.rmtree(STORE_FOLDER, ignore_errors=True)


_tell, _tells = Engine._tell, False


def _tell_if_asked(engine: Engine, store: Any, **options: Any) -> float:
    """Only tell of this process in tests of that: a thread would write into the others."""
    return _tell(engine, store, **options) if _tells else float("inf")


Engine._tell = _tell_if_asked  # type: ignore[method-assign]
runtime.engine._turn._tell = runtime.engine._tell  # it was made before

_begin = Engine.__init__


def _begin_noted(engine: Engine, *arguments: Any, **options: Any) -> None:
    _begin(engine, *arguments, **options)
    note_engine(engine)
    if type(engine) is Engine:  # a simulated one has its own time
        # Its ten seconds, which begin anywhere, begin here: no test is to come upon their end.
        engine.schedule._phase = -time.monotonic()


Engine.__init__ = _begin_noted  # type: ignore[method-assign]


_sign_in = Client._login


def _sign_in_at_once(client: Client, user: Any, backend: str | None = None) -> None:
    """Give a new browser its session, without what Django looks up and writes for real visitors."""
    if settings.SESSION_COOKIE_NAME in client.cookies:
        _sign_in(client, user, backend)
        return
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore()
    request.session[SESSION_KEY] = str(user.pk)
    request.session[BACKEND_SESSION_KEY] = backend or user.backend
    request.session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    request.session.save()
    client._set_login_cookies(request)


Client._login = _sign_in_at_once  # type: ignore[method-assign]


# One fixture: each has its price, and this one is every test's.
@pytest.fixture(autouse=True)
def _clean_store_and_patient_engine(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Every test begins with an empty store.

    A machine that stands still for a moment is no outage, but to tests of the very waits. What a
    test has lost must not come back, and write, in the next one.
    """
    _cleaner.flushall()
    queries.forget()
    status.forget()
    marks = {mark.name for mark in request.node.iter_markers()}
    in_fleet = "fleet" in request.path.parts
    if not in_fleet and "hurried" not in marks:
        monkeypatch.setattr(latency, "MAX_WAIT_SECONDS", 10.0)
        monkeypatch.setattr(latency, "SLOW_ANSWER_SECONDS", 10.0)
        monkeypatch.setattr(cache_client, "REPLY_TIMEOUT", 10.0)
        monkeypatch.setattr(
            "analytics_admin.services.search_cache.queries.MAX_STATISTICS_WAIT_SECONDS", 10.0
        )
        report_before_going_on(monkeypatch)
    # Counts are told when the test says so: a thread of its own would write into the next one.
    if "counting" not in marks:
        monkeypatch.setattr(reporter.Reporter, "_start", lambda reporter: True)
    if in_fleet or "present" in marks:
        monkeypatch.setattr(sys.modules[__name__], "_tells", True)
    # A store that is new is compared with the audit trail by the tests that say so.
    monkeypatch.setattr(runtime, "_reconcile", None)
    monkeypatch.setattr(
        "analytics_admin.services.search_cache.reconciliation.clear_again", lambda receipts: None
    )
    # The same holds for who would hear of them.
    if not in_fleet and "hearing" not in marks:
        monkeypatch.setattr(listener.Listener, "start", lambda *arguments: None)
    search_cache.reconnect()
    search_cache.after_fork()  # of what was counted before, nothing is left to tell
    yield
    reset_engines()
    if marks & {"hearing", "present"}:
        runtime.engine.reconnect()  # its threads would go on by the clock
    search_cache.reconnect()


@pytest.fixture(autouse=True, scope="module")
def _declared_breakers() -> Iterator[None]:
    """What a file's tests declare is gone with them: pages list whatever the process declares."""
    registries: tuple[dict[str, Any], ...] = (runtime._breakers, runtime._options)
    before = [dict(registry) for registry in registries]
    yield
    for registry, kept in zip(registries, before, strict=True):
        if registry != kept:
            registry.clear()
            registry.update(kept)
            runtime._policies.clear()


@pytest.fixture
def reported_before_going_on(monkeypatch: pytest.MonkeyPatch) -> None:
    report_before_going_on(monkeypatch)


def report_before_going_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the store what a call counted, and receivers what it changed, when the call returns."""

    def settled(method: Callable[..., None]) -> Callable[..., None]:
        def settled_method(engine: Engine, *arguments: Any, **options: Any) -> None:
            method(engine, *arguments, **options)
            engine.report_all(10)
            runtime.signal_sender.drain(10)

        return settled_method

    for name in ("record", "release"):
        monkeypatch.setattr(Engine, name, settled(getattr(Engine, name)))


@pytest.fixture
def superuser(db: None) -> Any:
    return get_user_model().objects.create_superuser("admin", "admin@example.com", "pw-admin")


@pytest.fixture
def staff_user(db: None) -> Any:
    return get_user_model().objects.create_user("sam", password="pw-sam", is_staff=True)


@pytest.fixture
def plain_user(db: None) -> Any:
    return get_user_model().objects.create_user("una", password="pw-una")


@pytest.fixture
def mint() -> Callable[..., str]:
    """Mint a token as another service with the same key would; keywords replace claims."""

    def mint(
        sub: Any = "admin", *, key: str | None = None, algorithm: str = "HS256", **claims: Any
    ) -> str:
        payload = {"sub": sub, "exp": int(time.time()) + 300, **claims}
        payload = {name: value for name, value in payload.items() if value is not ...}
        return jwt.encode(payload, key or settings.SIMPLE_JWT["SIGNING_KEY"], algorithm=algorithm)

    return mint
