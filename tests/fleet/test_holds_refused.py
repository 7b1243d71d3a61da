"""What operators are told who act on names that nobody has, or while the store is away."""

import time
from collections.abc import Iterator

import pytest

from tests.fleet import callers
from tests.fleet.deployments import Deployment
from tests.fleet.doors import FAILED, UNKNOWN, Admin, Command, Door, Rest

KNOWN = "refused.known"
NOBODYS = "refused.nobodys"
HOLD = "Failed to control circuit breaker: "
RESET = "Failed to reset circuit breakers: "
"""The beginnings of what an operator reads whose act failed."""


@pytest.fixture(scope="module")
def doors(staffed: Deployment) -> Iterator[dict[str, Door]]:
    """An operator at each door, each of whom has been there before."""
    with Command(staffed) as command:
        command.worker.ask(callers.open_for_an_hour, KNOWN)
        doors: dict[str, Door] = {
            "rest": Rest(staffed),
            "command": command,
            "admin": Admin(staffed),
        }
        for door in doors.values():
            door.see(KNOWN)
        yield doors


@pytest.fixture(params=["rest", "command", "admin"])
def door(request: pytest.FixtureRequest, doors: dict[str, Door]) -> Door:
    return doors[request.param]


def test_an_act_on_an_unknown_name_creates_nothing_and_leaves_no_row(
    staffed: Deployment, door: Door
) -> None:
    before = staffed.contents(), staffed.rows()
    for dry_run in (False, True):
        held = door.hold(NOBODYS, "forced_open", 900, dry_run=dry_run)
        reset = door.reset(NOBODYS, dry_run=dry_run)
        assert [held.outcome, reset.outcome] == [UNKNOWN, UNKNOWN]
        if not isinstance(door, Admin):  # whose page for what is not found is the site's own
            assert NOBODYS in held.text
            assert NOBODYS in reset.text
    assert (staffed.contents(), staffed.rows()) == before


@pytest.fixture(params=["frozen", "stopped"])
def reason(request: pytest.FixtureRequest, staffed: Deployment) -> Iterator[str]:
    """Take the store away; say what operators are told of that."""
    if request.param == "frozen":
        staffed.store.freeze()
        yield "the store did not answer in time"
        staffed.store.thaw()
    else:
        staffed.client(2).save()
        staffed.store.stop()
        yield "the store cannot be reached"
        staffed.store.start()


def test_while_the_store_is_away_the_state_is_unknown_within_a_second(
    door: Door, reason: str
) -> None:
    for name in ("", KNOWN):
        began = time.monotonic()
        said = door.look(name)
        assert time.monotonic() - began < 1
        assert "unknown" in said.lower()
        assert reason in said
        assert "closed" not in said.lower()


def test_while_the_store_is_away_an_act_fails_in_the_documents_words_and_on_record(
    staffed: Deployment, door: Door, reason: str
) -> None:
    before = len(staffed.rows())
    held, reset = door.hold(KNOWN, "disabled", 900), door.reset(KNOWN)
    assert [held.outcome, reset.outcome] == [FAILED, FAILED]
    assert HOLD + reason in held.text
    assert RESET + reason in reset.text
    assert staffed.rows("kind", "status", "error")[before:] == [
        ("control_circuit_breakers", "failed", reason),
        ("reset_circuit_breakers", "failed", reason),
    ]
