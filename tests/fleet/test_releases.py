"""Two releases of the app on one store: as during an upgrade, and after a rollback."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import StoreServer, free_port

ROOT = Path(__file__).parents[2]
MEMBER = ROOT / "tests" / "support" / "release_member.py"
LAST = "78f75fff4701cbede4e37984cd0e05fe40224091"
"""The release before this one, whose keys have the layout of today."""
FIRST_LAYOUT = "73224278125190de8eaa5913c5e0be295685a488"
"""The last commit whose keys, of breakers and search cache, have another layout than today's."""

pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="an archive of the code has no older releases"
)


class Member:
    """A process of a site that runs one release."""

    def __init__(self, code: Path, folder: Path, store: StoreServer) -> None:
        folder.mkdir()
        self._log = folder / "log"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(code),
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DEBUG": "off",
            "SECRET_KEY": "a-secret-key-of-more-than-fifty-characters-0123456789-abcdef",
            "JWT_SIGNING_KEY": "a-signing-key-of-more-than-32-bytes-0123456789",
            "ALLOWED_HOSTS": "testserver",
            "REDIS_URL": store.url,
            "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(MEMBER)],  # -P: nothing of the tests' folder is imported
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("w"),
            text=True,
        )

    def await_ready(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", self._log.read_text()

    def do(self, step: str, *given: Any, **options: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([step, given, options]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self._log.read_text()
        return json.loads(answer)

    def end(self) -> str:
        """End as a server does; return what was logged."""
        self._process.communicate(timeout=30)
        return self._log.read_text()


@pytest.fixture(scope="module")
def code_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder with the code of a commit."""

    def extracted(commit: str) -> Path:
        folder = tmp_path_factory.mktemp("release")
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", commit, "analytics_admin", "project"],
            capture_output=True,
            check=False,
        )
        said = archive.stderr.decode()
        assert archive.returncode == 0, f"{said}A shallow clone lacks it: git fetch --unshallow"
        subprocess.run(["tar", "--extract", "-C", str(folder)], input=archive.stdout, check=True)
        return folder

    return extracted


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., list[Member]]]:
    """Start one process for each folder with code, all on one store."""
    with ExitStack() as stack:
        store = stack.enter_context(StoreServer(port=free_port()))
        number = 0

        def begin(*codes: Path) -> list[Member]:
            nonlocal number
            members = []
            for code in codes:
                number += 1
                members.append(Member(code, tmp_path / f"site{number}", store))
                stack.callback(members[-1]._process.kill)
            for member in members:
                member.await_ready()
            return members

        yield begin


def eventually(asks: Callable[[], Any], expected: Any) -> None:
    """Wait until the answer is the expected one: reports and pushes take a moment."""
    deadline = time.monotonic() + 10
    while (answer := asks()) != expected:
        assert time.monotonic() < deadline, f"{answer!r} instead of {expected!r}"
        time.sleep(0.02)


def find(member: Member, query: str, value: Any) -> Any:
    return member.do("search", query, value, ["t"])


@pytest.mark.parametrize("newer_first", [True, False])
def test_releases_of_one_layout_are_one_fleet(code_of, start, newer_first):
    one, other = start(*([ROOT, code_of(LAST)] if newer_first else [code_of(LAST), ROOT]))
    for member in (one, other):
        for name in ("tripped", "together", "held"):
            assert member.do("call", name)

    one.do("fail", "tripped", 3)
    eventually(lambda: other.do("call", "tripped"), False)
    other.do("fail", "together", 2)
    eventually(lambda: one.do("states").get("together"), ["closed", "automatic"])
    one.do("fail", "together", 1)
    for member in (one, other):  # a call that passes would end the run
        eventually(lambda member=member: member.do("states")["together"][0], "open")
        eventually(lambda member=member: member.do("call", "together"), False)
    one.do("hold", "held", "forced_open")
    eventually(lambda: other.do("call", "held"), False)
    assert (
        one.do("states")
        == other.do("states")
        == {
            "tripped": ["open", "automatic"],
            "together": ["open", "automatic"],
            "held": ["forced_open", "forced_open"],
        }
    )
    other.do("hold", "held", "automatic")
    other.do("reset")
    for name in ("tripped", "together", "held"):
        eventually(lambda name=name: one.do("call", name), True)
        assert one.do("history", name) == other.do("history", name) != []

    for clear in ({}, {"mode": "soft"}, {"tags": ["t"]}):
        assert find(one, "q", ["old"]) == find(other, "q", ["new"]) == ["old"]
        assert find(other, "r", 1) == find(one, "r", 2) == 1
        other.do("clear", **clear)
        answers = [find(one, "q", ["new"]), find(other, "r", 2)]
        # What is soft may be served once more, by whom another computes it for.
        assert answers == [["new"], 2], clear
        one.do("clear")
    logs = [member.end() for member in (one, other)]
    assert [log for log in logs if "Traceback" in log or "damaged" in log] == []


def test_a_release_of_another_layout_is_a_fleet_of_its_own_that_harms_none(code_of, start):
    old_code = code_of(FIRST_LAYOUT)
    old, new = start(old_code, ROOT)
    for member in (old, new):
        for name in ("old.own", "new.own"):
            assert member.do("call", name)
    old.do("fail", "old.own", 3)
    new.do("fail", "new.own", 3)
    states = {member: member.do("states") for member in (old, new)}
    eventually(lambda: old.do("states")["old.own"][0], "open")
    eventually(lambda: new.do("states")["new.own"][0], "open")
    assert old.do("states")["new.own"][0] == new.do("states")["old.own"][0] == "closed", states

    # Neither's acts reach the other's breakers.
    old.do("hold", "new.own", "disabled")
    new.do("reset")
    eventually(lambda: new.do("call", "new.own"), True)
    assert not old.do("call", "old.own")
    new.do("fail", "new.own", 3)
    eventually(lambda: new.do("states")["new.own"], ["open", "automatic"])
    old.do("reset")
    assert not new.do("call", "new.own")
    old.do("fail", "old.own", 3)
    eventually(lambda: old.do("states")["old.own"][0], "open")

    # A result of the other's is missing; after a clear, by whom ever, so is an own one.
    for clearing in (old, new):
        for member, value in ((old, "of old"), (new, "of new")):
            assert find(member, "q", value) == find(member, "q", "again") == value
        clearing.do("clear")
        for member in (old, new):
            assert find(member, "q", "after") == "after"
            member.do("clear")

    # The upgrade is over; then it is rolled back.
    logs = [old.end()]
    [second] = start(ROOT)
    assert second.do("states")["new.own"] == ["open", "automatic"]
    logs += [new.end(), second.end()]
    [back] = start(old_code)
    assert back.do("states")["old.own"][0] == "open"
    assert not back.do("call", "old.own")
    logs.append(back.end())
    assert [log for log in logs if "Traceback" in log or "damaged" in log] == []
