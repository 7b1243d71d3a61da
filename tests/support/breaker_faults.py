"""Every fault of the breakers' store, and what a process of the site goes through in it.

Each befalls a real server and a process of its own, which reaches it through a proxy.
"""

import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis

from tests.support import breaker_outage as outage
from tests.support.crew import Crew, Worker
from tests.support.proxy import Proxy
from tests.support.servers import StoreServer

MAX_CLIENTS = 12


class Scene:
    """A server, the proxy before it, and the process that uses them."""

    def __init__(self, stack: ExitStack) -> None:
        self.server = stack.enter_context(StoreServer())
        self.proxy = stack.enter_context(Proxy(self.server.socket_path))
        self.admin = redis.Redis(unix_socket_path=self.server.socket_path)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setitem(os.environ, "REDIS_URL", self.proxy.url)
        self.worker: Worker = stack.enter_context(Crew(1, patient=False)).workers[0]
        self._crowd: list[socket.socket] = []

    def configure(self, **options: str | int) -> None:
        for option, value in options.items():
            self.admin.config_set(option.replace("_", "-"), value)

    def crowd(self) -> None:
        """Take every connection that the server allows."""
        for _ in range(MAX_CLIENTS):
            guest = socket.socket(socket.AF_UNIX)
            guest.connect(self.server.socket_path)
            self._crowd.append(guest)
        self.configure(maxclients=MAX_CLIENTS)
        self.proxy.cut_all()

    def disperse(self) -> None:
        for guest in self._crowd:
            guest.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How it begins and ends, and what is left to see when it is over."""

    name: str
    begin: Callable[[Scene], Any]
    end: Callable[[Scene], Any]
    noticed: bool = True
    """False: calls go on with the shared store, nothing is away."""
    slow: bool = False
    """The breakers go on with the shared store: no call waits for it."""
    emptied: bool = False
    """The store comes back without records."""
    act: str = ""
    """What an operator hears meanwhile, if it is certain."""

    @property
    def is_loss(self) -> bool:
        """Whether the breakers lose their store."""
        return self.noticed and not self.slow


def _late(milliseconds: int) -> Fault:
    return Fault(
        slow=True,
        name=f"replies late by {milliseconds} ms",
        begin=lambda scene: setattr(scene.proxy, "delay", milliseconds / 1000),
        end=lambda scene: scene.proxy.heal(),
    )


def _hang_resolution(scene: Scene) -> None:
    scene.worker.ask(outage.hang_name_resolution)
    scene.proxy.cut_all()


def _restart(scene: Scene) -> None:
    scene.server.stop()
    scene.server.start()


def _change_password(scene: Scene) -> None:
    scene.configure(requirepass="another")
    scene.proxy.cut_all()


FAULTS = [
    Fault(
        name="server killed",
        begin=lambda scene: scene.server.stop(),
        end=lambda scene: scene.server.start(),
        emptied=True,
        act="the store cannot be reached",
    ),
    Fault(
        name="server frozen",
        begin=lambda scene: scene.server.freeze(),
        end=lambda scene: scene.server.thaw(),
        act="the store did not answer in time",
    ),
    Fault(
        name="restarted empty",
        begin=_restart,
        end=lambda scene: None,
        noticed=False,
        emptied=True,
        act="done",
    ),
    Fault(
        name="FLUSHALL",
        begin=lambda scene: scene.admin.flushall(),
        end=lambda scene: None,
        noticed=False,
        emptied=True,
        act="done",
    ),
    Fault(
        name="out of memory",
        begin=lambda scene: scene.configure(maxmemory_policy="noeviction", maxmemory=1),
        end=lambda scene: scene.configure(maxmemory=0),
        act="the store is out of memory",
    ),
    Fault(
        name="read-only replica",
        begin=lambda scene: scene.admin.replicaof("127.0.0.1", 1),
        end=lambda scene: scene.admin.replicaof("NO", "ONE"),
        act="the store is a read-only replica",
    ),
    Fault(
        name="cut in mid-reply",
        begin=lambda scene: setattr(scene.proxy, "cut_after", 3),
        end=lambda scene: scene.proxy.heal(),
        act="the store cannot be reached",
    ),
    Fault(
        name="replies swallowed",
        begin=lambda scene: setattr(scene.proxy, "swallow", True),
        end=lambda scene: scene.proxy.heal(),
        act="the store did not answer in time",
    ),
    _late(50),
    _late(90),
    _late(500),
    Fault(
        name="name resolution hangs",
        begin=_hang_resolution,
        end=lambda scene: scene.worker.ask(outage.free_name_resolution),
    ),
    Fault(
        name="wrong password",
        begin=_change_password,
        end=lambda scene: scene.configure(requirepass=""),
        act="the store refused the user name or password",
    ),
    Fault(
        name="too many connections",
        begin=Scene.crowd,
        end=Scene.disperse,
        act="the store cannot be reached",
    ),
]


@dataclass(slots=True, kw_only=True)
class Account:
    """What the process saw; durations in seconds."""

    calls: list[float] = field(default_factory=list)
    by_threads: list[float] = field(default_factory=list)
    failures_by_threads: list[float] = field(default_factory=list)
    by_new_process: list[float] = field(default_factory=list)
    by_tasks: list[float] = field(default_factory=list)
    loop_lag: float = 0.0
    act: str = ""
    news_of_loss: dict[str, list[Any]] = field(default_factory=dict)
    news_of_trip: dict[str, list[Any]] = field(default_factory=dict)
    states: tuple[str, str] = ("", "")
    came_back: bool = True
    back_after: float = 0.0
    """From the store's return."""
    states_after: tuple[str, str] = ("", "")
    shared_after: tuple[str, str] = ("", "")


def suffer(fault: Fault) -> Account:
    """Put a process through the fault."""
    with ExitStack() as stack:
        scene = Scene(stack)
        ask = scene.worker.ask
        ask(outage.begin, outage.OTHERS)
        ask(outage.hold_permits)
        fault.begin(scene)
        seen = Account()
        time.sleep(2 * outage.SYNC)
        seen.calls = ask(outage.call_until_noticed, 5.0 if fault.is_loss else 0.5)
        seen.news_of_loss = ask(outage.news)
        seen.by_threads = ask(outage.call_from_threads)
        seen.failures_by_threads = ask(outage.fail_from_threads)
        seen.by_tasks, seen.loop_lag = ask(outage.call_from_tasks)
        seen.by_new_process = ask(outage.call_from_threads, True)
        ask(outage.forget_news)
        ask(outage.fail, "search", 5)
        seen.states = ask(outage.state, "search"), ask(outage.state, "tripped")
        seen.news_of_trip = ask(outage.news)
        if "resolution" not in fault.name:
            seen.act = ask(outage.reset_as_operator)
        fault.end(scene)
        ended_at = time.monotonic()
        if fault.is_loss:
            seen.came_back = ask(outage.comes_back)
            seen.back_after = time.monotonic() - ended_at
        ask(outage.hear)
        seen.states_after = ask(outage.state, "search"), ask(outage.state, "tripped")
        seen.shared_after = (
            ask(outage.shared_state, "search"),
            ask(outage.shared_state, "tripped"),
        )
    return seen
