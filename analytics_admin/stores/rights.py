"""Which commands the user of a cache alias may run, tried on a key of its own.

A server checks a user's rights before it looks at a key: what each command does is of no matter. It
checks those of a script's commands one by one, too. To run the scripts would tell less: some go on
without a command, or name the first only.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.core.cache import caches
from redis.exceptions import ExecAbortError, NoPermissionError

from analytics_admin.stores.client import operation_client

TIMEOUT = 1.0
"""Seconds for connecting and for each reply."""
KEPT_MILLISECONDS = 5000
_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("expire", "pexpire"), (5,)),
    **dict.fromkeys(("getrange", "lrange", "ltrim", "zrange", "zrangebyscore"), (0, 0)),
    **dict.fromkeys(("hdel", "hget", "hmget", "zrem", "zscore", "lpush"), ("a",)),
    **dict.fromkeys(("hset", "hsetnx", "hincrby"), ("a", 1)),
    "incrby": (1,),
    "set": (1, "PX", KEPT_MILLISECONDS),
    "zadd": (1, "a"),
}
"""What follows the key."""
_QUEUED = ("subscribe", "unsubscribe")
"""Run, they would have the connection answer otherwise: after MULTI, rights are checked alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingRights:
    """What a user may not do."""

    commands: tuple[str, ...] = ()
    """As a rule names them."""
    keys: bool = False
    """Whether the keys of the alias are not its own."""
    channel: bool = False


def find_missing(alias: str, commands: Iterable[str], *, channel: str = "") -> MissingRights:
    """Return which of the commands the alias' user may not run, or not on its keys.

    ``channel`` is one to publish on, to which nobody listens.

    Raises:
        StoreUnavailable
    """
    key = str(caches[alias].make_key(f"analytics_admin:check:{secrets.token_urlsafe(12)}"))
    names = sorted(commands, key=lambda name: name in {"del", "unlink"})  # those at last
    queued = [name for name in names if name in _QUEUED]

    def refusals(names: list[str]) -> dict[str, str]:
        pipeline = client.pipeline(transaction=False)
        for name in names:
            pipeline.execute_command(*_trial(name, key, channel))
        replies = pipeline.execute(raise_on_error=False)
        return {
            name: str(reply)
            for name, reply in zip(names, replies, strict=True)
            if _is_refusal(reply)
        }

    with operation_client(alias, timeout=TIMEOUT) as client:
        refused = refusals([name for name in names if name not in _QUEUED])
        if queued and not refusals(["multi"]):
            refused |= refusals(["multi", *queued])
    return MissingRights(
        commands=tuple(sorted(name for name, text in refused.items() if "run the" in text)),
        keys=any("key" in text for text in refused.values() if "run the" not in text),
        channel=any("channel" in text for text in refused.values() if "run the" not in text),
    )


def _is_refusal(reply: Any) -> bool:
    if isinstance(reply, ExecAbortError):  # so EXEC is refused
        return "no permissions" in str(reply)
    return isinstance(reply, NoPermissionError)


def _trial(name: str, key: str, channel: str) -> tuple[Any, ...]:
    whole: dict[str, tuple[Any, ...]] = {
        "eval": ("EVAL", "return 1", 1, key),
        "evalsha": ("EVALSHA", "0" * 40, 1, key),
        "script|load": ("SCRIPT", "LOAD", "return 1"),
        "scan": ("SCAN", 0, "COUNT", 1),
        "publish": ("PUBLISH", channel, ""),
        "subscribe": ("SUBSCRIBE", channel),
        "unsubscribe": ("UNSUBSCRIBE", channel),
    }
    if name in {"multi", "exec", "discard", "time", "ping"}:
        return (name.upper(),)
    return whole.get(name) or (name.upper(), key, *_ARGUMENTS.get(name, ()))
