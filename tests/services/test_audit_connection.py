"""The row of an operation lies in one database, durably, whatever becomes of connections."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection, transaction

from analytics_admin.models import Operation
from analytics_admin.services import Actor, OperationFailed, audit, clear_search_cache
from tests.support.cache_aliases import fill, redis_alias, use_caches

OPERATOR = Actor.system("op")


@pytest.fixture(autouse=True)
def _store(settings: Any) -> None:
    use_caches(settings, search=redis_alias("search"))


def die(removed: int) -> None:
    """Have the connection die, as when the database restarts."""
    connection.connection.close()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite's is in memory")
@pytest.mark.django_db(transaction=True)
def test_a_row_is_closed_although_its_connection_died_in_the_operation() -> None:
    fill("search", range(2000))
    assert clear_search_cache(actor=OPERATOR, on_progress=die).message == "Search cache cleared"
    row = Operation.objects.get()
    assert (row.status, row.outcome["keys"]) == ("done", 2000)
    assert row.finished_at is not None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("usable", [True, False])
def test_only_a_connection_that_died_is_replaced(
    monkeypatch: pytest.MonkeyPatch, usable: bool
) -> None:
    saves, closed = [], []
    save = audit._save

    def fail_once(*arguments: Any) -> None:
        saves.append(1)
        if len(saves) == 1:
            raise OperationalError
        save(*arguments)

    monkeypatch.setattr(audit, "_save", fail_once)
    monkeypatch.setattr(connection, "is_usable", lambda: usable)
    monkeypatch.setattr(connection, "close", lambda: closed.append(1))
    clear_search_cache(actor=OPERATOR)
    assert Operation.objects.get().status == ("started" if usable else "done")
    assert closed == ([] if usable else [1])


@pytest.mark.django_db(transaction=True)
def test_without_autocommit_nothing_is_done() -> None:
    fill("search", range(3))
    transaction.set_autocommit(False)
    try:
        with pytest.raises(OperationFailed, match="inside a database transaction"):
            clear_search_cache(actor=OPERATOR)
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)
    assert not Operation.objects.exists()
    assert clear_search_cache(actor=OPERATOR, dry_run=True).preview["keys"] == 3  # type: ignore[index]


@pytest.mark.django_db
@pytest.mark.parametrize("known", [True, False])
def test_an_actor_of_another_database_leaves_the_row_where_rows_are(
    superuser: Any, known: bool
) -> None:
    """The account of a replica is the same one; one of other accounts is none here."""
    user = superuser if known else get_user_model()(pk=superuser.pk, username="ann")
    user.is_active = user.is_superuser = True
    user._state.db = "elsewhere"
    clear_search_cache(actor=Actor.from_user(user))
    row = Operation.objects.get()
    assert (row.status, row.actor) == ("done", user.username)
    assert row.user_id == (superuser.pk if known else None)
