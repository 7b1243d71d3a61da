"""The commands as a shell sees them: exit codes, streams, the question on a terminal."""

import json
import os
import pty
import select
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches

from tests.support.breakers import another, trip
from tests.support.servers import StoreServer, free_port
from tests.support.site_process import SiteProcess
from tests.support.stopwatch import Stopwatch

pytestmark = pytest.mark.lengthy
ROOT = Path(__file__).parents[2]
PASSWORD = "hunter2-hunter2"
CLEARED = "Search cache cleared\n"
OPERATIONS = {
    "clear_search_cache": "Failed to clear cache: ",
    "reset_circuit_breakers": "Failed to reset circuit breakers: ",
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: Any) -> dict[str, str]:
    """The site as it is served, on the tests' store and a database of its own."""
    database = tmp_path_factory.mktemp("shell") / "db.sqlite3"
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DATABASE_URL": f"sqlite:///{database}",
        "TERM": "xterm",
    }


@pytest.fixture(scope="module", autouse=True)
def site(environment: dict[str, str]) -> Iterator[SiteProcess]:
    """A process whose copies run a command each, for what needs no start of its own."""
    with closing(SiteProcess(environment)) as site:
        assert site.manage("migrate", "-v0") == (0, "", "")
        yield site


@pytest.fixture(scope="module")
def storeless(site: SiteProcess) -> SiteProcess:
    """The same where no store can be reached."""
    return site.where(
        "from django.conf import settings\n"
        "for number, alias in enumerate(settings.CACHES.values()):\n"
        f"    alias['LOCATION'] = f'redis://:{PASSWORD}@127.0.0.1:1/{{number}}'"
    )


@pytest.fixture(scope="module")
def unmigrated(site: SiteProcess, tmp_path_factory: Any) -> SiteProcess:
    """The same where the database is empty."""
    database = tmp_path_factory.mktemp("empty") / "db.sqlite3"
    return site.where(
        f"from django.db import connection\nconnection.settings_dict['NAME'] = {str(database)!r}"
    )


@pytest.fixture(autouse=True)
def search() -> Any:
    caches["search"].set("query", "hits")
    return caches["search"]


@pytest.fixture
def rows(environment: dict[str, str]) -> Any:
    """Return a function that reads columns of the audit rows written since: act and status."""
    path = environment["DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM analytics_admin_operation")

    def rows(columns: str = "kind, status") -> list[tuple[str, ...]]:
        with closing(sqlite3.connect(path)) as connection:
            query = f"SELECT {columns} FROM analytics_admin_operation"
            return connection.execute(query).fetchall()

    return rows


def command(*argv: str) -> list[str]:
    return [sys.executable, "manage.py", *argv]


