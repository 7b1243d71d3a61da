"""What the tests of the watch share: time that passes without waiting, and how its page is read."""

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from typing import Any

from analytics_admin.breakers import runtime
from analytics_admin.breakers.state import State
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move
from analytics_admin.models import Operation
from analytics_admin.services import Actor, OperationResult, reset_circuit_breakers
from tests.support.stored_breakers import age_record, key_of, raw_client

SAM = Actor.system("sam", channel="command")
PLACE_OF_TIME = 4  # in a transition as the store keeps it


def reset(*names: str) -> OperationResult:
    return reset_circuit_breakers(actor=SAM, names=names)


def let_pass(seconds: float) -> None:
    """Make all that the store and the audit trail tell of breakers so much older."""
    client = raw_client()
    for key in list(client.scan_iter("*:record:*")):
        age_record(key, seconds)
    for key in list(client.scan_iter("*:moves:*")):
        for place, row in enumerate(client.lrange(key, 0, -1)):
            told = row.decode().split(" ")
            told[PLACE_OF_TIME] = f"{float(told[PLACE_OF_TIME]) - seconds:.6f}"
            client.lset(key, place, " ".join(told))
    for operation in Operation.objects.all():
        operation.started_at -= timedelta(seconds=seconds)
        operation.finished_at = operation.finished_at and operation.finished_at - timedelta(
            seconds=seconds
        )
        operation.save()


def lose_the_past(name: str) -> None:
    """Drop the breaker's transitions, as the store does after a week."""
    raw_client().delete(key_of(name, "moves"))


def open_many(names: list[str]) -> None:
    """Have so many breakers open, in few round trips."""
    store = runtime.operator_store()
    made = store.compare_and_set([Move(name=it, expected=None, new=new_record()) for it in names])
    moves = [
        Move(
            name=name,
            expected=outcome.snapshot,
            new=replace(new_record(), state=State.OPEN),
            cause="consecutive_failures",
        )
        for name, outcome in zip(names, made, strict=True)
    ]
    assert all(outcome.won for outcome in store.compare_and_set(moves))


def section(answer: Any) -> str:
    """Return the page's section of what became of the operation; empty where there is none."""
    assert answer.status_code == 200
    found = re.search(r'<div class="module" id="aa-follow-up">.*?</div>', answer.text, re.DOTALL)
    return found[0] if found else ""


def verdict(answer: Any) -> tuple[str, str]:
    """Return the section's first sentence, and its tone."""
    found = re.search(
        r'class="aa-verdict aa-(\w+)" id="aa-follow-up-verdict"[^>]*>(.*?)</p>', section(answer)
    )
    assert found
    return unescape(found[2]), found[1]


def watched(answer: Any) -> list[list[str]]:
    """Return the rows without the instant: the name, what became of it, what it is now."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", section(answer), re.DOTALL)[1:]
    plain = [re.sub(r'<span class="aa-label">.*?</span>', "", row) for row in rows]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in plain]
    texts = [[_text(cell) for cell in row] for row in cells]
    return [[name, became, now] for name, became, _, now in texts]


def _text(cell: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", cell)).split())
