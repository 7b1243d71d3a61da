"""System check of what the stores' users may do; it contacts the servers."""

from collections.abc import Iterator
from typing import Any

from django.core.cache import caches
from django.core.checks import CheckMessage, register

from analytics_admin.checks.caches import check_stores
from analytics_admin.checks.settings import TAG, are_unusable, check_settings, error
from analytics_admin.conf import app_settings
from analytics_admin.stores.client import StoreUnavailable, is_local_memory
from analytics_admin.stores.rights import find_missing

BREAKERS = (
    "eval evalsha script|load get set del unlink exists expire type time scan publish "
    "subscribe unsubscribe "
    "hget hmget hgetall hset hsetnx hdel hincrby hkeys hlen lpush lrange ltrim "
    "zadd zrem zcard zrange zrangebyscore zscore incr"
)
"""What the breakers need, and the search cache's counts in the same alias."""
SEARCH_CACHE = (
    "eval evalsha multi exec discard get getrange mget set strlen del unlink exists expire pexpire "
    "persist pttl type scan time ping"
)
HINT = "The rule in docs/howto/reach-the-store.md has all that the app needs."


@register(TAG, deploy=True)
def check_rights(**kwargs: Any) -> list[CheckMessage]:
    """Report commands, keys and channels that a store's user may not use."""
    if are_unusable([*check_settings(), *check_stores()]):
        return []
    site = app_settings()
    return [
        *_missing(site.breaker_cache, BREAKERS, "the circuit breakers"),
        *_missing(site.search_cache, SEARCH_CACHE, "the search cache"),
    ]


def _missing(alias: str, commands: str, owner: str) -> Iterator[CheckMessage]:
    if is_local_memory(alias):
        return
    channel = str(caches[alias].make_key("analytics_admin:check"))
    try:
        missing = find_missing(alias, commands.split(), channel=channel)
    except StoreUnavailable:  # another check says so
        return
    lacks = []
    if missing.commands:
        lacks.append(f"run {', '.join(missing.commands)}")
    if missing.keys:
        lacks.append("use the keys of its prefix")
    if missing.channel:
        lacks.append("publish on channels of its prefix")
    if lacks:
        text = f"The user of CACHES['{alias}'] may not {' and not '.join(lacks)}, as {owner} do"
        yield error("E018", text.replace("cache do", "cache does"), HINT)