def shell(environment: dict[str, str], *argv: str) -> tuple[int, str, str]:
    """Run without a terminal; return exit code, stdout and stderr."""
    answer = subprocess.run(
        command(*argv),
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert_nothing_leaks(answer.stdout, answer.stderr)
    return answer.returncode, answer.stdout, answer.stderr


def assert_nothing_leaks(out: str, err: str) -> None:
    assert "Traceback" not in err
    assert PASSWORD not in out + err


def test_done_is_exit_code_0_and_stdout_holds_the_message_alone(environment, rows, search):
    assert shell(environment, "clear_search_cache", "--no-input") == (0, CLEARED, "")
    assert search.get("query") is None
    assert rows() == [("clear_search_cache", "done")]


@pytest.mark.parametrize(
    "argv",
    [
        ["clear_search_cache"],
        ["clear_search_cache", "--no-input", "extra"],
        ["reset_circuit_breakers", "nope", "--no-input"],
        ["issue_token", "nobody"],
        ["circuit_breakers", "--state", "ajar"],
        ["circuit_breakers", "nope"],
        ["circuit_breakers", ""],
        ["forget_circuit_breaker", "nope", "--no-input"],
        ["forget_circuit_breaker", "--no-input"],
        ["circuit_breakers", "--watch"],
        ["set_circuit_breaker", "nope", "disabled", "--no-input"],
        ["set_circuit_breaker", "nope", "ajar", "--no-input"],
        ["set_circuit_breaker", "nope", "disabled", "--for", "15", "--no-input"],
    ],
)
def test_usage_and_unknown_names_are_exit_code_2(argv, site, rows):
    code, out, err = site.manage(*argv)
    assert (code, out) == (2, "")
    assert err
    assert rows() == []


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_store_that_is_down_is_exit_code_1_and_on_record(operation, storeless, rows):
    code, out, err = storeless.manage(operation, "--no-input", "--json")
    assert_nothing_leaks(out, err)
    sentence = f"{OPERATIONS[operation]}the store cannot be reached"
    assert (code, err.splitlines()[-1]) == (1, f"CommandError: {sentence}")
    answer = json.loads(out)
    operation_id = uuid.UUID(answer.pop("operation_id"))
    assert answer == {"detail": sentence, "code": "store_unavailable"}
    assert rows("id, kind, status") == [(operation_id.hex, operation, "failed")]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_unmigrated_database_is_exit_code_1_and_nothing_is_done(operation, unmigrated, search):
    tripped("shell.kept")
    code, out, err = unmigrated.manage(operation, "--no-input")
    assert_nothing_leaks(out, err)
    assert (code, out) == (1, "")
    assert f"{OPERATIONS[operation]}the database is not migrated" in err
    assert search.get("query") == "hits"
    assert tripped_still("shell.kept")


def test_without_its_table_a_question_is_exit_code_1_and_one_line(unmigrated):
    code, out, err = unmigrated.manage("search_cache", "--json")
    detail = "The state is unknown: the database is not migrated"
    assert (code, json.loads(out)) == (1, {"detail": detail, "code": "database_unavailable"})
    assert err == f"CommandError: {detail}\n"


def tripped(name: str) -> None:
    trip(name)


def tripped_still(name: str) -> bool:
    return another(name).state == "open"


@pytest.mark.parametrize("argv", [["circuit_breakers"], ["clear_search_cache", "--no-input"]])
def test_a_reader_that_goes_away_is_no_error(argv, site):
    tripped("shell.seen")
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as gone:
        answer = site.manage(*argv, out=f"/proc/{os.getpid()}/fd/{gone.fileno()}")
    assert answer == (0, "", "")


class Terminal:
    """A command on a pseudo-terminal of its own: what it shows is read, keys are typed."""

    def __init__(self, keyboard: int, ended: Callable[[], tuple[int, str]]) -> None:
        self.keyboard = keyboard
        self.shown = ""
        self.patience = 60.0
        """Seconds for which nothing may be shown before that is a failure."""
        self._ended = ended

    def read_until(self, words: str) -> None:
        deadline = time.monotonic() + self.patience
        while words not in self.shown:
            assert time.monotonic() < deadline, self.shown
            assert self._read(), self.shown

    def type(self, keys: str) -> None:
        os.write(self.keyboard, keys.encode())

    def end(self) -> tuple[int, str]:
        """Return exit code and stdout; ``shown`` then holds all of the screen."""
        while self._read():
            pass
        return self._ended()

    def _read(self) -> bool:
        ready, _, _ = select.select([self.keyboard], [], [], self.patience)
        assert ready, f"nothing new for {self.patience} s after: {self.shown}"
        try:
            more = os.read(self.keyboard, 4096)
        except OSError:  # Linux says EIO once nobody holds the other end
            return False
        self.shown += more.decode(errors="replace")
        return bool(more)


@contextmanager
def terminal(
    environment: dict[str, str], *argv: str, output: int | None = subprocess.PIPE
) -> Iterator[Terminal]:
    keyboard, screen = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *command(*argv)],  # Ctrl-C reaches who owns the terminal
        env=environment,
        cwd=ROOT,
        stdin=screen,
        stderr=screen,
        stdout=screen if output is None else output,
        text=True,
    )
    os.close(screen)

    def ended() -> tuple[int, str]:
        out, _ = process.communicate(timeout=60)
        return process.returncode, out

    try:
        yield Terminal(keyboard, ended)
    finally:
        process.kill()
        process.communicate()
        os.close(keyboard)


@pytest.fixture
def copied(site: SiteProcess, tmp_path: Path) -> Any:
    """The same without a start of its own, for what begins once the command runs."""
    return copied_at(site, tmp_path)


def copied_at(site: SiteProcess, tmp_path: Path) -> Any:
    @contextmanager
    def terminal(*argv: str) -> Iterator[Terminal]:
        keyboard, screen = pty.openpty()
        out, codes = tmp_path / "out", []
        site.begin(*argv, screen=os.ttyname(screen), out=str(out))

        def ended() -> tuple[int, str]:
            codes.append(site.end())
            return codes[0], out.read_text()

        opened = Terminal(keyboard, ended)
        try:
            opened.read_until("\n")  # it holds the terminal now
            os.close(screen)
            yield opened
        finally:
            os.close(keyboard)  # which hangs up on one that still waits
            codes or site.end()

    return terminal


@pytest.mark.parametrize("wait", [Terminal.end, lambda opened: opened.read_until("never")])
def test_a_command_that_goes_silent_fails_its_test_in_time(wait, copied):
    with copied("clear_search_cache") as opened:
        opened.read_until("Type 'yes' to continue: ")
        opened.patience = 0.1
        watch = Stopwatch()
        with pytest.raises(AssertionError, match="Type 'yes' to continue: "):
            wait(opened)
        assert watch.seconds < 5


