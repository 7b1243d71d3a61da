"""How the search cache's server keeps its data: over a restart, and when its memory is full."""

from dataclasses import dataclass
from typing import Any, Literal

from redis.exceptions import RedisError, ResponseError

from analytics_admin.stores.client import operation_client
from analytics_admin.stores.identity import COMMANDS, identity_of

TIMEOUT = 0.5
"""Seconds to wait for connecting and for each reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What a server says of itself; None is what its user may not ask."""

    has_identity: bool
    """Whether it tells which server it is, so that a change of the server is found out."""
    may_evict: bool | None
    """Whether it drops keys that do not expire, such as the epoch record."""
    kept: Literal["nothing", "snapshots", "all"] | None
    """What it keeps on disk."""


def ask_keeping(alias: str) -> Keeping:
    """Ask the server.

    Raises:
        StoreUnavailable: it does not answer.
    """
    with operation_client(alias, timeout=TIMEOUT) as client:
        pipeline = client.pipeline(transaction=False)
        for command in COMMANDS:
            pipeline.execute_command(*command)
        pipeline.info("memory").info("persistence").config_get("save")
        replies = pipeline.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, RedisError) and not isinstance(reply, ResponseError):
                raise reply
    *identity, memory, persistence, save = replies
    return Keeping(
        has_identity=bool(identity_of(identity)),
        may_evict=may_evict(memory),
        kept=_kept(persistence, save),
    )


def may_evict(memory: Any) -> bool | None:
    """Say by INFO's answer whether the server drops keys that never expire; None: unknown."""
    if not isinstance(memory, dict) or "maxmemory_policy" not in memory:
        return None
    return bool(memory["maxmemory"]) and str(memory["maxmemory_policy"]).startswith("allkeys")


def _kept(persistence: Any, save: Any) -> Literal["nothing", "snapshots", "all"] | None:
    if not isinstance(persistence, dict):
        return None
    if persistence.get("aof_enabled"):
        return "all"
    if not isinstance(save, dict):
        return None
    return "snapshots" if any(save.values()) else "nothing"
