"""An operator reads what is true of a clear: what is done, what is left, what it will do."""

import json
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from analytics_admin.caching import SearchCache
from analytics_admin.caching.epochs import new_record, record_key
from analytics_admin.models import Operation
from analytics_admin.services import (
    Actor,
    OperationFailed,
    clear_search_cache,
    describe_search_cache,
    sweep_search_cache,
    undo_clear,
)
from tests.support.api import CLEAR, call
from tests.support.cache_aliases import fill, raw, redis_alias, use_caches
from tests.support.proxy import Fault, Proxy
from tests.support.servers import StoreServer, free_port

pytestmark = pytest.mark.django_db

HELD = "the database holds 'jobs', which is no value of a cache"
OPERATOR = Actor.system("op")
OPERATIONS: dict[str, Callable[..., Any]] = {
    "hard": clear_search_cache,
    "soft": lambda **options: clear_search_cache(mode="soft", **options),
    "tags": lambda **options: clear_search_cache(tags=["products"], **options),
    "undo": undo_clear,
    "sweep": sweep_search_cache,
}


@pytest.fixture
def store() -> Iterator[StoreServer]:
    with StoreServer(port=free_port()) as server:
        yield server


def use(settings: Any, url: str, *, dedicated: bool = False) -> None:
    use_caches(settings, dedicated=dedicated, search=redis_alias("s", url=url, db=0))


def test_a_store_that_falls_silent_in_the_removal_leaves_a_clear_that_is_done(
    settings: Any, store: StoreServer
) -> None:
    with Proxy(store.socket_path) as door:
        use(settings, door.url)
        cache = SearchCache(lambda: "search")
        fill("search", range(3000))
        cache.set("q", "old")

        def fall_silent(removed: int) -> None:
            door.fault = door.fault or Fault(word=b"UNLINK", deaf_afterwards=True)

        result = clear_search_cache(actor=OPERATOR, on_progress=fall_silent)
        assert result.message == "Search cache cleared"
        (warning,) = result.warnings
        assert "keys removed: the store did not answer in time. What is left counts no" in warning
    use(settings, store.url)
    row = Operation.objects.get()
    assert (row.status, row.outcome["finished"]) == ("done", False)
    last = describe_search_cache().last_clear
    assert last is not None
    assert last.operation_id == row.pk
    assert SearchCache(lambda: "search").get("q") is None


def test_every_door_says_how_many_keys_are_left(
    settings: Any, client: Any, superuser: Any, mint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analytics_admin.caching.clear.hard.REMOVAL_SECONDS", 0.0)
    use_caches(settings, search=redis_alias("search"))
    fill("search", range(3000))
    answer = call(client, CLEAR, mint())
    assert answer.content == b'{"message":"Search cache cleared"}'
    assert answer.headers["X-Warning"].startswith("Cleared, but only ")
    assert "sweep_search_cache" in answer.headers["X-Warning"]
    out, err = StringIO(), StringIO()
    call_command("clear_search_cache", "--no-input", stdout=out, stderr=err)
    assert out.getvalue() == "Search cache cleared\n"
    assert err.getvalue().startswith("Warning: Cleared, but only ")


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("fault", ["read-only user", "replica", "out of memory"])
def test_a_dry_run_fails_where_the_operation_would(
    settings: Any, store: StoreServer, name: str, fault: str
) -> None:
    use(settings, store.url)
    cache = SearchCache(lambda: "search")
    cache.set("left behind", 1)
    raw().set(record_key("search"), new_record().encode())
    cache.set("q", 1, tags=["products"])
    clear_search_cache(actor=OPERATOR, mode="soft")
    if fault == "read-only user":
        store.ask("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all", "-@write")
        use(settings, store.url.replace("://", "://reader:pw@"))
    elif fault == "replica":
        store.ask("REPLICAOF", "127.0.0.1", str(free_port()))
    else:
        store.ask("CONFIG", "SET", "maxmemory", "1")
    said = []
    for dry_run in (True, False):
        try:
            OPERATIONS[name](actor=OPERATOR, dry_run=dry_run)
            said.append("done")
        except OperationFailed as error:
            said.append(str(error.reason).partition(";")[0])
    assert said[0] == said[1]
    assert ("done" in said) == (fault == "out of memory" and name in {"tags", "sweep"})


def test_a_dry_run_names_the_way_that_the_clear_goes(settings: Any, store: StoreServer) -> None:
    use(settings, store.url, dedicated=True)
    fill("search", range(3))
    for way, line in (
        ("flush", "  removal: the whole database is flushed"),
        (
            "unlink",
            f"  removal: key by key, as {HELD}",
        ),
    ):
        plan = clear_search_cache(actor=OPERATOR, dry_run=True).preview
        assert plan is not None
        assert plan["way"] == way
        out = StringIO()
        call_command("clear_search_cache", "--dry-run", stdout=out)
        assert line in out.getvalue().splitlines()
        clear_search_cache(actor=OPERATOR)
        assert Operation.objects.latest("started_at").outcome["way"] == way
        store.ask("RPUSH", "jobs", "x")


def test_the_confirm_page_names_the_way(
    settings: Any, client: Any, superuser: Any, store: StoreServer
) -> None:
    use(settings, store.url, dedicated=True)
    client.force_login(superuser)
    page = "/admin/analytics_admin/searchcache/clear/"
    assert "is emptied" in client.post(page, {"mode": "hard"}).text
    store.ask("RPUSH", "jobs", "x")
    shown = client.post(page, {"mode": "hard"}).text
    assert "is emptied" not in shown
    assert "The database is not flushed: the database holds" in shown


def test_a_preview_as_json_has_the_way(settings: Any, store: StoreServer) -> None:
    use(settings, store.url)
    out = StringIO()
    call_command("clear_search_cache", "--dry-run", "--json", stdout=out)
    preview = json.loads(out.getvalue())["preview"]
    assert (preview["way"], preview["not_flushed"]) == ("unlink", "")
