"""A long audit trail: counts, pages, searches and exports are bounded, and nothing is lost."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from itertools import combinations, count
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from analytics_admin.models import Operation
from analytics_admin.services import OperationFilter, page_operations
from analytics_admin.services.audit_pages import (
    MAX_COUNTED,
    MAX_EXAMINED,
    MAX_PAGED,
    NEWEST_FIRST,
    ROWS_AT_ONCE,
    PageOutOfReach,
    Position,
    read_after,
    read_page,
    walk,
)
from tests.support.audit import EXPORT, LIST, record

pytestmark = pytest.mark.django_db

REST = "/api/v1/analytics/operations"
LIMITS = "analytics_admin.services.audit_pages."
OLD = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trail of a dozen operations is a long one."""
    for name, number in {"MAX_COUNTED": 5, "MAX_EXAMINED": 4, "MAX_PAGED": 10}.items():
        monkeypatch.setattr(LIMITS + name, number)


def fill(rows: int, **fields: Any) -> list[UUID]:
    """Record operations, three of each instant; return their ids, newest first."""
    given = {"kind": "clear_search_cache", "channel": "api", "actor": "ada", "status": "done"}
    Operation.objects.bulk_create(
        Operation(**given | fields | {"started_at": OLD + timedelta(seconds=number // 3)})
        for number in range(rows)
    )
    return list(Operation.objects.order_by(*NEWEST_FIRST).values_list("pk", flat=True))


def follow(**options: Any) -> Iterator[list[UUID]]:
    """Yield the pages that cursors lead to."""
    page = page_operations(**options)
    yield [row.pk for row in page.operations]
    while page.next_cursor:
        page = page_operations(**options, cursor=page.next_cursor)
        yield [row.pk for row in page.operations]


@pytest.mark.usefixtures("small")
def test_a_count_stops_at_its_limit_and_says_so() -> None:
    fill(5)
    page = page_operations(page_size=2)
    assert (page.count, page.count_capped, page.pages) == (5, False, 3)
    record(started_at=OLD)
    page = page_operations(page_size=2)
    assert (page.count, page.count_capped, page.pages) == (5, True, 3)


@pytest.mark.usefixtures("small")
def test_pages_go_on_beyond_the_count_up_to_their_own_limit() -> None:
    ids = fill(12)
    pages = [page_operations(page=number, page_size=2) for number in range(1, 6)]
    assert [row.pk for page in pages for row in page.operations] == ids[:10]
    assert all(page.next_cursor for page in pages)
    with pytest.raises(PageOutOfReach, match="Pages reach the newest 10 operations"):
        page_operations(page=6, page_size=2)


def test_a_page_far_away_is_the_one_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIMITS + "_FEW_TO_SKIP", 3)
    ids = fill(20)
    for order in ([], ["-started_at"]):
        rows = Operation.objects.order_by(*NEWEST_FIRST, *order)
        part = read_page(rows, begin=7, size=5)
        assert [row.pk for row in part.operations] == ids[7:12]


@pytest.mark.parametrize("page_size", [1, 2, 5, 100])
def test_cursors_lead_to_each_operation_once(page_size: int) -> None:
    ids = fill(10)
    pages = list(follow(page_size=page_size))
    assert [row for page in pages for row in page] == ids
    assert [len(page) for page in pages[:-1]] == [page_size] * (len(pages) - 1)
    assert pages[-1]


def test_new_operations_shift_no_page_of_a_cursor() -> None:
    ids = fill(6)
    first = page_operations(page_size=2)
    record(started_at=OLD + timedelta(days=1))
    second = page_operations(page_size=2, cursor=first.next_cursor)
    assert [row.pk for row in second.operations] == ids[2:4]


def test_a_site_without_time_zones_has_cursors_too(settings: Any) -> None:
    settings.USE_TZ = False
    settings.TIME_ZONE = "Europe/Berlin"
    with timezone.override("Europe/Berlin"):
        # The hour that the clock has twice, and the one that it skips.
        for text in ("2026-10-25T02:30:00.000001", "2026-10-25T03:30:00", "2026-03-29T02:30:00"):
            record(started_at=datetime.fromisoformat(text))
        pages = list(follow(page_size=1))
        assert [len(page) for page in pages] == [1, 1, 1]
        assert len({row for page in pages for row in page}) == 3


@pytest.mark.usefixtures("small")
def test_a_search_stops_at_its_limit_says_so_and_goes_on_by_cursors() -> None:
    ids = fill(15)
    for place in (1, 3, 9, 14):
        Operation.objects.filter(pk=ids[place]).update(reason="our ticket")
    chosen = OperationFilter(search="ticket")
    page = page_operations(chosen=chosen)
    assert [row.pk for row in page.operations] == [ids[1], ids[3]]
    assert (page.count, page.count_capped, page.search_capped) == (2, False, True)
    found = list(follow(chosen=chosen))
    assert found == [[ids[1], ids[3]], [], [ids[9]], [ids[14]]]
    assert [row for page in follow(chosen=chosen, page_size=1) for row in page] == [
        ids[place] for place in (1, 3, 9, 14)
    ]


@pytest.mark.usefixtures("small")
def test_a_search_that_saw_everything_is_not_capped() -> None:
    fill(4)
    page = page_operations(chosen=OperationFilter(search="ada"))
    assert (page.count, page.search_capped, page.next_cursor) == (4, False, None)
    assert page_operations(chosen=OperationFilter(search="ada"), page=2).count == 4


@pytest.mark.usefixtures("small")
def test_what_other_filters_exclude_uses_up_no_search() -> None:
    fill(12)
    row = record(channel="command", reason="our ticket", started_at=OLD - timedelta(days=1))
    page = page_operations(chosen=OperationFilter(search="ticket", channel="command"))
    assert ([each.pk for each in page.operations], page.search_capped) == ([row.pk], False)


@pytest.mark.usefixtures("small")
def test_a_walk_finds_what_no_single_search_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIMITS + "ROWS_AT_ONCE", 2)
    ids = fill(30)
    for place in (3, 4, 5, 6, 7, 29):
        Operation.objects.filter(pk=ids[place]).update(error="ticket")
    found = [row.pk for few in walk(Operation.objects.all(), search="ticket") for row in few]
    assert found == [ids[place] for place in (3, 4, 5, 6, 7, 29)]


@pytest.mark.usefixtures("small")
def test_a_walk_keeps_another_order_while_there_is_little_to_sort() -> None:
    fill(2)
    for actor in ("b", "a"):
        record(actor=actor, started_at=OLD)
    by_actor = Operation.objects.order_by("actor", *NEWEST_FIRST)
    assert [row.actor for few in walk(by_actor) for row in few] == ["a", "ada", "ada", "b"]
    fill(1)
    walked = [row.pk for few in walk(by_actor) for row in few]
    assert walked == list(Operation.objects.values_list("pk", flat=True))


@pytest.mark.parametrize(
    "text",
    ["", "x", "1", f"1-{'0' * 31}", f"1-{'g' * 32}", f"{'9' * 18}-{'0' * 32}", f"1-{'0' * 32}\n"],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no such cursor"):
        Position.parse(text)


def test_a_cursor_and_a_page_exclude_each_other() -> None:
    cursor = str(Position.of(record()))
    with pytest.raises(ValueError, match="exclude each other"):
        page_operations(page=2, cursor=cursor)


@pytest.mark.parametrize("door", ["admin", "REST", "export"])
def test_no_query_counts_skips_or_reads_more_than_the_limits(
    operator: Any, mint: Any, door: str
) -> None:
    """The same for a trail of any length: that is what the statements say."""
    fill(250)
    page, names = {
        "admin": (LIST, {"search": "q", "channel": "channel__exact", "page": "p"}),
        "export": (EXPORT, {"search": "q", "channel": "channel__exact", "page": "p"}),
        "REST": (REST, {"search": "search", "channel": "channel", "page": "page"}),
    }[door]
    addresses = ["", "?status=failed", "?status=interrupted", "?actor=ada"]
    addresses += [f"?{names['channel']}=api", f"?{names['page']}=3"]
    addresses += [f"?{names['search']}={words}" for words in ("ada", "nobody")]
    if door != "REST":
        addresses += ["?o=3", "?o=-4&q=ada", "?_facets=True", "?all="]
    for address in addresses:
        with CaptureQueriesContext(connection) as queries:
            answer = operator.get(page + address, headers={"Authorization": f"Bearer {mint()}"})
            assert answer.status_code == 200, address
            answer.getvalue()
        statements = [query["sql"] for query in queries]
        on_trail = [sql for sql in statements if "analytics_admin_operation" in sql]
        assert on_trail, address
        for sql in on_trail:
            limits = [int(number) for number in re.findall(r"LIMIT (\d+)", sql)]
            skipped = [int(number) for number in re.findall(r"OFFSET (\d+)", sql)]
            assert limits or (door == "export" and "IN (" in sql), sql
            assert all(limit <= MAX_COUNTED + 1 for limit in limits), sql
            assert all(skip <= MAX_PAGED for skip in skipped), sql


def test_an_export_reads_few_rows_at_a_time_without_a_cursor(operator: Any) -> None:
    fill(2 * ROWS_AT_ONCE + 1)
    with CaptureQueriesContext(connection) as queries:
        assert json.loads(operator.get(EXPORT).getvalue())["count"] == 2 * ROWS_AT_ONCE + 1
    reads = [query["sql"] for query in queries if '"outcome"' in query["sql"]]
    assert len(reads) == 3
    assert all(f"LIMIT {ROWS_AT_ONCE + 1}" in sql and "OFFSET" not in sql for sql in reads)
    assert not any("DECLARE" in query["sql"] for query in queries)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL scans what is this small")
def test_each_filter_reads_its_index_alone_to_count_and_to_skip() -> None:
    chosen = {
        "newest": OperationFilter(since=OLD),
        "kind": OperationFilter(kind="clear_search_cache"),
        "status": OperationFilter(status="interrupted"),
        "channel": OperationFilter(channel="api"),
        "actor": OperationFilter(actor="ada"),
    }
    for name, each in chosen.items():
        rows = each.apply(Operation.objects.all())
        index = f"USING COVERING INDEX aa_operation_{name}"
        assert index in rows.values("started_at", "id")[MAX_EXAMINED - 1 : MAX_EXAMINED].explain()
        counted = rows.order_by().values("pk")[: MAX_COUNTED + 1].explain()
        assert index in counted, counted
        position = Position(started_at=OLD, id=UUID(int=7))
        following = rows.filter(position.older()).order_by(*NEWEST_FIRST)[:100].explain()
        assert f"USING INDEX aa_operation_{name}" in following, following
        assert "TEMP B-TREE" not in following, following


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL scans what is this small")
@pytest.mark.parametrize("analyzed", [False, True])
def test_two_filters_together_read_an_index_of_their_own(analyzed: bool) -> None:
    fill(20)
    if analyzed:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    values = {"kind": "clear_search_cache", "status": "done", "channel": "api", "actor": "ada"}
    for first, second in combinations(values, 2):
        chosen = OperationFilter(**{first: values[first], second: values[second]})
        rows = chosen.apply(Operation.objects.all())
        index = f"aa_operation_{first}_{second} ({first}=? AND {second}=?)"
        assert f"COVERING INDEX {index}" in rows.order_by().values("pk")[:MAX_COUNTED].explain()
        page = rows.order_by(*NEWEST_FIRST)[:100].explain()
        assert f"INDEX {index}" in page, page
        assert "TEMP B-TREE" not in page, page


@pytest.mark.skipif(connection.vendor != "sqlite", reason="others keep statistics of columns")
def test_new_indexes_are_known_where_a_site_analyzed_the_old_ones() -> None:
    """Else one filter alone goes by a new index, and sorts all that it selects."""
    migration = import_module("analytics_admin.migrations.0011_operation_filter_pairs")

    def refresh_and_list() -> set[str]:
        migration.refresh_statistics(apps, connection.schema_editor())
        with connection.cursor() as cursor:
            cursor.execute("SELECT name FROM sqlite_master WHERE name = 'sqlite_stat1'")
            if cursor.fetchone() is None:
                return set()
            cursor.execute("SELECT idx FROM sqlite_stat1 WHERE tbl = 'analytics_admin_operation'")
            return {name for (name,) in cursor.fetchall()}

    fill(20)
    assert refresh_and_list() == set()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        cursor.execute("DELETE FROM sqlite_stat1 WHERE idx LIKE 'aa_operation_%'")
    assert refresh_and_list() >= {index.name for index in Operation._meta.indexes}


@pytest.mark.usefixtures("small")
def test_a_sort_by_anything_but_time_reads_the_rows_of_its_page_alone() -> None:
    for actor in "cabd":
        record(actor=actor, started_at=OLD)
    rows = Operation.objects.order_by("actor", *NEWEST_FIRST)
    with CaptureQueriesContext(connection) as queries:
        part = read_page(rows, begin=1, size=2)
    assert ([row.actor for row in part.operations], part.count) == (["b", "c"], 4)
    whole = [query["sql"] for query in queries if '"outcome"' in query["sql"]]
    assert len(whole) == 1
    assert "LIMIT 3" in whole[0]
    assert "OVER" not in whole[0]
    assert read_page(rows, begin=4, size=2).count == 4


def test_the_rows_of_a_page_are_read_when_it_is_asked_for_and_not_more() -> None:
    fill(10)
    part = read_after(Operation.objects.all(), None, size=4)
    assert (len(part.operations), part.count, part.next is not None) == (4, None, True)
    numbers = count()
    for few in walk(Operation.objects.all()):
        next(numbers)
        assert len(few) == 10
    assert next(numbers) == 1
