"""What the tests of the clear share: aliases on one server, a proxy that loses replies."""

import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from django.core.cache import caches

from analytics_admin.caching.entries import EpochRecord, decode_record, record_key
from tests.settings import STORE_FOLDER

STORE_URL = f"unix://{STORE_FOLDER}/store.sock"
SEARCH_DB = 11
OTHER_DB = 12


def redis_alias(
    prefix: str = "", *, url: str = STORE_URL, db: int = SEARCH_DB, **more: Any
) -> dict[str, Any]:
    """Return the CACHES entry of a django-redis alias; ``options`` joins its OPTIONS."""
    options = {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"}
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"{url}?db={db}",
        "KEY_PREFIX": prefix,
        "OPTIONS": options | more.pop("options", {}),
        **more,
    }


def use_caches(settings: Any, *, dedicated: bool = False, **aliases: dict[str, Any]) -> None:
    """Give the site these aliases; ``default`` and ``breakers`` lie elsewhere unless given."""
    settings.CACHES = {
        "default": redis_alias(db=OTHER_DB),
        "breakers": redis_alias("breakers", db=OTHER_DB),
        **aliases,
    }
    settings.ANALYTICS_ADMIN = {"SEARCH_CACHE_DEDICATED": dedicated}


def raw(alias: str = "search") -> Any:
    """Return a client of the alias' database that sees its keys as they are."""
    return caches[alias].client.get_client(write=True)


def keys_in(alias: str = "search") -> set[bytes]:
    """Return every key of the alias' database but the token record."""
    return set(raw(alias).keys("*")) - {record_key("search").encode()}


def fill(alias: str, names: Iterable[object]) -> None:
    caches[alias].set_many({str(name): "value" for name in names})


def record() -> EpochRecord | None:
    return decode_record(raw().get(record_key("search")))


class LossyProxy:
    """A proxy on a loopback port: a connection falls silent when it first names ``word``.

    ``deliver`` says whether what it sent then still reaches the server; no reply comes back.
    ``deaf_afterwards`` keeps later connections waiting too. ``rewrite`` changes all that is sent.
    """

    def __init__(
        self,
        socket_path: str,
        word: bytes,
        *,
        deliver: bool,
        deaf_afterwards: bool = False,
        rewrite: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self._rewrite = rewrite
        self._socket_path = socket_path
        self._word = word
        self._deliver = deliver
        self._deaf_afterwards = deaf_afterwards
        self._struck = False
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "LossyProxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        for sock in (self._listener, *self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                self._open.append(caller)
                if self._struck and self._deaf_afterwards:
                    continue
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._socket_path)
                self._open.append(server)
                lost = threading.Event()
                for source, sink in ((caller, server), (server, caller)):
                    threading.Thread(
                        target=self._pump, args=(source, sink, lost, sink is server), daemon=True
                    ).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, lost: threading.Event, outward: bool
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if outward:
                    data = self._rewrite(data)
                if outward and self._word in data and not self._struck:
                    self._struck = True
                    lost.set()
                    if self._deliver:
                        sink.sendall(data)
                elif not lost.is_set():
                    sink.sendall(data)
