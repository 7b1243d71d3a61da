"""Pages show rows of the audit trail that no operation of this version writes.

An earlier release, a host's own code or a restored dump may have written them.
"""

import json

import pytest
from django.db import connection

from analytics_admin.services import describe_search_cache
from tests.console.search_cache_pages import PAGE
from tests.support.audit import EXPORT, LIST, page_of, record

ODD = [
    None,
    [],
    "hard",
    5,
    {},
    {"mode": None},
    {"mode": ["soft"]},
    {"mode": 1.5},
    {"tags": "abc"},
    {"tags": 5},
    {"tags": {"a": 1}},
    {"tags": [1, None, {}]},
    {"names": None},
    {"names": {"a": 1}},
    {"names": [None, 1, {}]},
    {"control": 5, "names": []},
    {"for_seconds": 1e22, "seconds_left": -1},
    {"results": [None, [], {"name": []}], "moved": -5, "": ""},
]


def put_on_record(value):
    """Record a clear with such targets and such an outcome."""
    row = record()
    key = row._meta.pk.get_db_prep_value(row.pk, connection)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE analytics_admin_operation SET targets = %s, outcome = %s WHERE id = %s",
            [json.dumps(value), json.dumps(value), key],
        )
    row.refresh_from_db()
    assert row.targets == row.outcome == value
    return row


@pytest.fixture(params=ODD, ids=json.dumps)
def odd(request, db):
    return put_on_record(request.param)


def test_its_page_and_the_page_of_what_it_cleared_show_it(operator, odd):
    for url in (PAGE, page_of(odd)):
        assert operator.get(url).status_code == 200, url


def test_pages_of_many_operations_show_them_all(operator):
    rows = [put_on_record(value) for value in ODD]
    for url in (f"{PAGE}?hours=24", LIST, "/admin/"):
        assert operator.get(url).status_code == 200, url
    exported = json.loads(operator.get(EXPORT).getvalue())["operations"]
    told = {row["id"]: (row["targets"], row["outcome"]) for row in exported}
    assert told == {str(row.pk): (row.targets, row.outcome) for row in rows}


def test_the_status_of_the_search_cache_tells_of_it_as_of_any_clear(odd):
    last = describe_search_cache().last_clear
    assert last is not None
    assert last.operation_id == odd.pk
    assert last.mode in {"hard", "tags"}
