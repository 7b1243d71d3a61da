"""The connection on which a process hears of changes, as the Redis store publishes them."""

import socket
import time
from contextlib import suppress
from typing import Any

from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import RedisError

from analytics_admin.breakers.stores import records
from analytics_admin.breakers.stores.base import Push
from analytics_admin.stores.client import translate_errors
from analytics_admin.stores.connections import Routed

CHECK = "check"


class RedisChannel:
    """The Channel protocol on a connection that speaks RESP3: pushes and answers in one order.

    What the server has published before it answers arrives before the answer. So an answer with the
    number of the last change proves that none was missed.
    """

    def __init__(self, connection: Any, *, name: str, sequence_key: str, timeout: float) -> None:
        self._connection = connection
        self._name = name
        self._sequence_key = sequence_key
        self._timeout = timeout

    @translate_errors
    def open(self) -> int:
        self._connection.connect()
        self._check_right_to_publish()
        self._send("SUBSCRIBE", self._name)
        self._await_push(b"subscribe")
        self._send("GET", self._sequence_key)
        while True:  # what is published meanwhile is counted in the answer
            answer = self._connection.read_response(push_request=True)
            if not isinstance(answer, list):
                return records.decode_sequence(answer)

    @translate_errors
    def request_proof(self) -> None:
        if isinstance(self._connection, Routed) and self._connection.claim_look():
            self._connection.look()
        self._send("GET", self._sequence_key)

    @translate_errors
    def receive(self, timeout: float) -> Push | int | None:
        if not self._connection.can_read(timeout):
            return None
        answer = self._connection.read_response(push_request=True)
        if not isinstance(answer, list):
            return records.decode_sequence(answer)
        return records.decode_push(answer[2]) if answer[0] == b"message" else None

    def interrupt(self) -> None:
        if (connected := getattr(self._connection, "_sock", None)) is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(RedisError, OSError):
            self._connection.disconnect()

    def _check_right_to_publish(self) -> None:
        """Raise unless this user's messages arrive: others' are published with the same rights."""
        name = f"{self._name}:{CHECK}"
        self._send("SUBSCRIBE", name)
        self._await_push(b"subscribe")
        self._send("PUBLISH", name, CHECK)
        self._await_push(b"message")
        self._send("UNSUBSCRIBE", name)
        self._await_push(b"unsubscribe")

    def _send(self, *command: str) -> None:
        self._connection.send_command(*command, check_health=False)

    def _await_push(self, kind: bytes) -> None:
        ends_at = time.monotonic() + self._timeout
        while time.monotonic() < ends_at:
            answer = self._connection.read_response(push_request=True)
            if isinstance(answer, list) and answer[0] == kind:
                return
        raise StoreConnectionError
