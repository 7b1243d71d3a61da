"""The store keeps the id of the last clear on record, and an operator hears who may lose it."""

import json
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.core.management import call_command

from analytics_admin.caching.clear import tags as tag_clear
from analytics_admin.caching.epochs import EpochRecord
from analytics_admin.models import Operation
from analytics_admin.services import Actor, clear_search_cache
from analytics_admin.services.runner import Kind, deny
from analytics_admin.services.search_cache.reconciliation import clear_again, find_receipts
from tests.support.api import CLEAR, call
from tests.support.cache_aliases import record, redis_alias, use_caches
from tests.support.console_pages import inputs
from tests.support.servers import StoreServer, free_port

pytestmark = pytest.mark.django_db

OPERATOR = Actor.system("op")
MODES: dict[str, dict[str, Any]] = {
    "hard": {},
    "soft": {"mode": "soft"},
    "tags": {"tags": ["products"]},
}
SAID = "Not yet on 1 of 1 replica: a failover may undo it"
PAGE = "/admin/analytics_admin/searchcache/clear/"


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_the_store_keeps_the_id_of_the_last_clear(settings: Any, options: dict[str, Any]) -> None:
    use_caches(settings, search=redis_alias("search"))
    assert not find_receipts(after="")
    for _ in range(2):
        result = clear_search_cache(actor=OPERATOR, **options)
        kept = record()
        assert kept is not None
        assert result.operation_id is not None
        assert [kept.receipt] == find_receipts(after="") == [result.operation_id.hex]


def test_a_clear_that_was_not_done_is_not_the_last_one() -> None:
    done = Operation.objects.create(kind=Kind.CLEAR_SEARCH_CACHE, status="done")
    Operation.objects.create(kind=Kind.CLEAR_SEARCH_CACHE, status="failed")
    Operation.objects.create(kind=Kind.UNDO_CLEAR, status="done")
    deny(Kind.CLEAR_SEARCH_CACHE, actor=OPERATOR)
    assert find_receipts(after="") == [done.pk.hex]
    for status in ("unknown", "started"):
        last = Operation.objects.create(kind=Kind.CLEAR_SEARCH_CACHE, status=status)
        assert find_receipts(after="") == [last.pk.hex]


def test_clears_since_another_are_found_oldest_first() -> None:
    statuses = ("done", "unknown", "failed", "started", "done")
    rows = [
        Operation.objects.create(kind=Kind.CLEAR_SEARCH_CACHE, status=status) for status in statuses
    ]
    first, unknown, _failed, started, last = (row.pk.hex for row in rows)
    assert find_receipts(after=first) == [unknown, started, last]
    assert find_receipts(after=first, acknowledged=True) == [unknown, last]
    assert find_receipts(after=last) == []


class ClearsAtTheSameTime:
    """The first to begin is done last. ``between``: what happens just before that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, between: Callable[[], object]) -> None:
        ask_server, self._between = tag_clear.ask_server, between
        self.receipts: list[str] = []

        def ask_later(*arguments: Any) -> Any:
            monkeypatch.setattr(tag_clear, "ask_server", ask_server)
            self._clear("other")
            between()
            return ask_server(*arguments)

        monkeypatch.setattr(tag_clear, "ask_server", ask_later)
        self._clear("products")

    def _clear(self, tag: str) -> None:
        done = clear_search_cache(actor=OPERATOR, tags=[tag]).operation_id
        assert done is not None
        self.receipts.append(done.hex)


def test_a_clear_that_a_store_lost_is_found_though_one_it_has_began_later(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_caches(settings, search=redis_alias("search"))
    copies: list[EpochRecord | None] = []
    clears = ClearsAtTheSameTime(monkeypatch, lambda: copies.append(record()))
    [old] = copies
    assert old is not None
    assert old.receipt == clears.receipts[0]
    assert find_receipts(after=old.receipt) == clears.receipts[1:]


def test_clears_at_the_same_time_that_the_store_has_are_not_taken_for_lost(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_caches(settings, search=redis_alias("search"))
    clears = ClearsAtTheSameTime(monkeypatch, lambda: None)
    kept = record()
    assert kept is not None
    assert (kept.earlier[-1], kept.receipt) == tuple(clears.receipts)
    assert set(find_receipts(after=kept.receipt)) <= set(kept.earlier)
    clear_search_cache(actor=OPERATOR)
    after = record()
    assert after is not None
    assert after.earlier[-2:] == tuple(clears.receipts)


class TestReplicasThatLag:
    @pytest.fixture(autouse=True)
    def _lagging(self, settings: Any) -> Iterator[None]:
        with StoreServer(port=free_port()) as store, StoreServer(port=free_port()) as replica:
            replica.follow(store)
            replica.freeze()
            use_caches(settings, search=redis_alias("search", url=store.url, db=0))
            yield

    @pytest.mark.parametrize("options", MODES.values(), ids=MODES)
    def test_the_service_says_so(self, options: dict[str, Any]) -> None:
        result = clear_search_cache(actor=OPERATOR, **options)
        assert list(result.warnings) == [SAID]
        outcome = Operation.objects.get().outcome
        assert (outcome["replicas"], outcome["replicas_behind"]) == (1, 1)

    def test_every_door_says_so_and_keeps_its_message(
        self, client: Any, superuser: Any, mint: Any
    ) -> None:
        answer = call(client, CLEAR, mint())
        assert answer.content == b'{"message":"Search cache cleared"}'
        assert answer.headers["X-Warning"] == SAID
        out, err = StringIO(), StringIO()
        call_command("clear_search_cache", "--no-input", stdout=out, stderr=err)
        assert out.getvalue() == "Search cache cleared\n"
        assert err.getvalue() == f"Warning: {SAID}.\n"
        out, err = StringIO(), StringIO()
        call_command("clear_search_cache", "--no-input", "--json", stdout=out, stderr=err)
        assert json.loads(out.getvalue())["warnings"] == [SAID]
        client.force_login(superuser)
        page = client.post(PAGE, {"mode": "hard"})
        done = client.post(PAGE, dict(inputs(page, PAGE)))
        told = [(message.level_tag, message.message) for message in get_messages(done.wsgi_request)]
        assert told == [("success", "Search cache cleared"), ("warning", f"{SAID}.")]


def test_without_replicas_there_is_nothing_to_warn_of(
    client: Any, superuser: Any, mint: Any
) -> None:
    assert "X-Warning" not in call(client, CLEAR, mint()).headers


def test_a_lost_clear_is_done_again_on_record(settings: Any) -> None:
    use_caches(settings, search=redis_alias("search"))
    lost = clear_search_cache(actor=OPERATOR, tags=["products"]).operation_id
    assert lost is not None
    clear_again([lost.hex])
    again = Operation.objects.get(actor="reconciliation")
    assert (again.status, again.reason) == ("done", f"The store had lost operation {lost}")
    kept = record()
    assert kept is not None
    assert [kept.receipt] == find_receipts(after="") == [again.pk.hex]
