"""Runs a plan: a fleet's processes, its servers, its database, and what befalls them."""

import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.chaos.events import DATABASE, STORE, TWO_PRIMARIES, Calm, Row
from tests.support.chaos.plan import OPERATORS, SHARED, WORKERS, Act, Blow, Plan
from tests.support.chaos.program import VARIABLE, Orders
from tests.support.crew import sleep_until
from tests.support.fleets import OWN_SETTINGS, RETRY
from tests.support.history.events import Disturbance, HistoryFile, Life
from tests.support.postgres import Postgres
from tests.support.sentinels import SERVICE, SentinelGroup
from tests.support.servers import StoreServer
from tests.support.ways import Way, start_program

GRACE = 2.0
"""SEARCH_CACHE_SOFT_CLEAR_GRACE."""
BUSY_TIMEOUT = 1
"""Seconds for which the site waits for a locked database."""
SETTINGS = f"""{OWN_SETTINGS}
ANALYTICS_ADMIN["SEARCH_CACHE_SOFT_CLEAR_GRACE"] = {GRACE}
ANALYTICS_ADMIN["THROTTLE_RATES"] = {{"write": None, "login": None}}
"""
PREPARE = "tests.support.chaos.prepare"
FAILOVER_SECONDS = 20.0
QUERY = "SELECT id, actor, reason, kind, status, outcome FROM analytics_admin_operation"


def run(plan: Plan, folder: Path, *, seconds: float, database: str = "sqlite") -> list[Path]:
    """Carry the plan out; return the files of what was written down."""
    with ExitStack() as stack:
        _Run(plan, folder, seconds, database, stack).run()
    return sorted(folder.glob("*.jsonl"))


class _Watch(threading.Thread):
    """Writes down when both servers take writes: the old primary has not heard of the new one."""

    def __init__(self, group: SentinelGroup, history: HistoryFile) -> None:
        super().__init__(daemon=True)
        self._servers, self._history, self._over = group.servers, history, threading.Event()

    def run(self) -> None:
        since: float | None = None
        last = time.monotonic()
        while not self._over.wait(0.05):
            began = time.monotonic()
            if all(map(_is_primary, self._servers)):
                since = last if since is None else since
            elif since is not None:
                self._note(since, time.monotonic())
                since = None
            last = began
        if since is not None:
            self._note(since, time.monotonic())

    def _note(self, began: float, ended: float) -> None:
        self._history.write(
            Disturbance(
                process=STORE, began=began, ended=ended, what=TWO_PRIMARIES, loses_data=True
            )
        )

    def end(self) -> None:
        self._over.set()
        self.join()


def _is_primary(server: StoreServer) -> bool:
    """Return whether it takes writes, as far as can be told: one that is frozen tells nothing."""
    if server.process is None:
        return False
    client = redis.Redis(
        unix_socket_path=server.socket_path, socket_timeout=0.02, retry=Retry(NoBackoff(), 0)
    )
    with client, suppress(redis.RedisError, OSError):
        return bool(client.execute_command("ROLE")[0] == b"master")
    return False


