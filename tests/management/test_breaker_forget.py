"""forget_circuit_breaker: a name off the list, the question first, the row after."""

import json
import re

import pytest

from analytics_admin import services
from analytics_admin.breakers import circuit_breaker
from analytics_admin.models import Operation
from analytics_admin.services import Actor, describe_breaker, set_breaker_control
from tests.support.api import nothing_changes
from tests.support.breakers import another, trip
from tests.support.doors import run

pytestmark = pytest.mark.django_db

SHELL = Actor.system("root", channel="command")
FORGET = ("forget_circuit_breaker", "slip.one", "--no-input")


@pytest.fixture(autouse=True)
def breaker():
    return trip("slip.one")


def test_a_name_is_forgotten_with_all_that_is_known_of_it_and_others_stay():
    trip("slip.two")
    code, out, err = run(*FORGET, "--reason", "a slip of the pen")
    said = "Circuit breaker slip.one forgotten\n  slip.one: open -> forgotten\n"
    assert (code, out, err) == (0, said, "")
    assert [status.name for status in services.list_breakers(search="slip.")] == ["slip.two"]
    with pytest.raises(services.UnknownBreakers):
        describe_breaker("slip.one")
    row = Operation.objects.get()
    assert (row.kind, row.status, row.channel) == ("forget_circuit_breaker", "done", "command")
    assert (row.reason, row.targets) == ("a slip of the pen", {"names": ["slip.one"]})
    moved = {"name": "slip.one", "from": "open", "to": "forgotten"}
    assert row.outcome == {"count": 1, "moved": 1, "results": [moved]}


def test_a_process_that_still_uses_the_name_registers_it_again_as_closed_without_its_past():
    run(*FORGET)
    another("slip.one").acquire().succeed()
    detail = describe_breaker("slip.one")
    assert (detail.status.state, list(detail.transitions), list(detail.failures)) == (
        "closed",
        [],
        [],
    )


def test_json_is_the_message_the_result_and_the_row():
    answer = json.loads(run(*FORGET, "--json")[1])
    assert answer == {
        "message": "Circuit breaker slip.one forgotten",
        "operation_id": str(Operation.objects.get().pk),
        "results": [{"name": "slip.one", "from": "open", "to": "forgotten"}],
    }


def test_a_dry_run_forgets_nothing_and_without_a_terminal_it_does_not_act_unasked():
    with nothing_changes():
        code, out, _ = run(*FORGET, "--dry-run")
        said = "Dry run: circuit breaker slip.one would be forgotten"
        assert (code, out) == (0, f"{said}\n  slip.one: open -> forgotten\n")
        assert run(*FORGET[:-1])[0] == 2


def test_an_unknown_name_is_exit_code_2_and_leaves_no_row():
    with nothing_changes():
        for extra in ([], ["--dry-run"]):
            code, out, err = run("forget_circuit_breaker", "slip.nope", "--no-input", *extra)
            assert (code, out, err) == (2, "", "Unknown circuit breakers: slip.nope")


@pytest.mark.parametrize("extra", [[], ["--dry-run"]])
def test_a_held_breaker_is_kept_until_it_is_released(extra):
    set_breaker_control(name="slip.one", control="disabled", actor=SHELL)
    with nothing_changes():
        code, out, err = run(*FORGET, "--json", *extra)
    sentence = "Circuit breaker slip.one cannot be forgotten: it is held disabled; release it first"
    assert (code, err) == (1, sentence)
    assert json.loads(out) == {"detail": sentence, "code": "breaker_kept"}
    set_breaker_control(name="slip.one", control="automatic", actor=SHELL)
    assert run(*FORGET)[0] == 0


def test_a_breaker_that_this_site_declares_is_kept():
    circuit_breaker("code.declared")
    with nothing_changes():
        code, _, err = run("forget_circuit_breaker", "code.declared", "--no-input")
    assert code == 1
    assert err.endswith("cannot be forgotten: this site's code or settings declare it")


def test_only_what_its_operator_has_seen_is_forgotten():
    seen = re.search(r"generation +(\S+)", run("circuit_breakers", "slip.one")[1])[1]
    with nothing_changes(rows=1):
        code, out, err = run(*FORGET, "--if-generation", "stale", "--json")
    assert (code, err) == (1, "Circuit breaker slip.one has changed meanwhile")
    answer = json.loads(out)
    row = Operation.objects.get()
    assert (answer["code"], answer["operation_id"]) == ("breaker_moved", str(row.pk))
    assert (row.status, row.error) == ("failed", "the breaker has changed meanwhile")
    assert run(*FORGET, "--if-generation", seen)[0] == 0


@pytest.mark.usefixtures("lost")
@pytest.mark.parametrize("extra", [[], ["--dry-run"]])
def test_with_the_store_down_nothing_is_forgotten_and_the_row_says_so(extra):
    code, out, err = run(*FORGET, *extra)
    assert (code, out) == (1, "")
    assert err.startswith("Failed to forget circuit breaker: the store ")
    rows = [(row.status, row.kind) for row in Operation.objects.all()]
    assert rows == ([] if extra else [("failed", "forget_circuit_breaker")])
