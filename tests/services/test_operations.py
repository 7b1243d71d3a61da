"""The services: what each operation does, refuses and records, whichever door it came by."""

import uuid
from datetime import timedelta

import pytest
from django.core.cache import caches
from django.db import DatabaseError, OperationalError, connection, transaction
from django.test import override_settings
from django.utils import timezone

from analytics_admin import services
from analytics_admin.caching.clear import hard
from analytics_admin.models import Operation
from analytics_admin.services import Actor, audit, clear_search_cache, reset_circuit_breakers
from analytics_admin.signals import operation_finished, search_cache_cleared
from tests.support.breakers import state_now, trip

pytestmark = pytest.mark.django_db

SHELL = Actor.system("root", channel="command")


def test_clear_empties_the_search_cache_alone_and_is_on_record():
    for alias in caches:
        caches[alias].set("key", "value")
    breaker = trip("kept")
    result = clear_search_cache(actor=SHELL, reason="  stale prices ")
    assert result.message == "Search cache cleared"
    assert caches["search"].get("key") is None
    assert caches["default"].get("key") == "value"
    assert state_now(breaker) == "open"
    row = Operation.objects.get()
    assert row.pk == result.operation_id
    assert (row.kind, row.status, row.channel) == ("clear_search_cache", "done", "command")
    assert (row.actor, row.user, row.reason, row.error) == ("root", None, "stale prices", "")
    assert row.finished_at >= row.started_at
    assert row.duration_ms > 0


@pytest.mark.parametrize("dry_run", [True, False])
def test_clear_takes_tags_from_an_iterator_that_can_be_read_once(dry_run):
    tags = (tag for tag in ("shoes", "hats"))
    result = clear_search_cache(actor=SHELL, tags=tags, dry_run=dry_run)
    assert "2 tags" in result.message
    assert [row.targets["tags"] for row in Operation.objects.all()] == (
        [] if dry_run else [["hats", "shoes"]]
    )


def test_reset_closes_every_breaker_of_the_fleet_and_is_on_record():
    breakers = [trip("one"), trip("two")]
    result = reset_circuit_breakers(actor=SHELL)
    assert (result.message, result.results) == ("All circuit breakers reset successfully", None)
    assert [state_now(breaker) for breaker in breakers] == ["closed", "closed"]
    row = Operation.objects.get()
    assert (row.kind, row.status) == ("reset_circuit_breakers", "done")
    assert row.targets == {"names": "all", "only_open": False}
    assert row.outcome["moved"] == 2
    assert {"name": "one", "from": "open", "to": "closed"} in row.outcome["results"]


def test_reset_of_named_breakers_leaves_the_others():
    one, two = trip("one"), trip("two")
    result = reset_circuit_breakers(actor=SHELL, names=["two", "two"])
    assert result.message == "1 circuit breaker reset successfully"
    assert result.results == [{"name": "two", "from": "open", "to": "closed"}]
    assert (state_now(one), state_now(two)) == ("open", "closed")
    assert Operation.objects.get().targets == {"names": ["two"], "only_open": False}


def test_only_open_with_nothing_open_resets_none():
    result = reset_circuit_breakers(actor=SHELL, only_open=True)
    assert (result.message, result.results) == ("0 circuit breakers reset successfully", [])


def test_an_unknown_name_resets_records_and_creates_nothing():
    one = trip("one")
    with pytest.raises(services.UnknownBreakers, match="nope"):
        reset_circuit_breakers(actor=SHELL, names=["one", "nope"])
    assert state_now(one) == "open"
    assert not Operation.objects.exists()
    assert "nope" not in {status.name for status in services.list_breakers()}


def test_no_names_at_all_is_refused():
    with pytest.raises(services.OperationRejected, match="at least one name"):
        reset_circuit_breakers(actor=SHELL, names=[])
    assert not Operation.objects.exists()


