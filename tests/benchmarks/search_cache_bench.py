"""What the search cache's benchmarks share: a site with its peers' aliases, crews."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import redis.connection
from django.test import override_settings

from tests.benchmarks.breaker_bench import CLIENT_CORE, SERVER_CORE, pin
from tests.support.crew import Crew, set_up_site

T = TypeVar("T")

VALUE = {
    "hits": [
        {"id": n, "title": f"lamp number {n}", "price": n * 1.5, "tags": ["new", "warm"]}
        for n in range(27)
    ]
}
"""A page of results: 2 KB of JSON."""
EVERY_CORE = os.sched_getaffinity(0)


def caches_at(url: str) -> dict[str, Any]:
    """Return ours and the peers' aliases, each in a database of its own."""
    json = {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"}
    herd = {"CLIENT_CLASS": "django_redis.client.HerdClient"}  # its marker needs pickle
    aliases = {"default": json, "search": json, "breakers": json, "plain": json, "herd": herd}
    return {
        name: {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"{url}/{database}",
            "KEY_PREFIX": name,
            "OPTIONS": options,
        }
        for database, (name, options) in enumerate(aliases.items())
    }


def configure(url: str, **site: Any) -> None:
    """Have this process, one of the site's, use the server at this address."""
    site = {"SEARCH_CACHE_DEDICATED": True, **site}
    override_settings(CACHES=caches_at(url), ANALYTICS_ADMIN=site).enable()


def set_up(url: str) -> None:
    """Make this process one of the site's."""
    import tests.settings  # noqa: F401  the environment of a site that is nobody's

    set_up_site()
    configure(url)


@contextmanager
def crew_at(url: str, number: int, **site: Any) -> Iterator[Crew]:
    """Start processes of the site, on every core, that take a slow store for what it is."""
    os.sched_setaffinity(0, EVERY_CORE)
    with Crew(number, patient=False) as crew:
        for worker in crew.workers:
            worker.ask(configure_worker, url, site)
        yield crew


def configure_worker(url: str, site: dict[str, Any]) -> None:
    """Configure a process of the site, and have it connect."""
    from analytics_admin.caching import search_cache

    configure(url, **site)
    search_cache.get("warm")


@contextmanager
def cores_apart(server: int) -> Iterator[None]:
    """Keep the server on one core and this process on another."""
    pin(server, SERVER_CORE)
    pin(os.getpid(), CLIENT_CORE)
    _give_way_to(server, -15)  # a server has no other work of its machine in its way
    try:
        yield
    finally:
        _give_way_to(server, 0)
        for pid in (server, os.getpid()):
            for thread in map(int, os.listdir(f"/proc/{pid}/task")):
                os.sched_setaffinity(thread, EVERY_CORE)


def _give_way_to(pid: int, niceness: int) -> None:
    for thread in map(int, os.listdir(f"/proc/{pid}/task")):
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, thread, niceness)


def round_trips(act: Callable[[], object]) -> int:
    """Return how often ``act`` sent something and waited: whole pipelines count once."""
    sent: list[int] = []
    kind = redis.connection.AbstractConnection
    real = kind.send_packed_command

    def send(self: Any, *arguments: Any, **options: Any) -> Any:
        sent.append(threading.get_ident())
        return real(self, *arguments, **options)

    kind.send_packed_command = send
    try:
        act()
    finally:
        kind.send_packed_command = real
    return sent.count(threading.get_ident())
