"""Real processes that do what a test tells them, all at the same instant if it wants."""

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

spawn = multiprocessing.get_context("spawn")

PATIENCE = 30.0
"""Seconds after which a process of a test is taken for hung."""


class Worker:
    """One process of the site, with the site's own settings and the tests' store."""

    def __init__(self, together: Barrier, *, patient: bool, settles: bool) -> None:
        self._end, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_work, args=(theirs, together, patient, settles))
        self.process.start()
        theirs.close()

    def tell(self, task: Callable[..., Any], *arguments: Any, at_once: bool = False) -> None:
        """Have the process begin the task: now, or when all others have been told too."""
        self._end.send((task, arguments, at_once))

    def answer(self) -> Any:
        """Return what the task returned."""
        assert self._end.poll(PATIENCE), "the process did not answer"
        done, answer = self._end.recv()
        assert done, answer
        return answer

    def ask(self, task: Callable[..., Any], *arguments: Any) -> Any:
        self.tell(task, *arguments)
        return self.answer()

    def kill(self) -> None:
        """End the process as ``kill -9`` does."""
        self.process.kill()
        self.process.join(PATIENCE)

    def leave(self) -> None:
        """Let the process come to its normal end."""
        self._end.close()
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.kill()


class Crew:
    """Several workers. ``patient`` ones take no busy machine for a store that is away.

    By default a task ends when the store has what it counted.
    """

    def __init__(self, number: int, *, patient: bool = True, settles: bool = True) -> None:
        self._together = spawn.Barrier(number)  # is gone for the workers too once it is let go
        self.workers = [
            Worker(self._together, patient=patient, settles=patient and settles)
            for _ in range(number)
        ]

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.leave()

    def ask_all(self, task: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Have all begin the task at the same instant; return their answers."""
        for worker in self.workers:
            worker.tell(task, *arguments, at_once=True)
        return [worker.answer() for worker in self.workers]


def set_up_site(*, patient: bool = False) -> None:
    """Make this process one of the site's, on the store that its environment names."""
    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
    django.setup()
    if patient:
        _wait_for_the_store()


def _wait_for_the_store() -> None:
    from analytics_admin.caching import client
    from analytics_admin.stores import latency

    latency.MAX_WAIT_SECONDS = latency.SLOW_ANSWER_SECONDS = client.REPLY_TIMEOUT = 10.0


def _let_the_store_know() -> None:
    """Wait until the store has what the task counted, and receivers what it changed."""
    from analytics_admin.breakers import runtime

    runtime.engine.report_all(PATIENCE)
    runtime.signal_sender.drain(PATIENCE)


def sleep_until(instant: float) -> None:
    """Sleep until this instant of the machine's monotonic clock, which its processes share."""
    while (left := instant - time.monotonic()) > 0:
        time.sleep(left)


def _work(commands: Connection, together: Barrier, patient: bool, settles: bool) -> None:
    set_up_site(patient=patient)
    while True:
        try:
            task, arguments, at_once = commands.recv()
        except EOFError:
            return
        try:
            if at_once:
                together.wait(PATIENCE)
            answer = task(*arguments)
            if settles:
                _let_the_store_know()
            commands.send((True, answer))
        except BaseException:
            commands.send((False, traceback.format_exc()))
