"""Calls made at the same instant by many threads, or many tasks of one event loop."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any


def in_threads(number: int, call: Callable[[int], Any]) -> list[Any]:
    """Call with each number below ``number``, each in a thread; return what they returned.

    All begin once all have started. The first error is raised when all have ended.
    """
    results: dict[int, Any] = {}
    errors: list[BaseException] = []
    barrier = threading.Barrier(number)

    def run(which: int) -> None:
        try:
            barrier.wait()
            results[which] = call(which)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(which,)) for which in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[which] for which in range(number)]


def in_tasks(number: int, call: Callable[[int], Awaitable[Any]]) -> tuple[list[Any], float]:
    """Do the same in tasks; return the results, and for how long the loop was held up at most."""

    async def watch(lags: list[float]) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.001)
            lags.append(time.monotonic() - began - 0.001)

    async def main() -> tuple[list[Any], float]:
        lags: list[float] = []
        watcher = asyncio.create_task(watch(lags))
        await asyncio.sleep(0.02)
        results = await asyncio.gather(*(call(which) for which in range(number)))
        await asyncio.sleep(0.02)
        watcher.cancel()
        return results, max(lags)

    return asyncio.run(main())
