"""A fresh process of a site whose threads all search at the same moment, and go on for a while.

Prints as JSON how often each state of an answer was met.
"""

import json
import sys
import threading
from collections import Counter

import django

if __name__ == "__main__":
    django.setup()

from analytics_admin.breakers import circuit_breaker
from analytics_admin.caching import search_cache

THREADS = 32
SEARCHES = 375
PAUSE = 0.01


def main() -> None:
    states: Counter[str] = Counter()
    start, pause = threading.Barrier(THREADS), threading.Event()

    def search(thread: int) -> None:
        start.wait()
        for number in range(SEARCHES):
            answer = search_cache.lookup(f"{thread}.{number % 4}", int, timeout=60)
            circuit_breaker("catalog").call(int)
            states[str(answer.state)] += 1
            pause.wait(PAUSE)

    threads = [threading.Thread(target=search, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(json.dumps(states))


if __name__ == "__main__":
    main()