@pytest.mark.parametrize("names", ["one", "", b"one", [1], ["one", None], [["one"]]])
@pytest.mark.parametrize("dry_run", [False, True])
def test_names_that_are_no_list_of_texts_are_a_mistake_of_the_caller(names, dry_run):
    breakers = [trip("one"), trip("o")]
    with pytest.raises(TypeError, match="names"):
        reset_circuit_breakers(actor=SHELL, names=names, dry_run=dry_run)
    assert [state_now(breaker) for breaker in breakers] == ["open", "open"]
    assert not Operation.objects.exists()


def test_a_dry_run_changes_nothing_and_leaves_no_row():
    caches["search"].set("key", "value")
    one = trip("one")
    cleared = clear_search_cache(actor=SHELL, dry_run=True)
    assert cleared.operation_id is None
    assert cleared.preview["keys"] == 1
    assert cleared.message == "Dry run: 1 key would be removed"
    reset = reset_circuit_breakers(actor=SHELL, only_open=True, dry_run=True)
    assert reset.preview == {
        "count": 1,
        "breakers": [{"name": "one", "from": "open", "to": "closed"}],
    }
    assert caches["search"].get("key") == "value"
    assert state_now(one) == "open"
    assert not Operation.objects.exists()


@pytest.mark.parametrize("operation", [clear_search_cache, reset_circuit_breakers])
@pytest.mark.parametrize("dry_run", [False, True])
def test_who_may_not_act_is_denied_on_record(operation, dry_run, plain_user):
    caches["search"].set("key", "value")
    one = trip("one")
    with pytest.raises(services.OperationDenied, match="Not authorized") as caught:
        operation(actor=Actor.from_user(plain_user, channel="api"), dry_run=dry_run)
    row = Operation.objects.get(pk=caught.value.operation_id)
    assert (row.status, row.actor, row.user, row.kind) == (
        "denied",
        "una",
        plain_user,
        operation.__name__,
    )
    assert caches["search"].get("key") == "value"
    assert state_now(one) == "open"


def test_staff_may_act_unless_model_permissions_are_required(staff_user):
    actor = Actor.from_user(staff_user, channel="api")
    clear_search_cache(actor=actor)
    with override_settings(ANALYTICS_ADMIN={"REQUIRE_MODEL_PERMISSIONS": True}):
        with pytest.raises(services.OperationDenied):
            clear_search_cache(actor=actor)
        from django.contrib.auth.models import Permission

        staff_user.user_permissions.add(Permission.objects.get(codename="clear_search_cache"))
        staff_user = type(staff_user).objects.get(pk=staff_user.pk)  # forgets cached permissions
        clear_search_cache(actor=Actor.from_user(staff_user, channel="api"))
        with pytest.raises(services.OperationDenied):
            reset_circuit_breakers(actor=Actor.from_user(staff_user, channel="api"))


def test_an_inactive_superuser_may_not_act(superuser):
    superuser.is_active = False
    with pytest.raises(services.OperationDenied):
        clear_search_cache(actor=Actor.from_user(superuser))


def test_a_read_only_site_refuses_operations_and_still_previews():
    with override_settings(ANALYTICS_ADMIN={"READ_ONLY": True}):
        with pytest.raises(services.OperationRejected, match="read-only"):
            clear_search_cache(actor=SHELL)
        clear_search_cache(actor=SHELL, dry_run=True)
    assert not Operation.objects.exists()


def test_a_site_that_asks_for_reasons_refuses_operations_without_one():
    with override_settings(ANALYTICS_ADMIN={"REQUIRE_REASON": True}):
        with pytest.raises(services.OperationRejected, match="reason"):
            clear_search_cache(actor=SHELL, reason="   ")
        clear_search_cache(actor=SHELL, reason="stale")


def test_an_overlong_reason_is_refused():
    with pytest.raises(services.OperationRejected, match="at most 500"):
        clear_search_cache(actor=SHELL, reason="x" * 501)


