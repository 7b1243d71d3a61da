"""quickstart: what it prints works, twice, and nothing stays behind."""

import http.cookiejar
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable

import pytest

from tests.support.servers import StoreServer, free_port
from tests.support.sites import Site, eventually

CLEARED = '{"message":"Search cache cleared"}'
RESET = '{"message":"All circuit breakers reset successfully"}'
NAMES = ("catalog", "recommendations")

# The demonstration's visitors, each answer's origin told; the program ends when they stop coming.
VISITORS = """
import django
django.setup()
from project.demo import traffic

visit = traffic.visit

def told(query):
    answer = visit(query)
    print(answer["X-Cache"], flush=True)
    return answer

traffic.visit = told
visitors = traffic.Traffic()
visitors.start()
visitors.join()
"""


class Quickstart:
    """A running quickstart and the lines that it printed before it began to serve."""

    def __init__(self, site: Site, *arguments: str, **environment: str) -> None:
        self.process = site.start("manage.py", "quickstart", *arguments, **environment)
        assert self.process.stdout is not None
        self.lines: list[str] = []
        while not self.lines or not self.lines[-1].startswith("Ctrl-C"):
            line = self.process.stdout.readline()
            assert line, self.process.communicate()[1]
            self.lines.append(line.rstrip("\n"))

    @property
    def console(self) -> str:
        return self.value("Console")

    def value(self, label: str) -> str:
        return next(line.split(maxsplit=1)[1] for line in self.lines if line.startswith(label))

    def curl_equivalents(self) -> list[str]:
        return [line for line in self.lines if line.startswith("curl ")]

    def stop(self) -> tuple[int, str, str]:
        """Press Ctrl-C; return the exit code and what was printed since."""
        os.killpg(self.process.pid, signal.SIGINT)
        out, err = self.process.communicate(timeout=10)
        return self.process.returncode, out, err


def _page_after_login(console: str, password: str) -> tuple[int, str]:
    """Sign in as a browser would; return the status and the text of the page that follows."""
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    browser.open(f"{console}login/", timeout=10).read()
    token = next(cookie.value for cookie in jar if cookie.name == "csrftoken")
    form = {"username": "admin", "password": password, "csrfmiddlewaretoken": token}
    data = urllib.parse.urlencode(form | {"next": "/admin/"}).encode()
    with browser.open(f"{console}login/", data=data, timeout=10) as response:
        return response.status, response.read().decode()


