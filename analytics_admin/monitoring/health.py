"""Whether the site can serve: asks the database and both stores, within a bounded time."""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing
from time import monotonic

from django.db import connections, router

from analytics_admin.conf import app_settings
from analytics_admin.models import Operation
from analytics_admin.stores.client import is_local_memory, operation_client
from analytics_admin.stores.contained_logger import get_logger
from analytics_admin.stores.executor import StoreExecutor

logger = get_logger("analytics_admin.monitoring")

MAX_SECONDS = 0.8
"""Within which every dependency has to answer: Kubernetes waits for a second unless it is told."""
STORE_TIMEOUT = 0.5
"""Seconds for connecting to a store and for its answer."""
OK = "ok"
UNAVAILABLE = "unavailable"
NO_ANSWER = "no answer"


def _ask_database() -> None:
    connection = connections.create_connection(router.db_for_read(Operation))
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _ask_store(alias: str) -> None:
    if is_local_memory(alias):
        return
    with operation_client(alias, timeout=STORE_TIMEOUT) as client:
        client.time()


DEPENDENCIES: Mapping[str, Callable[[], None]] = {
    "database": _ask_database,
    "breakers": lambda: _ask_store(app_settings().breaker_cache),
    "search_cache": lambda: _ask_store(app_settings().search_cache),
}
"""What the site needs, by name: each raises if it does not answer."""

_running: dict[tuple[int, str], "Future[str]"] = {}
"""Questions under way, by process and name: however often somebody asks, one thread waits."""
_last: dict[str, str] = {}


def ask_dependencies(names: Iterable[str]) -> dict[str, str]:
    """Return OK, UNAVAILABLE or NO_ANSWER by name, within MAX_SECONDS."""
    ends_at = monotonic() + MAX_SECONDS
    questions = {name: _ask(name) for name in names}
    answers = {name: _wait(question, ends_at) for name, question in questions.items()}
    for name, answer in answers.items():
        _log_change(name, answer)
    return answers


def _ask(name: str) -> "Future[str]":
    key = os.getpid(), name
    running = _running.get(key)
    if running is not None and not running.done():
        return running
    executor = StoreExecutor(threads=1)
    future = _running[key] = executor.submit(lambda: _answer(DEPENDENCIES[name]))
    future.add_done_callback(lambda _: executor.shut_down())
    return future


def _answer(ask: Callable[[], None]) -> str:
    try:
        ask()
    except Exception:  # of the driver, or of a site's own backend; its text may hold a secret
        return UNAVAILABLE
    return OK


def _wait(question: "Future[str]", ends_at: float) -> str:
    try:
        return question.result(timeout=max(0.0, ends_at - monotonic()))
    except FutureTimeout:
        return NO_ANSWER


def _log_change(name: str, answer: str) -> None:
    before, _last[name] = _last.get(name, OK), answer
    if answer == before:
        return
    if answer == OK:
        logger.info("readyz: %s answers again", name)
    else:
        logger.warning("readyz: %s: %s", name, answer)