@pytest.mark.parametrize("operation", [clear_search_cache, reset_circuit_breakers])
@pytest.mark.parametrize("reason", ["a\x00b", "a\ud800b", "\udcff"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_reason_that_is_no_text_is_refused_before_anything_is_done(operation, reason, dry_run):
    caches["search"].set("key", "value")
    one = trip("one")
    with pytest.raises(services.OperationRejected, match=r"^reason: ") as caught:
        operation(actor=SHELL, reason=reason, dry_run=dry_run)
    assert caught.value.code == "invalid"
    assert caches["search"].get("key") == "value"
    assert state_now(one) == "open"
    assert not Operation.objects.exists()


def test_an_operation_that_could_not_be_put_on_record_is_logged_as_such(caplog):
    with _refusing_inserts("database is locked"), pytest.raises(services.OperationFailed):
        clear_search_cache(actor=SHELL)
    assert caplog.messages[-1] == (
        "clear_search_cache failed: the database is locked (not on record)"
    )


def test_a_failed_operation_is_logged_with_its_row(monkeypatch, caplog):
    monkeypatch.setattr(hard, "clear", _unreachable)
    with pytest.raises(services.OperationFailed) as caught:
        clear_search_cache(actor=SHELL)
    assert caplog.messages[-1].endswith(f" (operation {caught.value.operation_id})")


def test_nothing_is_done_when_it_cannot_be_put_on_record(monkeypatch):
    caches["search"].set("key", "value")
    with _refusing_inserts("database is locked"), pytest.raises(services.OperationFailed) as caught:
        clear_search_cache(actor=SHELL)
    assert str(caught.value) == "Failed to clear cache: the database is locked"
    assert caught.value.operation_id is None
    assert caches["search"].get("key") == "value"


def test_a_closing_write_that_fails_changes_nothing_of_the_answer():
    caches["search"].set("key", "value")
    with _refusing_updates():
        result = clear_search_cache(actor=SHELL)
    assert result.message == "Search cache cleared"
    assert caches["search"].get("key") is None
    row = Operation.objects.get()
    assert (row.status, row.finished_at) == ("started", None)


def test_a_row_left_open_counts_as_interrupted_after_ten_minutes():
    row = Operation(kind="clear_search_cache", status="started")
    row.started_at = timezone.now() - timedelta(minutes=9)
    assert not row.is_interrupted
    row.started_at = timezone.now() - timedelta(minutes=11)
    assert row.is_interrupted
    row.status = "done"
    assert not row.is_interrupted


@pytest.mark.django_db(transaction=True)
def test_an_operation_within_a_transaction_is_refused_since_its_row_could_vanish():
    caches["search"].set("key", "value")
    with (
        transaction.atomic(),
        pytest.raises(services.OperationFailed, match="inside a database tr"),
    ):
        clear_search_cache(actor=SHELL)
    assert caches["search"].get("key") == "value"


def test_deleting_the_user_keeps_the_row_and_the_name(staff_user):
    clear_search_cache(actor=Actor.from_user(staff_user, channel="admin"))
    staff_user.delete()
    row = Operation.objects.get()
    assert (row.user, row.actor) == (None, "sam")


def test_finished_operations_are_announced_and_a_broken_listener_harms_nothing():
    heard = []

    def listen(sender, **kwargs):
        heard.append(kwargs["operation"].status)

    def break_down(**_):
        raise RuntimeError("listener")

    for signal in (operation_finished, search_cache_cleared):
        signal.connect(break_down)
        signal.connect(listen)
    try:
        clear_search_cache(actor=SHELL)
    finally:
        for signal in (operation_finished, search_cache_cleared):
            signal.disconnect(break_down)
            signal.disconnect(listen)
    assert heard == ["done", "done"]


def test_an_unforeseen_error_fails_the_operation_without_its_text(monkeypatch, caplog):
    secret = "redis://:hunter2@store"

    def explode(**_):
        raise ValueError(secret)

    monkeypatch.setattr(hard, "clear", explode)
    with pytest.raises(services.OperationFailed) as caught:
        clear_search_cache(actor=SHELL)
    assert str(caught.value) == "Failed to clear cache: unexpected error (ValueError)"
    row = Operation.objects.get()
    assert (row.status, row.error) == ("failed", "ValueError")
    assert "hunter2" not in caplog.text + str(caught.value) + row.error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("database is locked", "the database is locked"),
        ("attempt to write a readonly database", "the database is read-only"),
        ("no such table: analytics_admin_operation", "the database is not migrated"),
        ("database or disk is full", "the database has no space left"),
        ('connection to server at "10.0.0.1", user "app" failed', "the database does not answer"),
    ],
)
def test_database_errors_are_told_in_words_that_name_no_host(text, words):
    assert audit.describe_database_error(DatabaseError(text)) == words


