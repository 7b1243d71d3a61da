"""A process of a site that calls a breaker and searches all the time, and tells what it met.

Each line of JSON is one round: when it began (monotonic seconds), how long the protected call and
the search took, what the search met, whether the process has lost the breakers' store, whether the
call was rejected, and for how long the machine kept the process from running meanwhile. The process
ends with its standard input.
"""

import json
import os
import sys
import threading
import time
from typing import Any

import django

if __name__ == "__main__":
    django.setup()

from analytics_admin.breakers import CircuitOpenError, circuit_breaker, runtime
from analytics_admin.caching import search_cache

PACE = 0.02
KEYS = 10


def _kept_waiting() -> float:
    """Return for how many seconds this process' threads have waited for a processor so far."""
    waited = 0
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/schedstat") as file:
                waited += int(file.read().split()[1])
        except OSError:
            continue
    return waited / 1e9


def _round(breaker: Any, number: int) -> dict[str, Any]:
    waited, began = _kept_waiting(), time.monotonic()
    is_rejected = False
    try:
        breaker.call(int)
    except CircuitOpenError:
        is_rejected = True
    called = time.monotonic()
    key = number % KEYS
    answer = search_cache.lookup(f"key.{key}", lambda: key, timeout=60)
    if answer.value != key:
        raise ValueError(f"{answer.value} was found for {key}")
    ended = time.monotonic()
    return {
        "at": began,
        "call": called - began,
        "search": ended - called,
        "met": str(answer.state),
        "alone": runtime.engine.outage.stand_in is not None,
        "rejected": is_rejected,
        "waited": _kept_waiting() - waited,
    }


def main() -> None:
    over = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    breaker, number = circuit_breaker("catalog", failure_threshold=5), 0
    while not over.wait(PACE):
        try:
            line = _round(breaker, number)
        # Nothing that becomes of a store may reach a caller: the test looks for this line.
        except Exception as error:
            line = {"at": time.monotonic(), "error": repr(error)}
        sys.stdout.write(json.dumps(line) + "\n")
        if number == 0:
            sys.stdout.flush()
        number += 1


if __name__ == "__main__":
    main()
