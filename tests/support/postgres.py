"""A throw-away PostgreSQL server, and a pgbouncer before it, for tests and benchmarks."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import psycopg

from tests.support.servers import free_port

OWNER = "postgres"  # neither server runs as root


def find_program(name: str) -> Path:
    """Return a program of the newest PostgreSQL that Debian has installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4])
    )
    assert found, f"no {name}: apt-get install postgresql"
    return found[-1]


class _Server:
    """A server in a folder of its own, which ends with this process."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="aa-postgres-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            account = pwd.getpwnam(OWNER)
            os.chown(self.folder, account.pw_uid, account.pw_gid)

    @property
    def url(self) -> str:
        """Address for DATABASE_URL."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgres://{OWNER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "_Server":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self, *command: str | Path) -> None:
        self.process = subprocess.Popen(
            _as_owner(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
            except psycopg.OperationalError:
                assert self.process.poll() is None, f"{command[0]} has ended"
                assert time.monotonic() < deadline, f"{command[0]} does not answer"
                time.sleep(0.05)
            else:
                return


class Postgres(_Server):
    """A PostgreSQL server on loopback; what it holds is lost with it."""

    def __init__(self, **config: str) -> None:
        super().__init__()
        self.config = config

    def crash(self) -> None:
        """End it at once, with all connections; ``resume`` starts it with what was committed."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def resume(self) -> None:
        self._run(self.folder / "data")

    def start(self) -> None:
        data = self.folder / "data"
        locale = ("-E", "UTF8", "--locale=C.UTF-8")
        subprocess.run(
            _as_owner(
                find_program("initdb"), "-D", data, "-U", OWNER, "-A", "trust", *locale, "--no-sync"
            ),
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        self._run(data)

    def _run(self, data: Path) -> None:
        config = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            **self.config,
        }
        options = [part for name, value in config.items() for part in ("-c", f"{name}={value}")]
        self._launch(find_program("postgres"), "-D", data, "-p", str(self.port), *options)


class PgBouncer(_Server):
    """A pgbouncer in transaction mode before a server, with few connections to it."""

    def __init__(self, server: Postgres, *, pool_size: int = 2) -> None:
        super().__init__()
        self.server = server
        self.pool_size = pool_size

    def start(self) -> None:
        config = self.folder / "pgbouncer.ini"
        config.write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={self.server.port} user={OWNER}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {self.pool_size}\n"
        )
        config.chmod(0o644)
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "no pgbouncer: apt-get install pgbouncer"
        self._launch(program, config)


def _as_owner(*command: str | Path) -> list[str]:
    switch = [f"--reuid={OWNER}", f"--regid={OWNER}", "--init-groups"]
    # The kernel ends it with the tests, also when they are killed.
    end = ["--pdeathsig", "KILL"]
    return ["setpriv", *(switch if os.geteuid() == 0 else []), *end, *map(str, command)]