class _Program:
    """One process of the site. ``began`` is when it was ready."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name, self.process, self.began = name, process, 0.0

    def await_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", f"{self.name} did not begin"
        self.began = time.monotonic()

    def say(self, line: str) -> None:
        """Send a line; a process that has been killed hears nothing."""
        assert self.process.stdin is not None
        with suppress(OSError, ValueError):
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> None:
        self.process.communicate(timeout=60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()


class _Run:
    def __init__(
        self, plan: Plan, folder: Path, seconds: float, database: str, stack: ExitStack
    ) -> None:
        self._plan, self._folder, self._seconds, self._stack = plan, folder, seconds, stack
        self._history = HistoryFile(folder / "driver.jsonl")
        self._database: _Database = stack.enter_context(_DATABASES[database](folder))
        self._group = stack.enter_context(SentinelGroup())
        hosts = ",".join(f"{host}:{port}" for host, port in self._group.addresses)
        self._way = Way(
            url=f"redis+sentinel://{hosts}/{SERVICE}", more=SETTINGS, database=self._database.url
        )
        self._primary = self._group.primary
        self._started = 0
        self._workers: list[_Program] = []
        self._operators: list[_Program] = []
        self._round_began = 0.0

    def run(self) -> None:
        prepare = self._start("prepare", PREPARE)
        self._workers = [self._start("worker") for _ in range(WORKERS)]  # they use no database
        prepare.end()
        assert prepare.process.returncode == 0, (self._folder / "prepare.log").read_text()
        self._operators = [self._start("operator") for _ in range(OPERATORS)]
        observer = self._start("observer")
        for program in (*self._workers, *self._operators, observer):
            program.await_ready()
        watch = _Watch(self._group, self._history)
        watch.start()
        began = time.monotonic()
        for place in range(len(self._plan.rounds)):
            if time.monotonic() - began < self._seconds:  # a round may take longer than planned
                self._go_round(place)
        watch.end()
        for program in (*self._operators, *self._workers, observer):
            program.end()
            assert program.process.returncode == 0, f"{program.name} broke; see its log"
        for worker in self._workers:
            self._note_life(worker)
        for row in self._database.rows():
            self._history.write(row)

    def _start(self, kind: str, module: str = "") -> _Program:
        name = kind if kind in ("prepare", "observer") else f"{kind}-{self._started}"
        self._started += 1
        plan = self._plan
        orders = Orders(
            process=name,
            folder=str(self._folder),
            seed=plan.seed,
            seconds=self._seconds,
            busy=plan.busy,
            calm=plan.calm,
        )
        process = start_program(
            self._folder,
            self._way,
            module or f"tests.support.chaos.{kind}s".replace("observers", "observer"),
            log=self._folder / f"{name}.log",
            **{VARIABLE: json.dumps(asdict(orders))},
        )
        program = _Program(name, process)
        self._stack.callback(program.kill)
        return program

    def _go_round(self, place: int) -> None:
        acts = self._plan.rounds[place].acts
        self._round_began = time.monotonic()
        for worker in self._workers:
            worker.say(str(self._round_began))
        messenger = threading.Thread(target=self._send_acts, args=(acts,))
        messenger.start()
        for blow in self._plan.rounds[place].blows:
            sleep_until(self._round_began + blow.at)
            self._strike(blow)
        messenger.join()
        sleep_until(self._round_began + self._plan.busy)
        self._calm_down(place)

    def _send_acts(self, acts: tuple[Act, ...]) -> None:
        for act in acts:
            sleep_until(self._round_began + act.at)
            self._send(act)

    def _send(self, act: Act) -> None:
        fields = {"id": act.id, "kind": act.kind, "over_rest": act.over_rest}
        operator = self._operators[act.operator]
        operator.say(json.dumps(fields | {"targets": act.targets}))

    def _calm_down(self, place: int) -> None:
        """Let nothing happen, but for a hold of one breaker that everybody must obey."""
        assert self._await_replication(seconds=60.0), "the servers do not come together"
        began = time.monotonic()
        held = {"name": SHARED, "control": "forced_open"}
        for at, kind, targets in (
            (RETRY + 1.0, "hold", held),
            (RETRY + 3.0, "release", {"name": SHARED}),
        ):
            sleep_until(began + at)
            id = f"{kind}-shared-{place}"
            self._send(Act(at=at, id=id, kind=kind, operator=0, over_rest=False, targets=targets))
        sleep_until(began + self._plan.calm)
        self._history.write(Calm(began=began, ended=time.monotonic()))

    # Faults. Each ends before it returns.

    def _strike(self, blow: Blow) -> None:
        began = time.monotonic()
        whom, loses_data = {
            "stop worker": self._stop_worker,
            "stop operator": self._stop_operator,
            "kill worker": self._kill_worker,
            "kill operator": self._kill_operator,
            "kill primary": self._kill_primary,
            "freeze primary": self._freeze_primary,
            "empty primary": self._empty_primary,
            "restore primary": self._restore_primary,
            "fail over": self._fail_over,
            "kill replica": self._kill_replica,
            "freeze replica": self._freeze_replica,
            "kill sentinel": self._kill_sentinel,
            "freeze sentinel": self._freeze_sentinel,
            "database": self._trouble_database,
        }[blow.kind](blow)
        ended = time.monotonic()
        self._history.write(
            Disturbance(
                process=whom, began=began, ended=ended, what=blow.kind, loses_data=loses_data
            )
        )

    def _stop_worker(self, blow: Blow) -> tuple[str, bool]:
        return self._stop(self._workers[blow.number % WORKERS], blow.seconds), False

    def _stop_operator(self, blow: Blow) -> tuple[str, bool]:
        return self._stop(self._operators[blow.number % OPERATORS], blow.seconds), False

    def _stop(self, program: _Program, seconds: float) -> str:
        program.signal(signal.SIGSTOP)
        time.sleep(seconds)
        program.signal(signal.SIGCONT)
        return program.name

    def _kill_worker(self, blow: Blow) -> tuple[str, bool]:
        number = blow.number % WORKERS
        old = self._workers[number]
        old.kill()
        self._note_life(old, was_killed=True)
        new = self._start("worker")
        new.await_ready()
        new.say(str(self._round_began))
        self._workers[number] = new
        return old.name, False

    def _kill_operator(self, blow: Blow) -> tuple[str, bool]:
        number = blow.number % OPERATORS
        old = self._operators[number]
        old.kill()
        self._note_life(old, was_killed=True)
        new = self._start("operator")
        new.await_ready()
        self._operators[number] = new
        return old.name, False

    def _note_life(self, program: _Program, *, was_killed: bool = False) -> None:
        self._history.write(
            Life(
                process=program.name,
                began=program.began,
                ended=time.monotonic(),
                was_killed=was_killed,
            )
        )

    @property
    def _replica(self) -> StoreServer:
        return next(server for server in self._group.servers if server is not self._primary)

    def _kill_primary(self, blow: Blow) -> tuple[str, bool]:
        if not self._await_replication():
            return STORE, False
        old = self._primary
        old.stop()
        self._primary = self._await_other_primary()
        self._join(old)
        return STORE, True

    def _join(self, server: StoreServer) -> None:
        """Start a server that has been the primary or its replica, as the replica."""
        server.start()
        server.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        server.ask("REPLICAOF", "127.0.0.1", str(self._primary.port))

    def _freeze_primary(self, blow: Blow) -> tuple[str, bool]:
        """If it was long, the replica has taken over, and the Sentinels demote the old one."""
        if not self._await_replication():
            return STORE, False
        self._primary.freeze()
        time.sleep(blow.seconds)
        self._primary.thaw()
        time.sleep(1.0)
        return STORE, self._note_primary()

    def _empty_primary(self, blow: Blow) -> tuple[str, bool]:
        """It restarts without its data before anybody takes over, and the replica copies that."""
        self._await_replication()
        self._primary.stop()
        (self._primary.folder / "dump.rdb").unlink(missing_ok=True)
        self._primary.start()
        return STORE, True

    def _restore_primary(self, blow: Blow) -> tuple[str, bool]:
        """It restarts from a snapshot of a second ago."""
        self._await_replication()
        self._primary.ask("SAVE")
        time.sleep(1.0)
        self._primary.stop()
        self._primary.start()
        (self._primary.folder / "dump.rdb").unlink()
        return STORE, True

    def _fail_over(self, blow: Blow) -> tuple[str, bool]:
        if not self._await_replication():  # nobody would choose a replica without the data
            return STORE, False
        with suppress(Exception):  # a Sentinel that has just failed over refuses for a while
            self._group.sentinels[1].ask("SENTINEL", "FAILOVER", SERVICE)
            self._primary = self._await_other_primary(seconds=5.0)
        return STORE, True

    def _kill_replica(self, blow: Blow) -> tuple[str, bool]:
        self._await_replication()
        replica = self._replica
        replica.stop()
        time.sleep(blow.seconds)
        self._note_primary()
        self._join(replica)
        return STORE, False

    def _freeze_replica(self, blow: Blow) -> tuple[str, bool]:
        self._await_replication()
        replica = self._replica
        replica.freeze()
        time.sleep(blow.seconds)
        replica.thaw()
        return STORE, self._note_primary()

    def _kill_sentinel(self, blow: Blow) -> tuple[str, bool]:
        sentinel = self._group.sentinels[blow.number % 3]
        sentinel.stop()
        time.sleep(blow.seconds)
        sentinel.start()
        return STORE, False

    def _freeze_sentinel(self, blow: Blow) -> tuple[str, bool]:
        sentinel = self._group.sentinels[blow.number % 3]
        sentinel.freeze()
        time.sleep(blow.seconds)
        sentinel.thaw()
        return STORE, False

    def _trouble_database(self, blow: Blow) -> tuple[str, bool]:
        self._database.trouble(blow.seconds)
        return DATABASE, False

    def _note_primary(self) -> bool:
        """Return whether another server is the primary than before."""
        ports = [self._named_by(number) for number in range(3)]
        before = self._primary
        for server in self._group.servers:
            if ports.count(server.port) >= 2:
                self._primary = server
        return self._primary is not before

    def _named_by(self, number: int) -> int:
        with suppress(Exception):
            return self._group.primary_port(of=number)
        return 0

    def _await_other_primary(self, *, seconds: float = FAILOVER_SECONDS) -> StoreServer:
        return self._group.await_primary(other_than=self._primary.port, seconds=seconds)

    def _await_replication(self, *, seconds: float = 12.0) -> bool:
        """Wait until the Sentinels agree on a primary, and the other server follows it."""
        deadline = time.monotonic() + seconds
        while not (is_replicated := self._is_replicated()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return is_replicated

    def _is_replicated(self) -> bool:
        self._note_primary()
        ports = {self._named_by(number) for number in range(3)}
        if ports != {self._primary.port}:
            return False
        with suppress(Exception):
            follows = self._replica.ask("INFO", "replication")
            return (
                self._primary.ask("ROLE")[0] == b"master"
                and follows.get("master_port") == self._primary.port
                and follows.get("master_link_status") == "up"
            )
        return False


class _Database:
    """Where the audit trail is."""

    url = ""

    def trouble(self, seconds: float) -> None:
        """Have it fail for a while."""
        raise NotImplementedError

    def rows(self) -> Iterator[Row]:
        for id, actor, reason, kind, status, outcome in self._read(QUERY):
            fields = json.loads(outcome) if isinstance(outcome, str) else outcome
            yield Row(
                id=str(id).replace("-", ""),
                actor=actor,
                reason=reason,
                kind=kind,
                status=status,
                reached=tuple(fields.get("names", ())) if isinstance(fields, dict) else (),
            )

    def _read(self, query: str) -> list[tuple[Any, ...]]:
        raise NotImplementedError


class _SQLite(_Database):
    def __init__(self, folder: Path) -> None:
        self._file = folder / "chaos.sqlite3"
        self.url = f"sqlite:///{self._file}?timeout={BUSY_TIMEOUT}"

    def trouble(self, seconds: float) -> None:
        """Lock it, as another program would."""
        connection = sqlite3.connect(self._file, isolation_level=None, timeout=10)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
        finally:
            connection.close()

    def _read(self, query: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self._file)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()


class _Postgres(_Database):
    def __init__(self, server: Postgres) -> None:
        self._server = server
        self.url = server.url

    def trouble(self, seconds: float) -> None:
        """Let it crash, and start it again."""
        self._server.crash()
        time.sleep(seconds)
        self._server.resume()

    def _read(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(query).fetchall()


@contextmanager
def _sqlite(folder: Path) -> Iterator[_Database]:
    yield _SQLite(folder)


@contextmanager
def _postgres(folder: Path) -> Iterator[_Database]:
    with Postgres() as server:
        yield _Postgres(server)


_DATABASES: dict[str, Callable[[Path], Any]] = {"sqlite": _sqlite, "postgres": _postgres}
