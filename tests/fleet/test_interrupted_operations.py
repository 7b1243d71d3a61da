"""Acts that are killed, that meet one another, or whose database fails: nothing is claimed done."""

import http.client
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.fleet.deployments import USERS, Deployment, Operator
from tests.support.sites import eventually

CLEAR = "/api/v1/analytics/cache/clear"
RESET = "/api/v1/analytics/circuit-breakers/reset"
SENTENCE = {CLEAR: "Failed to clear cache: ", RESET: "Failed to reset circuit breakers: "}
NAME = {CLEAR: "clear_search_cache", RESET: "reset_circuit_breakers"}
"""Of the command, and of the act in the audit trail."""
BUTTON = {
    CLEAR: "/admin/analytics_admin/searchcache/clear/",
    RESET: "/admin/analytics_admin/circuitbreaker/reset/",
}
KEYS = 500_000  # a walk of a second or so: time to be killed in


@pytest.fixture(scope="module")
def walking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A site whose clears walk over the keys; one worker serves it."""
    settings = 'ANALYTICS_ADMIN = {"SEARCH_CACHE_DEDICATED": False}\n'
    yield from _deployed(tmp_path_factory.mktemp("walking"), workers=1, settings=settings)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The site as it is; two workers serve it."""
    yield from _deployed(tmp_path_factory.mktemp("served"), workers=2)


def _deployed(folder: Path, *, workers: int, settings: str = "") -> Iterator[Deployment]:
    deployment = Deployment(folder / "site", settings=settings)
    try:
        deployment.prepare()
        deployment.serve(workers=workers)
        yield deployment
    finally:
        deployment.close()


@pytest.fixture(autouse=True)
def _forget_rates(request: pytest.FixtureRequest) -> None:
    for name in {"walking", "served"} & set(request.fixturenames):
        request.getfixturevalue(name).client(0).flushdb()


# Killed


def _fill(deployment: Deployment) -> None:
    script = "for i = ARGV[1], ARGV[2] do redis.call('SET', 'search:1:' .. i, 'v') end"
    client = deployment.client(1)
    client.flushdb()
    for first in range(1, KEYS + 1, 10_000):  # a server busy for seconds refuses its clients
        client.eval(script, 0, first, min(first + 9_999, KEYS))


def _has_a_new_row(deployment: Deployment, rows_before: int) -> bool:
    return len(deployment.rows()) > rows_before


def _is_in_the_act(deployment: Deployment, rows_before: int) -> bool:
    """Say whether the newest row stands and the first keys are gone."""
    return _has_a_new_row(deployment, rows_before) and deployment.client(1).dbsize() < KEYS


def test_a_command_killed_in_the_act_leaves_a_started_row_and_says_nothing(
    walking: Deployment,
) -> None:
    _fill(walking)
    before = walking.rows()
    command = walking.start("manage.py", "clear_search_cache", "--no-input")
    assert eventually(lambda: _is_in_the_act(walking, len(before)))
    command.kill()
    out, _ = command.communicate(timeout=10)
    assert (command.returncode, out) == (-signal.SIGKILL, "")
    assert walking.client(1).dbsize() > 0
    assert walking.rows() == [*before, ("clear_search_cache", "started")]


def test_a_worker_killed_in_the_act_leaves_a_started_row_and_no_answer(
    walking: Deployment,
) -> None:
    _fill(walking)
    before = walking.rows()
    (worker,) = walking.workers()
    with ThreadPoolExecutor() as threads:
        request = threads.submit(walking.post, CLEAR)
        assert eventually(lambda: _is_in_the_act(walking, len(before)))
        os.kill(worker, signal.SIGKILL)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            request.result(timeout=20)
    assert walking.client(1).dbsize() > 0
    assert walking.rows() == [*before, ("clear_search_cache", "started")]


def test_the_next_worker_finishes_what_a_killed_one_began(walking: Deployment) -> None:
    before = walking.rows()
    walking.client(1).set("search:1:left", "v")
    (worker,) = walking.workers()
    os.kill(worker, signal.SIGKILL)
    assert eventually(lambda: walking.workers() not in ([], [worker]))
    assert walking.post(CLEAR) == (200, {"message": "Search cache cleared"})
    assert not walking.client(1).exists("search:1:left")
    assert walking.rows() == [*before, ("clear_search_cache", "done")]


@pytest.mark.parametrize("path", SENTENCE)
def test_a_command_killed_while_it_waits_for_a_frozen_store_leaves_a_started_row(
    served: Deployment, path: str
) -> None:
    for _ in range(5):  # it waits for half a second; a busy machine may be later than that
        before = served.rows()
        served.store.freeze()
        command = served.start("manage.py", NAME[path], "--no-input")
        assert eventually(partial(_has_a_new_row, served, len(before)))
        command.kill()
        out, _ = command.communicate(timeout=10)
        served.store.thaw()
        (*earlier, newest) = served.rows()
        assert (earlier, out) == (before, "")
        assert newest in [(NAME[path], status) for status in ("started", "failed", "unknown")]
        if newest[1] == "started":
            assert command.returncode == -signal.SIGKILL
            return
    pytest.fail("the row was never seen as started")


# Together


