"""Refreshing stale values in the background, where a site asked for it.

The refresh runs in another thread, or in a task of its own. A hook of the site brings what the
caller's context holds there: a tenant, a connection's settings.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import copy_context
from functools import partial
from typing import Any

from django.db import connections

from analytics_admin.conf import app_settings
from analytics_admin.stores.contained_logger import get_logger
from analytics_admin.stores.threads import start_plain_thread

logger = get_logger("analytics_admin.caching")


class BackgroundRefreshes:
    """The refreshes of one process: each in a thread or a task of its own, at most ``limit``.

    One that takes longer than ``max_seconds`` hangs, and takes no place any more.
    """

    def __init__(self, limit: int, *, max_seconds: float = 60.0) -> None:
        self._limit = limit
        self._max_seconds = max_seconds
        self.after_fork()

    @property
    def enabled(self) -> bool:
        return self._limit > 0

    def start(self, refresh: Callable[[], object]) -> bool:
        """Run the refresh in a new thread with the caller's context; say whether it will run.

        The thread has its own database connections, and closes them.
        """
        place = self._take_place()
        if place is None:
            return False
        try:
            context = _context_of_caller()
        except Exception as error:  # the site's hook must not break its search
            self._leave_place(place)
            _log(error)
            return False
        work = partial(copy_context().run, self._run, refresh, context, place)
        try:
            start_plain_thread(work, name="search cache refresh")
        except (RuntimeError, MemoryError):  # no thread is to be had
            self._leave_place(place)
            return False
        return True

    def astart(
        self,
        refresh: Callable[[], Coroutine[Any, Any, object]],
        on_cut_off: Callable[[], object] = lambda: None,
    ) -> bool:
        """Run the refresh in a task; say whether it will run.

        ``on_cut_off`` is called if it is cancelled, also before it began.
        """
        place = self._take_place()
        if place is None:
            return False
        try:
            context = _context_of_caller()
        except Exception as error:
            self._leave_place(place)
            _log(error)
            return False
        task = asyncio.create_task(self._arun(refresh, context))
        self._places[place] = task  # an event loop keeps weak references only

        def end(task: "asyncio.Task[None]") -> None:
            self._leave_place(place)
            if task.cancelled():
                on_cut_off()

        task.add_done_callback(end)
        return True

    def after_fork(self) -> None:
        """Start afresh in a forked child: the running refreshes are its parent's."""
        self._lock = threading.RLock()
        self._places: dict[object, asyncio.Task[None] | None] = {}
        self._taken_at: dict[object, float] = {}

    def _run(
        self,
        refresh: Callable[[], object],
        context: AbstractContextManager[object],
        place: object,
    ) -> None:
        try:
            self._refresh(refresh, context)
        finally:
            self._leave_place(place)
            connections.close_all()

    def _refresh(
        self, refresh: Callable[[], object], context: AbstractContextManager[object]
    ) -> None:
        try:
            with context:
                refresh()
        except Exception as error:
            _log(error)

    async def _arun(
        self,
        refresh: Callable[[], Coroutine[Any, Any, object]],
        context: AbstractContextManager[object],
    ) -> None:
        try:
            with context:
                await refresh()
        except Exception as error:
            _log(error)

    def _take_place(self) -> object | None:
        with self._lock:
            if len(self._places) >= self._limit:
                self._free_places()
            if len(self._places) >= self._limit:
                return None
            place = object()
            self._places[place], self._taken_at[place] = None, time.monotonic()
            return place

    def _free_places(self) -> None:
        """Free those of tasks whose loop was closed, and of refreshes that hang."""
        hung = time.monotonic() - self._max_seconds
        for place, task in list(self._places.items()):
            is_closed = task is not None and task.get_loop().is_closed()
            if is_closed or self._taken_at[place] < hung:
                self._leave_place(place)
            if task is not None and is_closed:
                with suppress(Exception):
                    task.get_coro().close()  # ends its flight

    def _leave_place(self, place: object) -> None:
        with self._lock:
            self._places.pop(place, None)
            self._taken_at.pop(place, None)


def _context_of_caller() -> AbstractContextManager[object]:
    """Return what the site's hook makes of the caller's context, for the thread that refreshes."""
    hook = app_settings().background_context_hook
    return nullcontext() if hook is None else hook()


def _log(error: Exception) -> None:
    """Log an exception of the site's hook; the failures of computations are logged elsewhere."""
    logger.error("search cache: a value was not refreshed in the background", exc_info=error)
