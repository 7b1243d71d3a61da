"""The runner: what it does for every operation, shown by one that only counts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from analytics_admin.models import Operation
from analytics_admin.services import (
    Actor,
    OperationFailed,
    OperationRejected,
    OperationResult,
    OperatorError,
    StoreUnavailable,
)
from analytics_admin.services.runner import Command, perform

pytestmark = pytest.mark.django_db

SHELL = Actor.system("root", channel="command")


@dataclass(frozen=True, slots=True, kw_only=True)
class Count(Command[int]):
    """Calls of the command, in order; ``errors`` are raised by the methods of these names."""

    kind = Operation.Kind.SWEEP_SEARCH_CACHE

    calls: list[str] = field(default_factory=list)
    errors: Mapping[str, Exception] = field(default_factory=dict)

    @property
    def targets(self) -> Mapping[str, Any]:
        return {"of": "sheep"}

    def validate(self) -> None:
        self._note("validate")

    def check(self) -> None:
        self._note("check")

    def preview(self) -> OperationResult:
        self._note("preview")
        return OperationResult(message="Dry run: 3 sheep", preview={"sheep": 3})

    def execute(self) -> int:
        self._note("execute")
        return 3

    def record(self, outcome: int) -> dict[str, Any]:
        return {"sheep": outcome}

    def message(self, outcome: int) -> str:
        return f"{outcome} sheep"

    def announce(self, operation: Operation) -> None:
        self._note(f"announce {operation.status}")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.errors:
            raise self.errors[call]


class Refused(OperatorError):
    code = "refused"


def test_a_command_is_checked_recorded_executed_and_announced_in_this_order() -> None:
    command = Count()
    result = perform(command, actor=SHELL, reason=" why ")
    assert command.calls == ["validate", "check", "execute", "announce done"]
    row = Operation.objects.get()
    assert (result.message, result.operation_id) == ("3 sheep", row.pk)
    assert (row.status, row.reason, row.message) == ("done", "why", "3 sheep")
    assert (row.targets, row.outcome) == ({"of": "sheep"}, {"sheep": 3})


def test_a_dry_run_is_the_preview_alone() -> None:
    command = Count()
    assert perform(command, actor=SHELL, dry_run=True).preview == {"sheep": 3}
    assert command.calls == ["validate", "preview"]
    assert not Operation.objects.exists()


@pytest.mark.parametrize("call", ["validate", "check"])
def test_a_refusal_before_the_row_leaves_none(call: str) -> None:
    command = Count(errors={call: OperationRejected("no")})
    with pytest.raises(OperationRejected) as caught:
        perform(command, actor=SHELL)
    assert "execute" not in command.calls
    assert caught.value.operation_id is None
    assert not Operation.objects.exists()


def test_an_outage_before_the_row_is_reported_on_it_and_nothing_is_executed() -> None:
    command = Count(errors={"check": StoreUnavailable("the store is away")})
    with pytest.raises(OperationFailed) as caught:
        perform(command, actor=SHELL)
    row = Operation.objects.get()
    assert (row.status, row.error) == ("failed", "the store is away")
    assert (caught.value.code, caught.value.operation_id) == ("store_unavailable", row.pk)
    assert command.calls == ["validate", "check"]


def test_a_refusal_half_way_keeps_what_was_done_on_the_row() -> None:
    error = Refused("a wolf came", partial_outcome={"sheep": 1})
    with pytest.raises(Refused) as caught:
        perform(Count(errors={"execute": error}), actor=SHELL)
    row = Operation.objects.get()
    assert (row.status, row.error, row.outcome) == ("failed", "a wolf came", {"sheep": 1})
    assert caught.value.operation_id == row.pk


@pytest.mark.parametrize("call", ["check", "execute", "preview"])
def test_an_error_that_nobody_foresaw_is_reported_without_its_text(call: str) -> None:
    error = ValueError("redis://:hunter2@store")
    error.reason = "hunter2"  # type: ignore[attr-defined]
    with pytest.raises(OperationFailed) as caught:
        perform(Count(errors={call: error}), actor=SHELL, dry_run=call == "preview")
    assert str(caught.value) == "Failed to sweep cache: unexpected error (ValueError)"
    assert not Operation.objects.filter(error__contains="hunter2").exists()


BLANK = [" \n", "\u200b", "\u2060\u00ad", "\u3164", "\ufe0f\u2800", "\x07"]


@pytest.mark.parametrize("reason", BLANK, ids=ascii)
def test_a_reason_that_nobody_can_see_is_none(reason, settings):
    perform(Count(), actor=SHELL, reason=reason)
    assert Operation.objects.get().reason == ""
    settings.ANALYTICS_ADMIN = {"REQUIRE_REASON": True}
    with pytest.raises(OperationRejected, match="requires a reason"):
        perform(Count(), actor=SHELL, reason=reason)


def test_a_reason_keeps_the_invisible_signs_within_its_words():
    perform(Count(), actor=SHELL, reason=" \u0645\u06cc\u200c\u062f\u0627\u0646\u0645 ")
    assert Operation.objects.get().reason == "\u0645\u06cc\u200c\u062f\u0627\u0646\u0645"
