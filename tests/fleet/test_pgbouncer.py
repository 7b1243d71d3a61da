"""A site whose databases are behind a pgbouncer in transaction mode with two connections each.

The second one keeps its audit trail in another database than its users.
"""

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.fleet.deployments import Deployment, Operator
from tests.support.postgres import PgBouncer, Postgres

ROWS = 20_000
WORKERS = 4
API, LIST = "/api/v1/analytics", "/admin/analytics_admin/operation/"
FILL = f"""
INSERT INTO analytics_admin_operation
    (id, kind, status, channel, actor, reason, targets, outcome, error, started_at)
SELECT gen_random_uuid(), 'allow_probe', 'done', 'api', 'op' || n % 50, repeat('why ', 100),
    jsonb_build_object('names', jsonb_build_array('shop-' || n)), '{{}}', '',
    now() - n * interval '1 minute'
FROM generate_series(1, {ROWS}) AS s(n)
"""
PARTED = """
DATABASES["audit"] = {**DATABASES["default"], "NAME": "audit"}
DATABASE_ROUTERS = ["site_routers.Parted"]
"""
ROUTER = """
class Parted:
    def db_for_read(self, model, **hints):
        return "audit" if model.__name__ == "Operation" else None

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return (db == "audit") == (model_name == "operation")
"""


@pytest.fixture(scope="module")
def bouncer() -> Iterator[PgBouncer]:
    with Postgres() as server, PgBouncer(server, pool_size=2) as bouncer:
        with psycopg.connect(server.url, autocommit=True) as connection:
            for name in ("users", "audit"):
                connection.execute(f"CREATE DATABASE {name}")
        yield bouncer


@contextmanager
def deployed(folder: Path, url: str, *, settings: str = "") -> Iterator[Deployment]:
    folder.mkdir()
    (folder / "site_routers.py").write_text(ROUTER)
    deployment = Deployment(folder, settings=settings)
    deployment.environment["DATABASE_URL"] = url
    with ExitStack() as stack:
        stack.callback(deployment.close)
        deployment.prepare()
        yield deployment


@pytest.fixture(scope="module")
def site(bouncer: PgBouncer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("pgbouncer") / "site"
    with deployed(folder, bouncer.url) as deployment:
        with psycopg.connect(bouncer.url) as connection:
            connection.execute(FILL)
        deployment.serve(workers=WORKERS)
        yield deployment


def read_all(site: Deployment, query: str = "") -> list[dict[str, Any]]:
    """Return the operations of all pages, by their cursors."""
    rows, cursor = [], ""
    while cursor is not None:
        status, _, page = site.send("GET", f"{API}/operations?page_size=100{query}{cursor}")
        assert status == 200, page
        rows += page["results"]
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
    return rows


def test_lists_searches_exports_and_operations_work_side_by_side(site: Deployment) -> None:
    operator = Operator(site)

    def export(number: int) -> None:
        document = json.loads(operator.open(f"{LIST}export/"))
        assert document["count"] == len({row["id"] for row in document["operations"]}) >= ROWS

    def search(number: int) -> None:
        rows = read_all(site, query="&search=shop-1999")
        assert [row["targets"]["names"] for row in rows] == [
            *(["shop-1999"], *([f"shop-1999{digit}"] for digit in range(10)))
        ]

    def operate(number: int) -> None:
        for path, message in {
            "cache/clear": "Search cache cleared",
            "circuit-breakers/reset": "All circuit breakers reset successfully",
        }.items():
            assert site.post(f"{API}/{path}") == (200, {"message": message})

    def look(number: int) -> None:
        for query in ("", "?status=failed", "?actor=op7", "?q=shop-7", "?p=300", "?o=3"):
            page = operator.open(LIST + query)
            assert "Unknown filter" not in page
        assert len(read_all(site, query="&actor=op7")) == ROWS / 50

    with ThreadPoolExecutor(8) as threads:
        doors = [export, search, operate, look] * 2
        for done in [threads.submit(door, number) for number, door in enumerate(doors)]:
            done.result()
    clears = read_all(site, query="&kind=clear_search_cache")
    assert [row["status"] for row in clears] == ["done", "done"]


def test_commands_work(site: Deployment) -> None:
    done = site.manage("clear_search_cache", "--no-input", "--reason", "behind pgbouncer")
    assert (done.returncode, "Search cache cleared" in done.stdout) == (0, True), done.stderr
    (row,) = read_all(site, query="&channel=command")
    assert (row["status"], row["reason"]) == ("done", "behind pgbouncer")


def test_exports_that_nobody_reads_keep_no_connection(site: Deployment) -> None:
    """Three of the four workers send to readers that wait; the pool has two connections."""
    operator = Operator(site)
    cookie = "; ".join(f"{each.name}={each.value}" for each in operator._jar)
    request = f"GET {LIST}export/ HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(WORKERS - 1):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.settimeout(20)
            reader.connect(("127.0.0.1", site.port))
            reader.sendall(request.encode())
            assert reader.recv(1000).startswith(b"HTTP/1.1 200 OK")
        status, _, page = site.send("GET", f"{API}/operations?status=done")
        assert (status, page["count"], page["count_capped"]) == (200, 10_000, True)
        assert site.post(f"{API}/cache/clear")[0] == 200


def test_the_audit_trail_may_be_in_another_database_than_the_users(
    bouncer: PgBouncer, tmp_path: Path
) -> None:
    with deployed(tmp_path / "parted", bouncer.url_of("users"), settings=PARTED) as site:
        done = site.manage("migrate", "--database", "audit", "-v0")
        assert done.returncode == 0, done.stderr
        site.serve(workers=2)
        assert site.post(f"{API}/cache/clear", user="olga")[0] == 200
        operator = Operator(site, user="olga")
        page = operator.submit("/admin/analytics_admin/searchcache/clear/", mode="hard")
        attempt = re.search(r'name="attempt" value="([^"]+)"', page)
        assert attempt, page
        url = "/admin/analytics_admin/searchcache/clear/"
        page = operator.submit(url, mode="hard", confirmed="yes", attempt=attempt[1])
        assert "Search cache cleared" in page
        assert [row["channel"] for row in read_all(site, "&actor=olga")] == ["admin", "api"]
        assert operator.open(f"{LIST}?actor=olga").count("<bdi>olga</bdi>") == 2
        assert json.loads(operator.open(f"{LIST}export/?q=olga"))["count"] == 2
        with (
            psycopg.connect(bouncer.url_of("audit"), autocommit=True) as audit,
            psycopg.connect(bouncer.url_of("users"), autocommit=True) as users,
        ):
            table = "to_regclass('auth_user'), to_regclass('analytics_admin_operation')"
            assert [each.execute(f"SELECT {table}").fetchone() for each in (audit, users)] == [
                (None, "analytics_admin_operation"),
                ("auth_user", None),
            ]
            accounts = "SELECT DISTINCT user_id IS NULL FROM analytics_admin_operation"
            assert audit.execute(accounts).fetchall() == [(False,)]
            forget = "from django.contrib.auth.models import User;"
            forget += "User.objects.get(username='olga').delete()"
            done = site.manage("shell", "-c", forget)
            assert done.returncode == 0, done.stderr
            assert audit.execute(accounts).fetchall() == [(True,)]
        assert {row["actor"] for row in read_all(site)} == {"olga"}
