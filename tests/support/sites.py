"""Copies of the site for tests of whole processes: own folder, own store, own environment."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Reads commands from stdin, sends each through the site's own pool, prints one line for each.
USER = """
import sys
from pathlib import Path
import redis
from project.embedded_store import EmbeddedStorePool

url = f"unix://{Path('var/store').resolve()}/store.sock?db=0"
client = redis.Redis(connection_pool=EmbeddedStorePool.from_url(url, socket_timeout=2))
for line in sys.stdin:
    try:
        print(client.execute_command(*line.split()), flush=True)
    except redis.RedisError as error:
        print("error:", error, flush=True)
"""


def eventually(holds: Callable[[], bool], *, seconds: float = 20) -> bool:
    """Wait until the condition holds; say whether it came to that."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class User:
    """A process that uses the embedded store and does what it is told."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def ask(self, command: str) -> str:
        self.say(command)
        return self.answer()

    def say(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=5)


class Site:
    """A copy of the project tree, with nothing in its environment but what a test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "var" / "store"
        self.processes: list[subprocess.Popen[str]] = []
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / "manage.py", folder)
        for name in ("project", "analytics_admin"):
            shutil.copytree(ROOT / name, folder / name)

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start this Python in a process group of its own, as a shell would."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=90)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def manage(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return self.run("manage.py", *arguments, **environment)

    def user(self) -> User:
        return User(self.start("-c", USER))

    def servers(self) -> list[int]:
        """Return the process ids of this site's store servers."""
        return [pid for pid in _pids() if self._is_server(pid)]

    def supervisors(self) -> list[int]:
        """Return the process ids of this site's supervisors."""
        folder = os.fsencode(self.store)
        return [pid for pid in _pids() if {b"-I", folder} <= _arguments(pid)]

    def is_quiet(self) -> bool:
        """Say whether no server and no supervisor is left."""
        return not self.servers() and not self.supervisors()

    def close(self) -> None:
        """End what the test left running, and hold the site to leaving nothing itself."""
        for process in self.processes:
            if process.returncode is None:  # not reaped yet, so the group is still its own
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                assert stream is not None
                stream.close()
        assert eventually(self.is_quiet), "a server outlived its last user"

    def _is_server(self, pid: int) -> bool:
        try:
            return os.readlink(f"/proc/{pid}/cwd") == str(self.store)
        except OSError:
            return False


def is_gone(pid: int) -> bool:
    """Say whether the process is over and reaped, which it is not before its last thread ends.

    Until then its connections can be open.
    """
    return not Path(f"/proc/{pid}").exists()


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _arguments(pid: int) -> set[bytes]:
    try:
        return set(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
    except OSError:
        return set()
