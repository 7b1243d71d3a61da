"""Computing stale values anew behind the backs of the callers that they are served to.

Knows nothing of a store: what there is to do is a walk over a lookup's steps, by a thread of its
own, or in an event loop by a task.
"""

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
    """Those of one process; at most so many at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.after_fork()

    @property
    def are_on(self) -> bool:
        return self._most > 0

    def begin(self, walk: Callable[[], object]) -> bool:
        """Have a thread of its own take the walk, in the caller's context; say whether one will.

        It has its own database connections, and closes them.
        """
        if not self._take_place():
            return False
        context = copy_context()
        thread = threading.Thread(
            target=context.run, args=(self._work, walk), name="search cache refresh", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the process ends, or may have no more threads
            self._give_place_back()
            return False
        return True

    def abegin(self, walk: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Have a task take the walk; say whether one will."""
        if not self._take_place():
            return False
        task = asyncio.create_task(self._awork(walk))
        self._tasks.add(task)
        task.add_done_callback(self._end_task)
        return True

    def after_fork(self) -> None:
        """Begin anew in a forked child: what was under way is its parent's."""
        self._lock = threading.Lock()
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()  # a loop keeps no task of its own accord

    def _work(self, walk: Callable[[], object]) -> None:
        try:
            walk()
        except UnstorableValue as error:
            _tell(error)
        except Exception:  # noqa: S110  the search's own; it is counted, as when a caller is served despite it
            pass
        finally:
            connections.close_all()
            self._give_place_back()

    async def _awork(self, walk: Callable[[], Coroutine[Any, Any, object]]) -> None:
        try:
            await walk()
        except UnstorableValue as error:
            _tell(error)
        except Exception:  # noqa: S110  as above
            pass

    def _end_task(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._give_place_back()

    def _take_place(self) -> bool:
        with self._lock:
            if self._under_way >= self._most:
                return False
            self._under_way += 1
            return True

    def _give_place_back(self) -> None:
        with self._lock:
            self._under_way -= 1


def _tell(error: UnstorableValue) -> None:
    logger.error("search cache: a stale value could not be replaced: %s", error)
