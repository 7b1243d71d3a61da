"""Soft clear, undo, sweep in a fleet: seen by all at once, never too old, never in the way."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches

from tests.fleet import search_cache_tasks as tasks
from tests.support.crew import Crew
from tests.support.sites import eventually

ROOT = Path(__file__).parents[2]
DEAD = "x" * 16
LEFT = 150_000  # a scan of a second or so: time to be interrupted in


@pytest.fixture
def crew() -> Iterator[Crew]:
    with Crew(4) as crew:
        for worker in crew.workers:
            worker.ask(tasks.configure)
            worker.ask(tasks.warm_up)
        yield crew


def store() -> Any:
    return caches["search"].client.get_client(write=True)


def leave_behind(number: int) -> None:
    """Store values of an epoch that is not accepted, in steps within the store's time-out."""
    script = """
    local entry = '1 ' .. ARGV[4] .. ' 1 0 1 0\\n1'
    for i = ARGV[1], ARGV[2] do redis.call('SET', ARGV[3] .. i, entry) end
    """
    prefix = caches["search"].make_key("2:value:k:")
    for start in range(0, number, 5_000):
        store().eval(script, 0, start, min(start + 5_000, number) - 1, prefix, DEAD)


def test_a_soft_clear_and_its_undo_are_seen_by_every_process_at_once(crew):
    one, other = crew.workers[:2]
    one.ask(tasks.get_or_compute, "q", "kept")
    for _ in range(20):
        one.ask(tasks.clear_softly)
        assert other.ask(tasks.get, "q") is None
        one.ask(tasks.undo)
        assert other.ask(tasks.get, "q") == "kept"


def test_under_traffic_nothing_is_served_as_fresh_after_a_soft_clear_nor_stale_beyond_its_bound(
    crew, tmp_path: Path
):
    bound = 0.25
    (tmp_path / "version").write_text("0")
    (tmp_path / "clears").write_text("[]")
    *searching, clearing = crew.workers
    for worker in crew.workers:
        worker.ask(_short_bound, bound)
    for worker in searching:
        worker.tell(tasks.search_while_softly_cleared, 5.0, str(tmp_path), bound)
    time.sleep(0.5)  # for every key to be filled
    for version in range(1, 16):
        time.sleep(0.1 if version % 3 else 0.5)
        clearing.ask(tasks.raise_version_and_clear_softly, str(tmp_path), version)
    seen = [worker.answer() for worker in searching]
    assert sum(each["outdated"] + each["overdue"] for each in seen) == 0
    assert sum(each["stale"] for each in seen) > 20
    assert sum(each["failed"] for each in seen) > 20
    assert sum(each["hit"] for each in seen) > 1000


def _short_bound(bound: float) -> None:
    tasks.configure(SEARCH_CACHE_SOFT_CLEAR_GRACE=bound)


def test_a_sweep_takes_nothing_of_what_others_fill_meanwhile(crew):
    keys = 1500
    leave_behind(LEFT)
    sweeping, *filling = crew.workers
    sweeping.tell(tasks.sweep)
    for worker in filling:
        worker.tell(tasks.fill_each, keys)
    assert sum(worker.answer() for worker in filling) == 0
    outcome = sweeping.answer()
    assert LEFT - keys <= outcome.removed <= LEFT
    assert filling[0].ask(tasks.fill_each, keys) == 0
    assert filling[0].ask(tasks.counts).fills <= keys  # the second time all were there


def test_a_command_that_is_interrupted_is_exit_code_1_and_the_next_removes_the_rest(tmp_path: Path):
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
    }
    manage = [sys.executable, "manage.py"]
    subprocess.run([*manage, "migrate", "-v0"], env=environment, cwd=ROOT, check=True)
    leave_behind(LEFT)
    sweep = [*manage, "sweep_search_cache", "--no-input", "--json"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(sweep, env=environment, cwd=ROOT, **pipes) as process:
        assert eventually(lambda: 0 < store().dbsize() < LEFT * 0.9)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, json.loads(out)["code"]) == (1, "interrupted")
    assert (
        err
        == "CommandError: Interrupted: what was removed stays removed. Run it again for the rest.\n"
    )
    assert store().dbsize() > 1
    again = subprocess.run(sweep, env=environment, cwd=ROOT, check=True, **pipes)
    assert json.loads(again.stdout)["message"].startswith("Search cache swept: ")
    assert store().dbsize() == 0


def test_two_sweeps_at_once_remove_all_between_them(crew):
    leave_behind(20_000)
    outcomes = crew.ask_all(_sweep_or_count)
    assert sum(outcomes) == 20_000
    assert store().dbsize() == 0


def _sweep_or_count() -> int:
    return tasks.sweep().removed
