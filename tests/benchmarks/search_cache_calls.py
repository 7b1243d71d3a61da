"""What a hit and a miss of the search cache cost, beside django-redis with the same serializer."""

import json
import time
from collections.abc import Callable
from itertools import count

from django.core.cache import caches

from analytics_admin.caching import search_cache
from tests.benchmarks.breaker_bench import Line
from tests.benchmarks.search_cache_bench import VALUE, round_trips

CALLS = 2000
KEY = ("search", "lamp", 1)
TAGGED = ("search", "lamp", 2)
TAGS = ("products", "brands")
_fresh = count()


def _value() -> object:
    return VALUE


def _theirs() -> object:
    return caches["plain"].get("search:lamp:1")


def _hit() -> object:
    return search_cache.get_or_compute(KEY, _value)


def _tagged_hit() -> object:
    return search_cache.get_or_compute(TAGGED, _value, tags=TAGS)


def _miss() -> object:
    return search_cache.get_or_compute(("new", next(_fresh)), _value)


def _tagged_miss() -> object:
    return search_cache.get_or_compute(("new", next(_fresh)), _value, tags=TAGS)


def _their_miss() -> object:
    key, cache = f"new:{next(_fresh)}", caches["plain"]
    cache.get(key)
    cache.set(key, VALUE)
    return VALUE


SMALL = {"hits": VALUE["hits"][:3]}
"""0.2 kB of JSON."""
BIG = {"hits": VALUE["hits"] * 4}
"""7.8 kB of JSON."""
NEAR = 0.1


def _small_theirs() -> object:
    return caches["plain"].get("search:small")


def _small_hit() -> object:
    return search_cache.lookup(("search", "small"), _value)


def _small_near() -> object:
    return search_cache.lookup(("search", "small"), _value, near=NEAR)


def _big_theirs() -> object:
    return json.dumps(caches["plain"].get("search:big"))


def _big_text() -> object:
    return search_cache.lookup_text(("search", "big"), _value)


def _big_near() -> object:
    return search_cache.lookup_text(("search", "big"), _value, near=NEAR)


HITS = {"theirs": _theirs, "hit": _hit, "tagged": _tagged_hit}
SMALLS = {"theirs": _small_theirs, "hit": _small_hit, "near": _small_near}
BIGS = {"theirs": _big_theirs, "text": _big_text, "near": _big_near}
MISSES = {"theirs": _their_miss, "miss": _miss, "tagged": _tagged_miss}


def calls(rounds: int) -> list[Line]:
    """Measure hits and misses in turns."""
    caches["plain"].set("search:lamp:1", VALUE)
    hits = _in_turns(HITS, rounds, CALLS)
    misses = _in_turns(MISSES, rounds, CALLS // 4)
    for name, value in (("small", SMALL), ("big", BIG)):
        caches["plain"].set(f"search:{name}", value)
        search_cache.set(("search", name), value)
        _come_near(("search", name))
    smalls, bigs = _in_turns(SMALLS, rounds, CALLS), _in_turns(BIGS, rounds, CALLS)
    return [
        Line(measure="hit: round trips", values=[round_trips(_hit)], bound=1, exact=True),
        Line(
            measure="hit, 2 tags: round trips",
            values=[round_trips(_tagged_hit)],
            bound=1,
            exact=True,
        ),
        Line(measure="miss + fill: round trips", values=[round_trips(_miss)], bound=3),
        Line(
            measure="miss + fill, 2 tags: round trips",
            values=[round_trips(_tagged_miss)],
            bound=3,
        ),
        Line(measure="django-redis get(), 0.2 kB", values=smalls["theirs"], unit="µs"),
        Line(measure="hit, 0.2 kB", values=smalls["hit"], unit="µs"),
        Line(measure="near hit, 0.2 kB", values=smalls["near"], unit="µs"),
        Line(measure="hit ÷ get(), 0.2 kB", values=_shares(smalls["hit"], smalls), bound=0.9),
        Line(measure="near hit ÷ get(), 0.2 kB", values=_shares(smalls["near"], smalls), bound=0.1),
        Line(measure="get() + json.dumps(), 7.8 kB", values=bigs["theirs"], unit="µs"),
        Line(measure="hit as text, 7.8 kB", values=bigs["text"], unit="µs"),
        Line(
            measure="text ÷ get() + dumps(), 7.8 kB", values=_shares(bigs["text"], bigs), bound=0.35
        ),
        Line(
            measure="near text, 7.8 kB ÷ get(), 0.2 kB",
            values=_shares(bigs["near"], smalls),
            bound=0.1,
        ),
        Line(measure="django-redis get(), 2 KB of JSON", values=hits["theirs"], unit="µs"),
        Line(measure="hit", values=hits["hit"], unit="µs"),
        Line(measure="hit ÷ django-redis get()", values=_shares(hits["hit"], hits), bound=1.25),
        Line(
            measure="hit, 2 tags ÷ django-redis get()",
            values=_shares(hits["tagged"], hits),
            bound=1.25,
        ),
        Line(measure="django-redis get() + set()", values=misses["theirs"], unit="µs"),
        Line(measure="miss + fill", values=misses["miss"], unit="µs"),
        Line(measure="miss + fill, 2 tags", values=misses["tagged"], unit="µs"),
    ]


def _come_near(key: tuple[str, str]) -> None:
    """Have the value be in this process' memory."""
    keys = search_cache._connect().request(key, near=NEAR).keys
    near = search_cache._connect().near
    until = time.monotonic() + 10
    while near is not None and near.get(keys, NEAR) is None and time.monotonic() < until:
        search_cache.lookup(key, _value, near=NEAR)
        time.sleep(0.01)


def _in_turns(
    contestants: dict[str, Callable[[], object]], rounds: int, number: int
) -> dict[str, list[float]]:
    """Return the microseconds of a call in each round."""
    took: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, act in contestants.items():
            act()
            began = time.perf_counter()
            for _ in range(number):
                act()
            took[name].append(1e6 * (time.perf_counter() - began) / number)
    return took


def _shares(ours: list[float], hits: dict[str, list[float]]) -> list[float]:
    return [own / their for own, their in zip(ours, hits["theirs"], strict=True)]