def test_on_a_terminal_it_shows_the_preview_asks_and_shows_progress(environment, rows, search):
    with terminal(environment, "clear_search_cache") as opened:
        opened.read_until("Type 'yes' to continue: ")
        assert "1 key would be removed" in opened.shown
        assert search.get("query") == "hits"
        assert rows() == []
        opened.type("yes\n")
        assert opened.end() == (0, CLEARED)
        assert "Keys removed:" in opened.shown
    assert rows() == [("clear_search_cache", "done")]


def test_json_keeps_stdout_to_itself_also_when_it_asks(copied):
    with copied("clear_search_cache", "--json") as opened:
        opened.read_until("Type 'yes' to continue: ")
        opened.type("y\n")
        code, out = opened.end()
    assert (code, json.loads(out)["message"]) == (0, CLEARED.strip())


@pytest.mark.parametrize(
    ("keys", "code", "words"),
    [
        ("no\n", 1, "Cancelled: nothing was done"),
        ("\n", 1, "Cancelled: nothing was done"),
        ("\x04", 1, "Cancelled: nothing was done"),  # Ctrl-D
        ("\x03", 130, "Interrupted"),  # Ctrl-C
    ],
)
def test_any_other_answer_does_nothing(keys, code, words, copied, rows):
    with copied("clear_search_cache") as opened:
        opened.read_until("Type 'yes' to continue: ")
        time.sleep(0.2)  # Python does not notice a Ctrl-C between the question and its reading
        opened.type(keys)
        assert opened.end() == (code, "")
        assert words in opened.shown
        assert "Traceback" not in opened.shown
    assert rows() == []
    assert caches["search"].get("query") == "hits"


def test_the_question_names_the_breakers_that_would_move(copied):
    tripped("shell.asked")
    with copied("reset_circuit_breakers", "--only-open") as opened:
        opened.read_until("Type 'yes' to continue: ")
        assert "shell.asked: open -> closed" in opened.shown
        opened.type("yes\n")
        code, out = opened.end()
    assert (code, out.splitlines()[0]) == (0, "1 circuit breaker reset successfully")


def test_a_breaker_is_forgotten_when_its_operator_says_yes(copied, rows):
    tripped("shell.slip")
    with copied("forget_circuit_breaker", "shell.slip") as opened:
        opened.read_until("Type 'yes' to continue: ")
        assert "Preview: circuit breaker shell.slip would be forgotten" in opened.shown
        assert "shell.slip: open -> forgotten" in opened.shown
        assert rows() == []
        opened.type("yes\n")
        code, out = opened.end()
    assert (code, out.splitlines()[0]) == (0, "Circuit breaker shell.slip forgotten")
    assert rows() == [("forget_circuit_breaker", "done")]


def test_a_breaker_that_has_to_be_kept_is_exit_code_1_without_a_question(site, copied, rows):
    tripped("shell.held")
    hold = ("set_circuit_breaker", "shell.held", "disabled", "--no-input")
    assert site.manage(*hold)[0] == 0
    with copied("forget_circuit_breaker", "shell.held") as opened:
        code, _ = opened.end()
        assert "release it first" in opened.shown
        assert "Type 'yes'" not in opened.shown
    assert (code, rows()) == (1, [("control_circuit_breakers", "done")])


def test_without_a_preview_it_still_asks(storeless, tmp_path, rows):
    with copied_at(storeless, tmp_path)("clear_search_cache") as opened:
        opened.read_until("Type 'yes' to continue: ")
        assert "No preview: the store cannot be reached" in opened.shown
        opened.type("yes\n")
        code, out = opened.end()
        assert PASSWORD not in opened.shown
    assert (code, out) == (1, "")
    assert rows() == [("clear_search_cache", "failed")]


def test_the_check_is_exit_code_3_while_one_is_waiting_open(site):
    trip("shell.open")
    code, out, err = site.manage("circuit_breakers", "--fail-on-open", "--json")
    assert (code, err) == (3, "CommandError: Not closed: shell.open\n")
    assert "shell.open" in [row["name"] for row in json.loads(out)["breakers"]]


def test_the_watch_outlives_an_outage_and_ends_with_ctrl_c_as_success(environment):
    with StoreServer(port=free_port()) as server:
        where = {**environment, "REDIS_URL": server.url}
        with terminal(where, "circuit_breakers", "--watch", output=None) as opened:
            opened.read_until("circuit breakers at")
            server.stop()
            opened.read_until("The state is unknown")
            opened.shown = ""
            server.start()
            opened.read_until("circuit breakers at")
            opened.type("\x03")
            assert opened.end()[0] == 0
            assert "Traceback" not in opened.shown
