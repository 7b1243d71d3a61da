"""System checks of the stores' servers and of what else lies there; they contact the servers."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.core.checks import CheckMessage, register

from analytics_admin.caching.clear.ownership import KEYS_OF_OTHERS, find_settings
from analytics_admin.checks.caches import check_stores
from analytics_admin.checks.settings import TAG, are_unusable, check_settings, error, warning
from analytics_admin.conf import app_settings
from analytics_admin.stores.client import (
    StoreUnavailable,
    aliases_sharing_database,
    cluster_tag,
    is_local_memory,
)
from analytics_admin.stores.examination import MIN_VERSIONS, Examination, examine

MAX_CLOCK_SECONDS = 1.0
"""By how much clocks may differ."""
PREFIXES_OF_OTHERS = ("asgi", "_kombu.", "celery", "unacked", "rq:", "arq:", "dramatiq:", "huey.")
"""With what keys of queues and of channels begin."""
OWNERS = {"breakers": "the circuit breakers", "search_cache": "the search cache"}


def stores() -> Mapping[str, str]:
    """Return the aliases of both stores by what they hold."""
    site = app_settings()
    return {"breakers": site.breaker_cache, "search_cache": site.search_cache}


@register(TAG, deploy=True)
def check_servers(**kwargs: Any) -> list[CheckMessage]:
    """Report servers that are too old, replicas that lag behind, clocks that differ, neighbours."""
    if are_unusable([*check_settings(), *check_stores()]):
        return []
    messages: list[CheckMessage] = []
    for role, alias in stores().items():
        if is_local_memory(alias):
            continue
        try:
            examination = examine_store(alias)
        except StoreUnavailable:  # another check says so
            continue
        messages += [*_server(alias, examination), *_neighbours(role, alias, examination)]
    return messages


def examine_store(alias: str) -> Examination:
    """Return what the server says, and which keys of other programs are in its database.

    Raises:
        StoreUnavailable
    """
    return examine(alias, keys=KEYS_OF_OTHERS, prefixes=PREFIXES_OF_OTHERS)


def _server(alias: str, server: Examination) -> Iterator[CheckMessage]:
    where = f"The server of CACHES['{alias}']"
    if server.is_too_old:
        least = ".".join(map(str, MIN_VERSIONS[server.kind]))
        text = f"{where} is {server.kind} {server.version}, and the app needs {least}"
        yield error("E020", text, f"Upgrade it to {server.kind} {least} or newer.")
    if server.role == "slave":
        hint = "Name the primary in LOCATION, or let Sentinels name it."
        yield error("E021", f"{where} is a replica, which takes no writes", hint)
    if server.replicas and server.confirmed is None:
        text = f"{where} has replicas, and its user may not ask whether they have an operation"
        yield warning("W015", text, "Permit WAIT to the user.")
    elif server.replicas and (server.confirmed or 0) < server.replicas:
        text = (
            f"{where}: {server.confirmed} of {server.replicas} replicas confirmed a write in time, "
            "and a failover to another would undo operations"
        )
        yield warning("W015", text, "Look why they lag behind: network, load or disk.")
    if abs(server.clock_ahead) > MAX_CLOCK_SECONDS + server.clock_uncertainty:
        ahead = "ahead of" if server.clock_ahead > 0 else "behind"
        text = f"{where}: its clock is {abs(server.clock_ahead):.1f} s {ahead} this machine's"
        yield warning("W016", text, "Set both clocks by NTP: holds and tokens end by them.")


def _neighbours(role: str, alias: str, server: Examination) -> Iterator[CheckMessage]:
    """Report who else uses the database: what flushes it, takes the breakers along."""
    if cluster_tag(alias) is not None:  # there is one database
        return
    others = {f"what {name} names" for name in find_settings(alias)}
    if role == "breakers":
        others |= set(aliases_sharing_database(alias))
    if server.found_keys:
        others.add(f"a queue, or another program, with {', '.join(server.found_keys[:3])}")
    if others:
        text = (
            f"CACHES['{alias}'], of {OWNERS[role]}, shares its Redis database with "
            f"{', '.join(sorted(others))}"
        )
        yield warning("W017", text, "Give it a database number of its own.")