@pytest.mark.parametrize(
    "paths", [(CLEAR, CLEAR), (RESET, RESET), (CLEAR, RESET)], ids=["clear", "reset", "both"]
)
def test_two_operators_at_once_are_both_told_of_success_and_leave_a_done_row_each(
    served: Deployment, paths: tuple[str, str]
) -> None:
    together = threading.Barrier(2)

    def act(path: str, user: str) -> int:
        together.wait(timeout=20)
        status, _ = served.post(path, user=user)
        return status

    with ThreadPoolExecutor(2) as operators:
        for _ in range(10):
            served.client(1).set("search:1:query", "v")
            before = served.rows()
            assert list(operators.map(act, paths, USERS, timeout=30)) == [200, 200]
            new = served.rows()[len(before) :]
            assert sorted(new) == sorted((NAME[path], "done") for path in paths)
            assert served.client(1).exists("search:1:query") == (CLEAR not in paths)
    if RESET in paths:
        assert "catalog" not in served.manage("circuit_breakers", "--state", "open").stdout


# The database fails


@contextmanager
def _nothing_is_cleared(deployment: Deployment) -> Iterator[None]:
    deployment.client(1).set("search:1:kept", "v")
    before, rows = deployment.contents(), deployment.rows()
    assert any(number == 2 for number, _ in before), "there is a breaker to reset"
    yield
    assert (deployment.contents(), deployment.rows()) == (before, rows)


@contextmanager
def _locked(deployment: Deployment, *, readers_too: bool) -> Iterator[None]:
    """Hold the database as another program would."""
    connection = sqlite3.connect(deployment.database, isolation_level=None)
    try:
        if readers_too:
            deployment.renew_workers()
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        connection.close()


@pytest.mark.parametrize("readers_too", [False, True], ids=["for writing", "before a name is read"])
@pytest.mark.parametrize("path", SENTENCE)
def test_with_the_database_locked_the_endpoint_says_so_and_does_nothing(
    served: Deployment, path: str, readers_too: bool
) -> None:
    with _nothing_is_cleared(served), _locked(served, readers_too=readers_too):
        status, body = served.post(path)
    assert (status, body["detail"]) == (500, f"{SENTENCE[path]}the database is locked")


@pytest.mark.parametrize("path", SENTENCE)
def test_with_the_database_locked_the_command_fails_and_does_nothing(
    served: Deployment, path: str
) -> None:
    with _nothing_is_cleared(served), _locked(served, readers_too=True):
        done = served.manage(NAME[path], "--no-input")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{SENTENCE[path]}the database is locked" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", SENTENCE)
def test_with_the_database_locked_the_console_says_so_and_does_nothing(
    served: Deployment, path: str
) -> None:
    operator = Operator(served)
    with _nothing_is_cleared(served), _locked(served, readers_too=False):
        page = operator.submit(BUTTON[path], confirmed="yes", reason="a try")
    assert f'<li class="error">{SENTENCE[path]}the database is locked' in page


def _no_folder(database: Path) -> None:
    shutil.rmtree(database.parent)


def _no_file(database: Path) -> None:
    _no_folder(database)
    database.parent.mkdir()


def _no_database(database: Path) -> None:
    _no_file(database)
    database.write_bytes(b"this is no database " * 1000)


def _no_users(database: Path) -> None:
    _rename_table(database, "auth_user")


def _no_trail(database: Path) -> None:
    _rename_table(database, "analytics_admin_operation")


def _rename_table(database: Path, name: str) -> None:
    connection = sqlite3.connect(database)
    connection.execute(f"ALTER TABLE {name} RENAME TO elsewhere")
    connection.close()


BROKEN = {
    _no_file: "the database is not migrated",
    _no_folder: "the database does not answer",
    _no_database: "the database does not answer",
    _no_users: "the database is not migrated",
    _no_trail: "the database is not migrated",
}


@contextmanager
def _broken(database: Path, harm: Callable[[Path], None]) -> Iterator[None]:
    kept = database.parent.with_name("kept")
    shutil.copytree(database.parent, kept)
    try:
        harm(database)
        yield
    finally:
        shutil.rmtree(database.parent, ignore_errors=True)
        kept.rename(database.parent)


@pytest.mark.parametrize("harm", BROKEN)
@pytest.mark.parametrize("path", SENTENCE)
def test_with_the_database_gone_the_endpoint_says_so_in_json_and_does_nothing(
    served: Deployment, path: str, harm: Callable[[Path], None]
) -> None:
    with _nothing_is_cleared(served), _broken(served.database, harm):
        status, body = served.post(path)
    assert (status, body["detail"]) == (500, f"{SENTENCE[path]}{BROKEN[harm]}")
    assert set(body) == {"detail", "code"}


@pytest.mark.parametrize("harm", [harm for harm in BROKEN if harm is not _no_users])
def test_with_the_database_gone_the_command_fails_and_does_nothing(
    served: Deployment, harm: Callable[[Path], None]
) -> None:
    with _nothing_is_cleared(served), _broken(served.database, harm):
        done = served.manage("clear_search_cache", "--no-input")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{SENTENCE[CLEAR]}{BROKEN[harm]}" in done.stderr
    assert "Traceback" not in done.stderr


def test_after_all_that_the_site_works(served: Deployment) -> None:
    assert served.post(CLEAR) == (200, {"message": "Search cache cleared"})
    assert served.post(RESET) == (200, {"message": "All circuit breakers reset successfully"})
