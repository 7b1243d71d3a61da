"""Whether the store would carry out commands now, without carrying them out.

A server checks each command of a transaction when it is queued: permission, memory, role. Then the
transaction is discarded.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

Command = tuple[Any, ...]


class NoTransactions(NoPermissionError):
    """The store's user may not begin a transaction."""


def rehearse(client: Any, *commands: Command) -> None:
    """Return if the store would accept the commands, or if its user may not rehearse them.

    Raises:
        RedisError: what it would refuse the first of them with.
    """
    for refusal in refusals_of(client, *commands):
        if not isinstance(refusal, NoTransactions):
            raise refusal


def refusals_of(client: Any, *commands: Command) -> list[ResponseError]:
    """Return what the store would refuse the commands with; NoTransactions if that is not known.

    Nothing is sent before the transaction has begun: without one the commands would be carried out.
    """
    with _connection(client) as connection:
        refusals = _errors(_send(connection, [("MULTI",)]))
        if refusals and isinstance(refusals[0], NoPermissionError):
            return [NoTransactions()]
        return refusals or _errors(_send(connection, [*commands, ("DISCARD",)]))


def exchange(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Send the commands at once; return their replies as they are, an error for each refusal."""
    with _connection(client) as connection:
        return _send(connection, commands)


@contextmanager
def _connection(client: Any) -> Iterator[Any]:
    connection = client.connection_pool.get_connection()
    try:
        yield connection
    except BaseException:
        connection.disconnect()
        raise
    finally:
        client.connection_pool.release(connection)


def _send(connection: Any, commands: Sequence[Command]) -> list[Any]:
    replies: list[Any] = []
    connection.send_packed_command(connection.pack_commands(commands))
    for _ in commands:
        try:
            replies.append(connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies


def _errors(replies: Sequence[Any]) -> list[ResponseError]:
    return [reply for reply in replies if isinstance(reply, ResponseError)]