def _shell(line: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(line, shell=True, check=False, capture_output=True, text=True)


def _users(site: Site) -> list[tuple[str, str]]:
    with sqlite3.connect(site.folder / "var" / "db.sqlite3") as database:
        return database.execute("SELECT username, password FROM auth_user").fetchall()


def _called_breakers(site: Site) -> set[str]:
    """Return the listed breakers that were called: the others have no generation yet."""
    listed = json.loads(site.manage("circuit_breakers", "--json").stdout)["breakers"]
    assert {each["name"] for each in listed} == set(NAMES)
    return {each["name"] for each in listed if each["generation"]}


@pytest.fixture
def start(site: Site) -> Callable[..., Quickstart]:
    return lambda *arguments, **environment: Quickstart(site, "0", *arguments, **environment)


def test_both_curl_lines_run_in_a_shell_and_answer_word_for_word(
    start: Callable[..., Quickstart],
) -> None:
    lines = start().curl_equivalents()
    done = [_shell(line) for line in lines]
    assert [run.stdout for run in done] == [CLEARED, RESET]
    assert [run.stderr for run in done] == ["", ""]


def test_the_printed_login_opens_the_console_with_its_style(
    start: Callable[..., Quickstart],
) -> None:
    quickstart = start()
    user, password = quickstart.value("Login").split(" / ")
    assert user == "admin"
    status, page = _page_after_login(quickstart.console, password)
    assert status == 200
    assert "Analytics admin" in page
    sheet = re.search(r'href="(/static/[^"]+base\.css)"', page)
    assert sheet is not None
    with urllib.request.urlopen(urllib.parse.urljoin(quickstart.console, sheet[1])) as response:
        assert response.status == 200


def test_ctrl_c_ends_it_with_code_0_and_no_server(
    site: Site, start: Callable[..., Quickstart]
) -> None:
    quickstart = start()
    assert len(site.servers()) == 1
    code, out, err = quickstart.stop()
    assert (code, out.strip()) == (0, "Stopped.")
    assert "Traceback" not in err
    assert eventually(site.is_quiet)


def test_a_second_run_keeps_users_and_passwords(
    site: Site, start: Callable[..., Quickstart]
) -> None:
    start(QUICKSTART_ADMIN_PASSWORD="pw-of-the-first-run").stop()
    before = _users(site)
    second = start(QUICKSTART_ADMIN_PASSWORD="another")
    assert second.value("Login") == "admin, password unchanged (set a new one with --password)"
    assert _users(site) == before
    assert _page_after_login(second.console, "pw-of-the-first-run")[0] == 200
    second.stop()
    third = start("--password", "pw-of-the-third-run")
    assert "Analytics admin" in _page_after_login(third.console, "pw-of-the-third-run")[1]
    assert len(_users(site)) == 1


def test_demo_traffic_fills_the_search_cache_and_shows_breakers(
    site: Site, start: Callable[..., Quickstart]
) -> None:
    start()
    assert eventually(lambda: _called_breakers(site) == set(NAMES), seconds=15)
    dry_run = site.manage("clear_search_cache", "--dry-run", "--json")
    assert json.loads(dry_run.stdout)["preview"]["keys"] >= 1


def test_the_printed_search_is_answered_with_its_origin_and_a_clear_makes_it_a_miss(
    start: Callable[..., Quickstart],
) -> None:
    quickstart = start("--no-traffic")
    search = quickstart.value("Search")
    answers = [_shell(search).stdout for _ in range(2)]
    assert _shell(quickstart.curl_equivalents()[0]).stdout == CLEARED
    answers.append(_shell(search).stdout)
    assert [re.findall(r"(?m)^X-Cache: (\w+)", answer) for answer in answers] == [
        ["miss"],
        ["hit"],
        ["miss"],
    ]
    assert json.loads(answers[0].splitlines()[-1])["count"] > 0


def test_the_fault_reaches_the_running_site_and_outlives_it(
    site: Site, start: Callable[..., Quickstart]
) -> None:
    first = start("--no-traffic")
    assert "backend fault: sometimes; " in "".join(first.lines)
    assert site.manage("demo_fault", "on").stdout == "Demo fault: on\n"
    assert "503 Service Unavailable" in _shell(first.value("Search")).stdout
    first.stop()
    assert "backend fault: on; " in "".join(start("--no-traffic").lines)


def test_without_the_demonstration_the_rest_is_there(start: Callable[..., Quickstart]) -> None:
    quickstart = start(DEMO_SEARCH="off")
    assert not any(line.startswith("Search") for line in quickstart.lines)
    path = urllib.parse.urljoin(quickstart.console, "/api/v1/search?q=kettle")
    assert '"code":"not_found"' in _shell(f"curl -sS '{path}'").stdout
    assert _shell(quickstart.curl_equivalents()[0]).stdout == CLEARED


def test_no_traffic_means_none(site: Site, start: Callable[..., Quickstart]) -> None:
    quickstart = start("--no-traffic")
    assert _shell(quickstart.curl_equivalents()[0]).stdout == CLEARED
    assert _called_breakers(site) == set()


def test_a_command_knows_the_demonstrations_breakers_and_forgets_none(
    site: Site, start: Callable[..., Quickstart]
) -> None:
    start("--no-traffic")
    for name in NAMES:
        done = site.manage("forget_circuit_breaker", name, "--no-input")
        assert done.returncode == 1
        assert "this site's code or settings declare it" in done.stderr


def test_demo_traffic_outlives_its_store(site: Site) -> None:
    with StoreServer() as store:
        environment = {"DJANGO_SETTINGS_MODULE": "project.settings", "DEBUG": "on"}
        visitors = site.start("-c", VISITORS, REDIS_URL=store.url, **environment)
        for change, outcome in [
            (None, "miss"),
            (store.stop, "bypass"),
            (store.start, "hit"),
        ]:
            if change is not None:
                change()
            _read_until(visitors, outcome)


def _read_until(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdout is not None
    while (line := process.stdout.readline().strip()) != word:
        assert line, process.communicate()[1]


def test_a_store_that_does_not_answer_is_one_line_and_the_site_is_served(
    start: Callable[..., Quickstart],
) -> None:
    quickstart = start(REDIS_URL=f"redis://:pw-of-the-store@127.0.0.1:{free_port()}/1")
    with urllib.request.urlopen(f"{quickstart.console}login/", timeout=10) as response:
        assert response.status == 200
    _, _, err = quickstart.stop()
    assert err.startswith("The store at REDIS_URL does not answer (ConnectionError); ")
    assert "Traceback" not in err
    assert "pw-of-the-store" not in err


def test_a_store_that_answers_needs_no_word(start: Callable[..., Quickstart]) -> None:
    with StoreServer() as store:
        _, _, err = start("--no-traffic", REDIS_URL=store.url).stop()
    assert "REDIS_URL" not in err


def test_a_port_in_use_is_one_line_and_nothing_is_created(site: Site) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = site.manage("quickstart", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"CommandError: cannot listen on http://127.0.0.1:{port}: the port is already in use\n"
    )
    # Settings make the file, so that nobody else can read it; there is nothing in it.
    assert (site.folder / "var" / "db.sqlite3").stat().st_size == 0
    assert not site.store.exists()


@pytest.mark.parametrize("addrport", ["here", "70000", "host:", "[zz]:1", "1:2:3"])
def test_an_address_that_is_none_is_a_usage_error(site: Site, addrport: str) -> None:
    done = site.manage("quickstart", addrport)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("manage.py quickstart: error: ")


def test_it_serves_on_ipv6(site: Site) -> None:
    quickstart = Quickstart(site, "[::1]:0")
    assert quickstart.console.startswith("http://[::1]:")
    assert _shell(quickstart.curl_equivalents()[0]).stdout == CLEARED


def test_a_store_that_cannot_start_is_one_line(site: Site) -> None:
    site.store.mkdir(parents=True)
    (site.store / "appendonlydir").write_text("in the way")
    done = site.manage("quickstart", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("CommandError: the embedded store did not start: ")
    assert len(done.stderr.splitlines()) == 1


def test_it_refuses_to_run_outside_of_debug(site: Site) -> None:
    environment = {"SECRET_KEY": "long-enough-" * 5, "REDIS_URL": "redis://localhost:1"}
    done = site.manage("quickstart", "0", **environment)
    assert done.returncode == 1
    assert done.stderr == (
        "CommandError: quickstart is for development, and DEBUG is off; set DEBUG=on\n"
    )