def test_an_actor_remembers_name_channel_and_user(staff_user):
    actor = Actor.from_user(staff_user, channel="api")
    assert (actor.name, actor.channel, actor.user) == ("sam", "api", staff_user)
    assert Actor.system("cron").channel == "code"
    assert isinstance(Operation().pk, uuid.UUID)


OPERATIONS_ONCE = {
    "clear": clear_search_cache,
    "undo": services.undo_clear,
    "sweep": services.sweep_search_cache,
    "reset": lambda **options: reset_circuit_breakers(names=["one"], **options),
    "hold": lambda **options: services.set_breaker_control(
        name="one", control="disabled", **options
    ),
    "probe": lambda **options: services.allow_probe(name="one", **options),
    "forget": lambda **options: services.forget_breaker(name="one", **options),
}


@pytest.mark.parametrize("operation", OPERATIONS_ONCE.values(), ids=OPERATIONS_ONCE)
def test_under_one_id_an_operation_is_done_once_also_where_the_first_has_made_it_impossible(
    operation,
):
    trip("one")
    clear_search_cache(actor=SHELL, mode="soft")
    asked_id = uuid.uuid4()
    assert operation(actor=SHELL, operation_id=asked_id).operation_id == asked_id
    rows = Operation.objects.count()
    with pytest.raises(services.DuplicateOperation) as caught:
        operation(actor=SHELL, operation_id=asked_id)
    assert (caught.value.operation_id, caught.value.first.pk) == (asked_id, asked_id)
    assert caught.value.first.status == "done"
    assert Operation.objects.count() == rows
    with pytest.raises(services.DuplicateOperation) as caught:
        operation(actor=Actor.system("somebody else", channel="command"), operation_id=asked_id)
    assert caught.value.first is None


def test_a_dry_run_uses_no_id_up():
    asked_id = uuid.uuid4()
    clear_search_cache(actor=SHELL, operation_id=asked_id, dry_run=True)
    clear_search_cache(actor=SHELL, operation_id=asked_id)
    assert clear_search_cache(actor=SHELL, operation_id=asked_id, dry_run=True).preview


def test_a_refusal_before_the_row_leaves_the_id_to_the_next_try():
    asked_id = uuid.uuid4()
    for _ in range(2):
        with pytest.raises(services.UnknownBreakers):
            services.forget_breaker(name="nope", actor=SHELL, operation_id=asked_id)
    clear_search_cache(actor=SHELL, operation_id=asked_id)


def test_an_audit_trail_that_cannot_say_who_was_first_fails_the_operation():
    asked_id = uuid.uuid4()
    clear_search_cache(actor=SHELL, operation_id=asked_id)
    refuse = connection.execute_wrapper(_refuse("SELECT", "database is locked"))
    with refuse, pytest.raises(services.OperationFailed, match="the database is locked"):
        clear_search_cache(actor=SHELL, operation_id=asked_id)


def test_the_message_of_an_operation_is_on_record_and_a_failed_one_has_none(monkeypatch):
    assert clear_search_cache(actor=SHELL).message == Operation.objects.get().message
    Operation.objects.all().delete()
    monkeypatch.setattr(hard, "clear", _unreachable)
    with pytest.raises(services.OperationFailed):
        clear_search_cache(actor=SHELL)
    assert Operation.objects.get().message == ""


def _unreachable(**_):
    raise services.StoreUnavailable("the store cannot be reached")


def _refusing_inserts(text: str):
    return connection.execute_wrapper(_refuse("INSERT", text))


def _refusing_updates():
    return connection.execute_wrapper(_refuse("UPDATE", "database is locked"))


def _refuse(statement: str, text: str):
    def wrapper(execute, sql, params, many, context):
        if sql.startswith(statement) and "analytics_admin_operation" in sql:
            raise OperationalError(text)
        return execute(sql, params, many, context)

    return wrapper
