"""Results are counted exactly, however the processes begin, share the work, and end."""

import asyncio
import http.client
import multiprocessing
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analytics_admin.breakers import circuit_breaker
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.breakers.state import Counts
from tests.support.crew import PATIENCE, Crew, set_up_site
from tests.support.servers import free_port, listening
from tests.support.sites import ROOT, eventually
from tests.support.together import in_threads

PROCESSES = 4


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with Crew(PROCESSES) as crew:
        yield crew


def counted(name: str) -> Counts:
    """Return what the shared store has counted."""
    snapshot = operator_store().load_many([name]).snapshots[name]
    return snapshot.counts if snapshot else Counts()


def breaker(name: str) -> Any:
    return circuit_breaker(name, failure_threshold=1_000_000)


def ready(name: str) -> None:
    """Have read the breaker's record: what passes before that counts nowhere."""
    assert breaker(name).state == "closed"


def fail_in_threads(name: str, threads: int, times: int) -> None:
    protected = breaker(name)

    def fail() -> None:
        for _ in range(times):
            protected.acquire().fail()

    in_threads(threads, lambda _: fail())


def succeed(name: str, times: int) -> None:
    protected = breaker(name)(lambda: None)
    for _ in range(times):
        protected()


def succeed_in_threads(name: str, threads: int, times: int) -> None:
    in_threads(threads, lambda _: succeed(name, times))


def succeed_and_fail_in_tasks(name: str, tasks: int) -> None:
    @breaker(name)
    async def call(number: int) -> None:
        await asyncio.sleep(0.001 * (number % 7))
        if number % 10 == 0:
            raise OSError

    async def run() -> None:
        await asyncio.gather(*(call(number) for number in range(tasks)), return_exceptions=True)

    asyncio.run(run())


def flush() -> None:
    from analytics_admin.breakers.runtime import engine

    engine.flush()


def test_2000_concurrent_failures_of_each_of_4_processes_are_8000(crew: Crew) -> None:
    crew.ask_all(ready, "failures")
    crew.ask_all(fail_in_threads, "failures", 4, 500)
    assert counted("failures") == Counts(calls=8000, failures=8000)


def test_no_success_of_any_thread_is_lost(crew: Crew) -> None:
    crew.ask_all(ready, "successes")
    crew.ask_all(succeed_in_threads, "successes", 8, 5000)
    crew.ask_all(flush)
    assert counted("successes") == Counts(calls=PROCESSES * 8 * 5000)


def test_no_result_of_any_task_is_lost(crew: Crew) -> None:
    crew.ask_all(ready, "tasks")
    crew.ask_all(succeed_and_fail_in_tasks, "tasks", 500)
    crew.ask_all(flush)
    assert counted("tasks") == Counts(calls=PROCESSES * 500, failures=PROCESSES * 50)


# How a process ends.


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_multiprocessing_child_tells_its_successes_when_it_ends(method: str) -> None:
    """Its way out passes by no atexit."""
    context = multiprocessing.get_context(method)
    child = context.Process(target=CHILDREN[method], args=(f"child-{method}",))
    child.start()
    child.join(PATIENCE)
    assert child.exitcode == 0
    assert counted(f"child-{method}") == Counts(calls=100)


def _forked(name: str) -> None:
    ready(name)
    succeed(name, 100)


def _begun_anew(name: str) -> None:
    set_up_site()
    _forked(name)


CHILDREN = {"fork": _forked, "spawn": _begun_anew, "forkserver": _begun_anew}


def test_a_child_that_first_meets_the_engine_itself_tells_its_successes_when_it_ends() -> None:
    """multiprocessing forgets, as it forks, what was to be done at the end of the parent."""
    done = run_program(
        """
        import multiprocessing

        def work():
            from tests.fleet import test_breaker_counts as counts
            counts._begun_anew("late-import")

        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join()
        """
    )
    assert done.returncode == 0, done.stderr
    assert counted("late-import") == Counts(calls=100)


def run_program(program: str) -> "subprocess.CompletedProcess[str]":
    """Run Python of the site's own, which knows nothing of the tests' processes."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "project.settings"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


PROGRAM = """
import os, signal, sys
from tests.fleet import test_breaker_counts as counts
counts.set_up_site()
counts.ready("ends")
counts.succeed("ends", 100)
"""


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("", 100),
        ("sys.exit(3)", 100),
        ("raise ValueError", 100),
        ("os.kill(os.getpid(), signal.SIGINT)", 100),
        ("os.kill(os.getpid(), signal.SIGKILL)", 0),
        ("counts.flush(); counts.succeed('ends', 7); os.kill(os.getpid(), signal.SIGKILL)", 100),
    ],
)
def test_only_what_kill_9_meets_untold_is_lost(ending: str, told: int) -> None:
    run_program(PROGRAM + ending)
    assert counted("ends") == Counts(calls=told)


# Forks.


def test_a_forked_child_tells_its_own_successes_and_none_of_its_parents() -> None:
    done = run_program(
        PROGRAM
        + """
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        counts.succeed("ends", 10)
        sys.exit()
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
counts.succeed("ends", 1)
"""
    )
    assert done.returncode == 0, done.stderr
    assert counted("ends") == Counts(calls=100 + 3 * 10 + 1)


def test_forks_amid_busy_threads_lose_and_repeat_nothing() -> None:
    done = run_program(
        PROGRAM
        + """
import threading
threads = [threading.Thread(target=counts.succeed, args=("ends", 200_000)) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(8):
    pid = os.fork()
    if pid == 0:
        counts.succeed("ends", 10)
        counts.flush()
        os._exit(0)
    os.waitpid(pid, 0)
for thread in threads:
    thread.join()
"""
    )
    assert done.returncode == 0, done.stderr
    assert counted("ends") == Counts(calls=100 + 4 * 200_000 + 8 * 10)


PRELOADED = """
import os
from tests.fleet.test_breaker_counts import ready, set_up_site, succeed
set_up_site()
ready("served")
succeed("served", 5)

def application(environ, start_response):
    succeed("served", 1)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


def test_gunicorn_preload_counts_every_request_and_the_preload_once(tmp_path: Path) -> None:
    (tmp_path / "preloaded.py").write_text(PRELOADED)
    port = free_port()
    answers: list[bytes] = []

    def ask_often() -> None:
        answers.extend(filter(None, (ask(port) for _ in range(25))))

    def every_worker_served() -> bool:  # one that is asked to end while it begins does not hear it
        in_threads(8, lambda _: ask_often())
        return len(set(answers)) == 4

    command = (
        *("-m", "gunicorn", "--preload", "--workers", "4", "--threads", "2"),
        *("--bind", f"127.0.0.1:{port}", "--no-control-socket", "preloaded:application"),
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    log = tmp_path / "server.log"
    with listening(*command, port=port, cwd=tmp_path, environment=environment, log=log):
        assert eventually(every_worker_served, seconds=PATIENCE)
    assert counted("served") == Counts(calls=5 + len(answers))


def ask(port: int) -> bytes:
    """Return the answer to one request; nothing while nobody serves."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    except OSError:
        return b""
    finally:
        connection.close()
