"""Runs a fleet by a plan, with real processes and servers, and writes down its history."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from pathlib import Path

import redis
from django.conf import settings
from django.test.utils import override_settings

from analytics_admin.breakers.state_machine import label
from analytics_admin.breakers.stores.base import StoreUnavailable
from analytics_admin.breakers.stores.redis import RedisStore
from tests.support.crew import Worker, sleep_until, spawn
from tests.support.history import workers
from tests.support.history.events import (
    Disturbance,
    HistoryFile,
    Life,
    Record,
    Transition,
)
from tests.support.history.plan import NAMES, PROCESSES, Blow, Plan
from tests.support.proxy import Proxy
from tests.support.servers import StoreServer, free_port

LOOK_EVERY = 0.08
"""Seconds between two readings of the store, which keeps twenty transitions of each breaker."""
AFTERMATH = {"swallow": 1.5, "cut": 0.4, "late": 0.4, "stall": 0.2}
"""Seconds for which a fault of the store goes on after its end: a lost answer is waited for."""


def run(plan: Plan, folder: Path) -> list[Path]:
    """Carry the plan out; return the files of the history."""
    with ExitStack() as stack:
        _Run(plan, folder, stack).run()
    return sorted(folder.glob("*.jsonl"))


class _Run:
    def __init__(self, plan: Plan, folder: Path, stack: ExitStack) -> None:
        self._plan, self._folder, self._stack = plan, folder, stack
        self._history = HistoryFile(folder / "driver.jsonl")
        self._primary = self._new_server()
        self._replica = self._new_replica()
        self._proxy = stack.enter_context(Proxy(self._primary.socket_path))
        stack.enter_context(_environment(REDIS_URL=self._proxy.url))
        self._observer = _Observer(self._history, self._primary)
        self._workers: dict[int, tuple[str, Worker, float]] = {}
        self._spawned = 0
        self._barrier = spawn.Barrier(1)  # nobody waits at it
        self._began = 0.0

    def run(self) -> None:
        operator = self._spawn()
        fleet = [self._spawn() for _ in range(PROCESSES)]
        operator.ask(_ready)
        for worker in fleet:
            worker.ask(_ready)
        self._began = time.monotonic() + 0.2
        for number, worker in enumerate(fleet):
            self._begin(number, worker)
        operator.ask(workers.begin_operations, self._folder, "operator", self._plan, self._began)
        self._observer.start()
        for blow in self._plan.blows:
            sleep_until(self._began + blow.at)
            self._strike(blow)
        sleep_until(self._began + self._plan.seconds)
        for name, worker, began in self._workers.values():
            worker.ask(workers.end)
            self._history.write(Life(process=name, began=began, ended=time.monotonic()))
        operator.ask(workers.end)
        self._observer.finish()

    def _spawn(self) -> Worker:
        worker = Worker(self._barrier, patient=False, settles=False)
        self._stack.callback(worker.leave)
        return worker

    def _begin(self, number: int, worker: Worker) -> None:
        self._spawned += 1
        name = f"process-{self._spawned}"
        self._workers[number] = name, worker, time.monotonic()
        worker.ask(workers.begin_calls, self._folder, name, self._plan, self._began)

    # Faults.

    def _strike(self, blow: Blow) -> None:
        began = time.monotonic()
        {
            "stop": self._stop,
            "kill": self._kill,
            "stall": self._stall,
            "cut": self._cut,
            "swallow": self._swallow,
            "late": self._be_late,
            "restart": self._restart,
            "failover": self._fail_over,
        }[blow.kind](blow)
        if blow.kind not in ("stop", "kill"):
            ended = time.monotonic() + AFTERMATH.get(blow.kind, 1.5)
            loses_data = blow.kind in ("restart", "failover")
            self._history.write(
                Disturbance(
                    process="", began=began, ended=ended, what=blow.kind, loses_data=loses_data
                )
            )

    def _stop(self, blow: Blow) -> None:
        name, worker, _ = self._workers[blow.process]
        pid, began = worker.process.pid, time.monotonic()
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        time.sleep(blow.seconds)
        os.kill(pid, signal.SIGCONT)
        ended = time.monotonic() + 0.02
        self._history.write(Disturbance(process=name, began=began, ended=ended, what="stopped"))

    def _kill(self, blow: Blow) -> None:
        name, worker, began = self._workers[blow.process]
        worker.kill()
        ended = time.monotonic()
        self._history.write(Life(process=name, began=began, ended=ended, was_killed=True))
        self._begin(blow.process, self._spawn())

    def _stall(self, blow: Blow) -> None:
        self._primary.freeze()
        time.sleep(blow.seconds)
        self._primary.thaw()

    def _cut(self, blow: Blow) -> None:
        self._proxy.cut_all()

    def _swallow(self, blow: Blow) -> None:
        self._proxy.swallow = True
        time.sleep(blow.seconds)
        self._proxy.swallow = False

    def _be_late(self, blow: Blow) -> None:
        self._proxy.delay = 0.08
        time.sleep(blow.seconds)
        self._proxy.delay = 0.0

    def _restart(self, blow: Blow) -> None:
        """The server comes back without its data."""
        self._primary.stop()
        time.sleep(blow.seconds)
        self._primary.start()
        self._follow(self._replica, self._primary)

    def _fail_over(self, blow: Blow) -> None:
        """The replica takes over behind the same address; a new one follows it."""
        old, self._primary = self._primary, self._replica
        old.stop()
        _admin(self._primary).replicaof("NO", "ONE")
        self._observer.server = self._primary
        self._proxy.move_to(self._primary.socket_path)
        self._replica = self._new_replica()

    def _new_server(self) -> StoreServer:
        return self._stack.enter_context(StoreServer(port=free_port(), repl_diskless_sync_delay=0))

    def _new_replica(self) -> StoreServer:
        replica = self._new_server()
        self._follow(replica, self._primary)
        return replica

    def _follow(self, replica: StoreServer, primary: StoreServer) -> None:
        admin = _admin(replica)
        admin.replicaof("127.0.0.1", primary.port)
        until = time.monotonic() + 20
        while admin.info("replication")["master_link_status"] != "up":
            assert time.monotonic() < until, "the replica does not follow"
            time.sleep(0.01)


class _Observer(threading.Thread):
    """Reads the store by itself, not through the proxy, all the time."""

    def __init__(self, history: HistoryFile, server: StoreServer) -> None:
        super().__init__(daemon=True)
        self.server = server
        self._history = history
        self._seen: set[tuple[str, str]] = set()
        self._over = threading.Event()
        self._stores: dict[str, RedisStore] = {}

    def run(self) -> None:
        while not self._over.wait(LOOK_EVERY):
            with suppress(StoreUnavailable):
                self._look()

    def finish(self) -> None:
        """Read the store for the last time."""
        self._over.set()
        self.join()
        self._look(is_final=True)

    def _look(self, *, is_final: bool = False) -> None:
        store = self._store()
        began, now = time.monotonic(), time.time()
        reading = store.read_transitions(NAMES)
        ended, ahead = time.monotonic(), now - began
        if ended - began > 0.05:
            slow = Disturbance(process="", began=began, ended=ended, what="slow answer")
            self._history.write(slow)
        for name, transitions in reading.transitions.items():
            for it in reversed(transitions):
                if (name, it.attempt) not in self._seen:
                    self._seen.add((name, it.attempt))
                    self._history.write(
                        Transition(
                            name=name,
                            attempt=it.attempt,
                            from_state=it.from_state,
                            to_state=it.to_state,
                            cause=it.cause,
                            at=it.at - ahead,
                            failures_in_a_row=it.consecutive_failures,
                        )
                    )
        for name, snapshot in reading.snapshots.items():
            if snapshot is not None:
                self._history.write(
                    Record(
                        name=name,
                        began=began,
                        ended=ended,
                        generation=snapshot.generation,
                        label=label(snapshot),
                        calls=snapshot.counts.calls,
                        failures=snapshot.counts.failures,
                        is_final=is_final,
                    )
                )

    def _store(self) -> RedisStore:
        path = self.server.socket_path
        if path not in self._stores:
            caches = deepcopy(settings.CACHES)
            caches["breakers"]["LOCATION"] = f"unix://{path}?db=2"
            with override_settings(CACHES=caches):
                self._stores[path] = RedisStore("breakers", timeout=1.0)
        return self._stores[path]


def _ready() -> None:
    """Return once the process has started."""


def _admin(server: StoreServer) -> redis.Redis:
    return redis.Redis(unix_socket_path=server.socket_path)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
