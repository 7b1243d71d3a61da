"""A request with an Idempotency-Key acts once: the same again is answered as before."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection
from django.utils import timezone

from analytics_admin.caching import search_cache
from analytics_admin.models import INTERRUPTED_AFTER, Operation
from analytics_admin.services import (
    Actor,
    audit,
    describe_breaker,
    forget_breaker,
    set_breaker_control,
)
from analytics_admin.services.idempotency import is_gone, this_process
from tests.support.api import CLEAR, RESET, assert_error, nothing_changes
from tests.support.breakers import trip

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("superuser")]

BREAKERS = "/api/v1/analytics/circuit-breakers"
ACTS = {
    "clear": ("POST", CLEAR, None),
    "clear softly": ("POST", CLEAR, {"mode": "soft"}),
    "reset all": ("POST", RESET, None),
    "reset some": ("POST", RESET, {"names": ["once.one", "once.two"]}),
    "reset one": ("POST", f"{BREAKERS}/once.one/reset", {"reason": "why"}),
    "hold one": ("PUT", f"{BREAKERS}/once.one/control", {"control": "disabled"}),
    "hold some": ("PUT", f"{BREAKERS}/control", {"names": ["once.one"], "control": "disabled"}),
    "probe one": ("POST", f"{BREAKERS}/once.one/probe", None),
    "probe some": ("POST", f"{BREAKERS}/probe", {"names": ["once.two", "once.one"]}),
    "forget one": ("DELETE", f"{BREAKERS}/once.one", None),
    "forget some": ("POST", f"{BREAKERS}/forget", {"names": ["once.one", "once.two"]}),
}


@pytest.fixture(autouse=True)
def staged() -> None:
    search_cache.set("query", "answer")
    for name in ("once.one", "once.two"):
        trip(name)


def rows() -> list[str]:
    return list(Operation.objects.values_list("status", flat=True))


@pytest.mark.parametrize(("method", "path", "body"), ACTS.values(), ids=ACTS)
def test_the_same_request_again_is_answered_as_before_and_does_nothing(send, method, path, body):
    first = send(method, path, body, Idempotency_Key="once")
    assert first.status_code == 200
    assert "Idempotency-Replayed" not in first.headers
    with nothing_changes():
        again = send(method, path, body, Idempotency_Key='"once"')  # as a structured field has it
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    for name in ("X-Operation-Id", "X-Acknowledged", "X-Warning"):
        assert again.headers.get(name) == first.headers.get(name)
    assert rows() == ["done"]


def test_a_key_is_of_one_user_one_method_and_one_path(send, staff_user):
    hold = {"control": "disabled"}
    assert send("POST", CLEAR, Idempotency_Key="k").status_code == 200
    assert send("POST", RESET, Idempotency_Key="k").status_code == 200
    assert send("POST", CLEAR, sub="sam", Idempotency_Key="k").status_code == 200
    for name in ("once.one", "once.two"):
        path = f"{BREAKERS}/{name}/control"
        assert send("PUT", path, hold, Idempotency_Key="k").status_code == 200
    assert rows() == ["done"] * 5
    assert len(set(Operation.objects.values_list("pk", flat=True))) == 5


@pytest.mark.parametrize("other", [{"reason": "another"}, {"names": ["once.one"]}])
def test_another_request_with_the_key_is_rejected(send, other):
    first = send("POST", RESET, {"only_open": True}, Idempotency_Key="k")
    with nothing_changes():
        answer = send("POST", RESET, other, Idempotency_Key="k")
    assert_error(answer, 422, "idempotency_key_reused")
    assert answer.headers["X-Operation-Id"] == first.headers["X-Operation-Id"]


def test_what_the_request_expects_belongs_to_it(send):
    path = f"{BREAKERS}/once.one/reset"
    assert send("POST", path, Idempotency_Key="k").status_code == 200
    assert_error(
        send("POST", path, Idempotency_Key="k", If_Match="*"), 422, "idempotency_key_reused"
    )


def test_the_same_object_written_otherwise_is_the_same_request(send, client, mint):
    body = {"only_open": True, "reason": "x"}
    send("POST", RESET, body, Idempotency_Key="k")
    headers = {"Authorization": f"Bearer {mint()}", "Idempotency-Key": "k"}
    content = '{ "reason": "\\u0078",\n "only_open":true}'
    answer = client.generic("POST", RESET, content, "application/json", headers=headers)
    assert (answer.status_code, answer.headers["Idempotency-Replayed"]) == (200, "true")


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\tb", "é"])
def test_an_unusable_key_is_400(send, key):
    with nothing_changes():
        assert_error(send("POST", CLEAR, Idempotency_Key=key), 400, "invalid", "Idempotency-Key")


def test_a_dry_run_uses_no_key_up(send):
    assert send("POST", CLEAR, {"dry_run": True}, Idempotency_Key="k").status_code == 200
    first = send("POST", CLEAR, Idempotency_Key="k")
    assert "Idempotency-Replayed" not in first.headers
    dry = send("POST", CLEAR, {"dry_run": True}, Idempotency_Key="k")
    assert "preview" in dry.json()
    assert rows() == ["done"]


def test_a_rejection_uses_no_key_up(send, plain_user, settings):
    assert send("POST", RESET, {"names": ["nobody"]}, Idempotency_Key="k").status_code == 404
    assert send("POST", RESET, {"nonsense": 1}, Idempotency_Key="k").status_code == 400
    settings.ANALYTICS_ADMIN = {"READ_ONLY": True}
    assert send("POST", RESET, Idempotency_Key="k").status_code == 403
    settings.ANALYTICS_ADMIN = {}
    first = send("POST", RESET, Idempotency_Key="k")
    assert (first.status_code, "Idempotency-Replayed" in first.headers) == (200, False)


def test_who_may_not_act_any_more_learns_no_answer(send, superuser):
    send("POST", CLEAR, Idempotency_Key="k")
    superuser.is_superuser = superuser.is_staff = False
    superuser.save()
    assert_error(send("POST", CLEAR, Idempotency_Key="k"), 403, "permission_denied")


def test_a_failed_act_may_be_tried_again_with_its_key(send):
    path = f"{BREAKERS}/once.one/reset"
    stale = send("POST", path, Idempotency_Key="k", If_Match='"stale"')
    assert stale.status_code == 412
    assert send("POST", path, Idempotency_Key="k").status_code == 200
    again = send("POST", path, Idempotency_Key="k")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert sorted(rows()) == ["done", "failed"]


def test_a_key_is_free_again_after_a_day(send):
    first = send("POST", CLEAR, Idempotency_Key="k")
    for age, replayed in ((timedelta(hours=23, minutes=59), True), (timedelta(hours=25), False)):
        Operation.objects.update(started_at=timezone.now() - age)
        again = send("POST", CLEAR, {}, Idempotency_Key="k")
        assert ("Idempotency-Replayed" in again.headers) is replayed
    assert again.headers["X-Operation-Id"] != first.headers["X-Operation-Id"]


def begin(**replay) -> None:
    """Have the operation of the key under way, or its process gone."""
    row = Operation.objects.get()
    row.replay = {**row.replay, **replay}
    row.status, row.finished_at, row.message, row.outcome = "started", None, "", {}
    row.save()


def ended_process() -> str:
    code = "import sys; print(sys.argv)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    place, _, _ = this_process().split(" ")
    gone = f"{place} {process.pid} 1"
    process.wait()
    return gone


def test_one_under_way_answers_409_and_when_to_ask_again(send):
    send("POST", CLEAR, Idempotency_Key="k")
    begin(process=this_process())
    with nothing_changes():
        answer = send("POST", CLEAR, Idempotency_Key="k")
    assert_error(answer, 409, "operation_under_way")
    assert int(answer.headers["Retry-After"]) >= 1


def test_one_that_begins_between_the_look_and_the_row_is_under_way_too(send, monkeypatch):
    send("POST", CLEAR, Idempotency_Key="k")
    begin(process=this_process())
    (row,) = Operation.objects.all()
    Operation.objects.all().delete()
    insert = audit._insert

    def insert_later(operation, actor):
        row.save(force_insert=True)  # another process is faster
        insert(operation, actor)

    monkeypatch.setattr(audit, "_insert", insert_later)
    assert_error(send("POST", CLEAR, Idempotency_Key="k"), 409, "operation_under_way")


def test_one_whose_process_has_ended_is_finished_in_its_own_row(send):
    send("POST", CLEAR, Idempotency_Key="k")
    search_cache.set("query", "answer")
    begin(process=ended_process())
    answer = send("POST", CLEAR, Idempotency_Key="k")
    assert answer.json() == {"message": "Search cache cleared"}
    assert search_cache.get("query") is None
    row = Operation.objects.get()
    assert (row.status, row.message) == ("done", "Search cache cleared")
    assert row.outcome["mode"] == "hard"


@pytest.mark.parametrize(
    "act", ["reset some", "reset one", "hold one", "probe some", "forget some"]
)
def test_what_the_ended_process_had_done_is_not_done_again(send, act):
    method, path, body = ACTS[act]
    first = send(method, path, body, Idempotency_Key="k").json()
    begin(process=ended_process())
    again = send(method, path, body, Idempotency_Key="k")
    assert (again.status_code, again.json()["message"]) == (200, first["message"])
    told = {(row["name"], row["to"]) for row in again.json()["results"]}
    assert told == {(row["name"], row["to"]) for row in first["results"]}
    row = Operation.objects.get()
    assert (row.status, row.outcome["moved"]) == ("done", len(first["results"]))
    if act != "forget some":
        name = first["results"][0]["name"]
        moves = [move.to_state for move in describe_breaker(name).transitions]
        assert moves.count(first["results"][0]["to"]) == 1


def test_what_the_ended_process_had_left_is_done(send):
    method, path, body = ACTS["probe some"]
    send(method, path, body, Idempotency_Key="k")
    forget_breaker(name="once.two", actor=Actor.system("x"))  # with all that was done to it
    Operation.objects.filter(kind="forget_circuit_breaker").delete()
    trip("once.two")
    begin(process=ended_process())
    answer = send(method, path, body, Idempotency_Key="k").json()
    assert [row["to"] for row in answer["results"]] == ["half_open", "half_open"]
    assert Operation.objects.get().outcome["moved"] == 2
    for name in body["names"]:
        moves = [move.to_state for move in describe_breaker(name).transitions]
        assert moves.count("half_open") == 1


def test_one_of_another_machine_is_under_way_until_it_counts_as_interrupted(send):
    send("POST", CLEAR, Idempotency_Key="k")
    begin(process="another/4026531836 7 1")
    assert send("POST", CLEAR, Idempotency_Key="k").status_code == 409
    started_at = timezone.now() - INTERRUPTED_AFTER - timedelta(seconds=1)
    Operation.objects.update(started_at=started_at)
    assert send("POST", CLEAR, Idempotency_Key="k").status_code == 200
    assert rows() == ["done"]


def test_a_process_is_gone_only_where_that_can_be_told():
    place, pid, began = this_process().split(" ")
    assert not is_gone(this_process())
    assert is_gone(ended_process())
    assert is_gone(f"{place} {pid} {int(began) - 1}")  # another one has its number now
    for unknown in (
        None,
        7,
        "",
        "a b",
        f"elsewhere {pid} 1",
        f"{place} x 1",
        f"{place} {'9' * 30} 1",
    ):
        assert not is_gone(unknown)
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(f"{place} {zombie.pid} 1")
    zombie.wait()


def test_without_the_audit_trail_nothing_is_done(send):
    def refuse(execute, sql, *rest):
        if "analytics_admin_operation" in sql:
            raise DatabaseError("connection to db.internal was lost")
        return execute(sql, *rest)

    with nothing_changes(), connection.execute_wrapper(refuse):
        answer = send("POST", CLEAR, Idempotency_Key="k")
    assert_error(answer, 500, "audit_unavailable", "Failed to clear cache: ")
    assert "internal" not in answer.text


def test_reading_takes_no_notice_of_a_key(send):
    set_breaker_control(name="once.one", control="disabled", actor=Actor.system("x"))
    assert send("GET", BREAKERS, Idempotency_Key="é").status_code == 200
