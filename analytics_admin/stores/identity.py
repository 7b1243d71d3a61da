"""Which server a connection leads to, and whether its data have one history.

A server draws a run id when it starts, and a replication id when its data come to have a history of
their own: with no primary, or in place of one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

COMMANDS = (("INFO", "server"), ("INFO", "replication"))
_ID_CHARS = 16


def identity_of(replies: Sequence[Any]) -> str:
    """Return the identity that the replies to COMMANDS tell; "" if they tell none."""
    server, replication = (_fields(reply) for reply in replies)
    run, history = server("run_id"), replication("master_replid")
    return f"{run[:_ID_CHARS]}.{history[:_ID_CHARS]}" if run and history else ""


def field_of(reply: Any, name: str) -> str:
    """Return a field of an answer to INFO; "" for a field or an answer without it."""
    return _fields(reply)(name)


def _fields(reply: Any) -> Callable[[str], str]:
    if isinstance(reply, bytes):
        lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
        reply = {name: value.strip() for name, _, value in lines}
    fields: Mapping[str, Any] = reply if isinstance(reply, Mapping) else {}
    return lambda name: str(fields.get(name, ""))
