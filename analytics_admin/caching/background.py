"""Refreshing stale values in the background, while callers are served the stale ones."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

from django.db import connections

from analytics_admin.caching.codec import UnstorableValue

logger = logging.getLogger("analytics_admin.caching")


class BackgroundRefreshes:
    """The refreshes of one process: each in a thread or a task of its own, at most ``limit``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.after_fork()

    @property
    def enabled(self) -> bool:
        return self._limit > 0

    def start(self, refresh: Callable[[], object]) -> bool:
        """Run the refresh in a new thread with the caller's context; say whether it will run.

        The thread has its own database connections, and closes them.
        """
        if not self._reserve_slot():
            return False
        context = copy_context()
        thread = threading.Thread(
            target=context.run, args=(self._run, refresh), name="search cache refresh", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the process ends, or may have no more threads
            self._release_slot()
            return False
        return True

    def astart(self, refresh: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Run the refresh in a task; say whether it will run."""
        if not self._reserve_slot():
            return False
        task = asyncio.create_task(self._arun(refresh))
        self._tasks.add(task)
        task.add_done_callback(self._end_task)
        return True

    def after_fork(self) -> None:
        """Start afresh in a forked child: the running refreshes are its parent's."""
        self._lock = threading.Lock()
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()  # an event loop keeps weak references only

    def _run(self, refresh: Callable[[], object]) -> None:
        try:
            self._refresh(refresh)
        finally:
            connections.close_all()
            self._release_slot()

    def _refresh(self, refresh: Callable[[], object]) -> None:
        try:
            refresh()
        except UnstorableValue as error:
            _log(error)
        except Exception:  # noqa: S110  the site's own error; the statistics count it
            pass

    async def _arun(self, refresh: Callable[[], Coroutine[Any, Any, object]]) -> None:
        try:
            await refresh()
        except UnstorableValue as error:
            _log(error)
        except Exception:  # noqa: S110  as above
            pass

    def _end_task(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._release_slot()

    def _reserve_slot(self) -> bool:
        with self._lock:
            if self._running >= self._limit:
                return False
            self._running += 1
            return True

    def _release_slot(self) -> None:
        with self._lock:
            self._running -= 1


def _log(error: UnstorableValue) -> None:
    logger.error("search cache: a stale value could not be refreshed: %s", error)
