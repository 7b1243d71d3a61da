"""What is installed is locked: each version that runs, and the hashes of its files."""

import re
from importlib.metadata import requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tools.lock import REQUIREMENTS, ROOT, SITE, TESTS

PIN = re.compile(r"^([\w.-]+)(?:\[\w+\])?==(\S+)", re.MULTILINE)
DIRECT = {canonicalize_name(name): pin for name, pin in PIN.findall(REQUIREMENTS.read_text())}
LOCKED = {
    path: {canonicalize_name(name): pin for name, pin in PIN.findall(path.read_text())}
    for path in (SITE, TESTS)
}


def needed_by(text: str) -> set[str]:
    """Return all packages that these requirements lead to here, themselves included."""
    found: set[str] = set()
    waiting = [Requirement(line) for line in re.findall(r"^\w[^\s;]*", text, re.MULTILINE)]
    while waiting:
        wanted = waiting.pop()
        found.add(canonicalize_name(wanted.name))
        for line in requires(wanted.name) or ():
            further = Requirement(line)
            extras = wanted.extras or {""}
            if canonicalize_name(further.name) in found:
                continue
            if not further.marker or any(further.marker.evaluate({"extra": it}) for it in extras):
                waiting.append(further)
    return found


def test_every_package_is_locked_at_the_version_that_is_installed() -> None:
    locked = LOCKED[SITE] | LOCKED[TESTS]
    needed = needed_by(REQUIREMENTS.read_text())
    assert needed >= DIRECT.keys()
    assert {name: version(name) for name in needed} == {name: locked.get(name) for name in needed}
    assert {name: locked.get(name) for name in DIRECT} == DIRECT


def test_a_deployment_needs_no_more_than_the_lock_of_the_site() -> None:
    site = REQUIREMENTS.read_text().split("# Block 3")[0]
    assert needed_by(site) <= LOCKED[SITE].keys()
    assert not LOCKED[SITE].keys() & LOCKED[TESTS].keys()
    assert not {"pytest", "ruff", "playwright"} & LOCKED[SITE].keys()


def test_each_lock_says_of_each_package_which_files_it_may_be() -> None:
    for path, pins in LOCKED.items():
        blocks = re.split(r"\n(?=[^ #])", path.read_text())[1:]
        assert len(blocks) == len(pins)
        assert [block for block in blocks if "--hash=sha256:" not in block] == []


def test_the_locks_come_first_so_that_pip_finds_the_hashes() -> None:
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line and line[0] != "#"]
    assert lines[:2] == [f"-r {path.relative_to(ROOT)}" for path in (SITE, TESTS)]
