"""Whether the store would carry out commands now, without carrying them out.

A server checks each command of a transaction when it is queued: permission, memory, role. Then the
transaction is discarded.
"""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

Command = tuple[Any, ...]


def rehearse(client: Any, *commands: Command) -> None:
    """Return if the store would accept the commands.

    Raises:
        RedisError: what it would refuse the first of them with.
    """
    for reply in exchange(client, rehearsal_of(*commands)):
        if isinstance(reply, ResponseError):
            raise reply


def rehearsal_of(*commands: Command) -> list[Command]:
    """Return what to send for a rehearsal of the commands; their replies say what is refused."""
    return [("MULTI",), *commands, ("DISCARD",)]


def exchange(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Send the commands at once; return their replies as they are, an error for each refusal."""
    connection = client.connection_pool.get_connection()
    replies: list[Any] = []
    try:
        connection.send_packed_command(connection.pack_commands(commands))
        for _ in commands:
            try:
                replies.append(connection.read_response())
            except ResponseError as error:
                replies.append(error)
    except BaseException:
        connection.disconnect()
        raise
    finally:
        client.connection_pool.release(connection)
    return replies
