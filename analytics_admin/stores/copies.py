"""What an operation survives: which copies of the store's data have it, beside the store's memory.

Its replicas, for a failover, and its file of all writes (AOF), for a crash.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError, ResponseError

from analytics_admin.i18n import Message, ngettext_lazy
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.identity import field_of

REPLICAS_SECONDS = 0.3
"""How long an operation waits for the replicas."""
DISK_SECONDS = 1.2
"""How long it waits for the disk: with ``appendfsync everysec`` each second's writes go there."""
MAX_ATTEMPTS = 10

Touch = Callable[[], Sequence[Any] | None]
"""Returns a command that writes, and changes nothing; None: there is nothing to write to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """Which copies have an operation."""

    replicas: int | None = 0
    """How many replicas the store has; None: unknown."""
    replicas_behind: int = 0
    """Those that had not confirmed it in time. If one takes over now, the operation is undone."""
    on_disk: bool = True
    """False: there is an AOF, and it did not have it in time."""

    def to_record(self) -> dict[str, Any]:
        """Return what is worth keeping in the operation's row."""
        record: dict[str, Any] = {}
        if self.replicas != 0:
            record |= {"replicas": self.replicas}
        if self.replicas_behind:
            record |= {"replicas_behind": self.replicas_behind}
        return record if self.on_disk else record | {"on_disk": False}

    @property
    def warnings(self) -> list[Message]:
        """What the operator should know."""
        warnings = []
        if self.replicas_behind:
            template = ngettext_lazy(
                "Not yet on %(behind)d of %(number)d replica: a failover may undo it",
                "Not yet on %(behind)d of %(number)d replicas: a failover may undo it",
                "number",
            )
            warnings.append(Message(template, behind=self.replicas_behind, number=self.replicas))
        if not self.on_disk:
            warnings.append(Message(_("Not yet on the store's disk: a crash may undo it")))
        return warnings


UNKNOWN = Copies(replicas=None)


def await_copies(client: Any, touch: Touch) -> Copies:
    """Wait a moment until all copies have what the store holds now.

    Raises nothing: the operation is done by then.
    """
    try:
        replicas, has_aof = _ask(client)
        if not replicas and not has_aof:
            return Copies(replicas=replicas)
        waits: list[tuple[Any, ...]] = []
        waits += [("WAIT", replicas, _ms(REPLICAS_SECONDS))] if replicas else []
        waits += [("WAITAOF", 1, 0, _ms(DISK_SECONDS))] if has_aof else []
        for _attempt in range(MAX_ATTEMPTS):
            if (command := touch()) is None:
                break
            # Both wait for the last write of their own connection: all go over one.
            is_written, *confirmed = _exchange(client, [command, *waits])
            if isinstance(is_written, ResponseError):
                break
            if is_written:
                return _copies(replicas, has_aof, confirmed)
    except (RedisError, OSError):
        pass
    return UNKNOWN


def _ask(client: Any) -> tuple[int | None, bool]:
    """Return how many replicas the server has (None: unknown), and whether it has an AOF."""
    pipeline = client.pipeline(transaction=False)
    pipeline.execute_command("INFO", "replication")
    pipeline.execute_command("INFO", "persistence")
    replication, persistence = pipeline.execute(raise_on_error=False)
    number = field_of(replication, "connected_slaves")
    has_aof = field_of(persistence, "aof_enabled") == "1"
    return (int(number) if number.isdecimal() else None), has_aof


def _copies(replicas: int | None, has_aof: bool, confirmed: list[Any]) -> Copies:
    behind = 0
    if replicas:
        number = confirmed.pop(0)
        if isinstance(number, ResponseError):
            return UNKNOWN
        behind = max(0, replicas - number)
    # Servers before Redis 7.2 cannot tell; they answer with an error.
    on_disk = not has_aof or isinstance(confirmed[0], ResponseError) or confirmed[0][0] >= 1
    return Copies(replicas=replicas, replicas_behind=behind, on_disk=on_disk)


def _exchange(client: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Send commands in one round trip, and wait for answers that come late on purpose."""
    pool = client.connection_pool
    timeout = pool.connection_kwargs["socket_timeout"] + REPLICAS_SECONDS + DISK_SECONDS
    connection = pool.get_connection()
    try:
        connection.send_packed_command(connection.pack_commands(commands))
        return [_read(connection, timeout) for _command in commands]
    except BaseException:
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


def _read(connection: Any, timeout: float) -> Any:
    try:
        return connection.read_response(timeout=timeout, disconnect_on_error=False)
    except ResponseError as error:
        return error


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
