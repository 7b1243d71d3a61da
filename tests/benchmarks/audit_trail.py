"""The audit trail with a million rows: pages, filters, searches and exports beside their bounds.

On an SQLite file, on PostgreSQL, and on PostgreSQL behind a pgbouncer in transaction mode, all made
for it. Each request goes through the site's views within a process of its own.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import combinations
from typing import Any

import django
from rich.console import Console
from rich.table import Table

from tests.support.postgres import PgBouncer, Postgres

PAGE_MS = 50
EXPORT_MB = 100
LIST, REST = "/admin/analytics_admin/operation/", "/api/v1/analytics/operations"
FILTERS = {"kind": "allow_probe", "status": "failed", "channel": "command", "actor": "op7"}
BOUND = (
    *("list", "status=failed", "status=interrupted", "kind", "channel", "actor", "the last day"),
    *("page 1,000", "page 100", "cursor", "kind, page 1,000"),
    *(f"{first} and {second}" for first, second in combinations(FILTERS, 2)),
)
KINDS = (
    *("clear_search_cache", "undo_clear", "sweep_search_cache", "reset_circuit_breakers"),
    *("control_circuit_breakers", "forget_circuit_breaker", "allow_probe"),
)
STATUSES = (*("done",) * 7, "failed", "denied", "unknown")
CHANNELS = ("admin", "api", "command", "code")
COLUMNS = (
    "id, kind, status, channel, actor, user_id, reason, message, targets, outcome, error,"
    " started_at, finished_at, duration_ms"
)


def main() -> None:
    options = _options()
    if options.url:
        print(json.dumps(measure(options)))
        return
    results = {}
    with databases() as urls:
        for number, (name, url) in enumerate(urls.items()):
            command = [sys.executable, "-m", "tests.benchmarks.audit_trail", "--url", url]
            command += ["--rows", str(options.rows), "--rounds", str(options.rounds)]
            command += ["--filled"] if number == 2 else []  # it is the database before it
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results[name] = json.loads(answer.stdout)
    report(options, results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--filled", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


@contextmanager
def databases() -> Iterator[dict[str, str]]:
    """Yield the addresses of the databases, by name."""
    with ExitStack() as stack:
        server = stack.enter_context(Postgres())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        yield {
            "SQLite": f"sqlite:///{folder}/db.sqlite3",
            "PostgreSQL": server.url,
            "behind pgbouncer": stack.enter_context(PgBouncer(server)).url,
        }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return what each page took (milliseconds), and each export (seconds, megabytes, rows)."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DEBUG": "off",
        "SECRET_KEY": "benchmark-secret-key-of-more-than-fifty-characters-0123456789",
        "JWT_SIGNING_KEY": "benchmark-signing-key-of-more-than-32-bytes",
        "ALLOWED_HOSTS": "testserver",
        "DATABASE_URL": options.url,
        "REDIS_URL": "redis://127.0.0.1:1",  # these pages ask no store
    }
    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client

    from analytics_admin.tokens import issue_access_token

    settings.SECURE_SSL_REDIRECT = False
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "whitenoise" not in name]
    static = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": static}
    if not options.filled:
        call_command("migrate", verbosity=0)
        user = get_user_model().objects.create_superuser("op1", "a@example.com", "pw")
        fill(options.rows, user.pk)
    user = get_user_model().objects.get(username="op1")
    client = Client(headers={"Authorization": f"Bearer {issue_access_token(user)}"})
    client.force_login(user)
    return {
        "pages": {
            f"{door} {name}": _page(client, address, options.rounds)
            for door, pages in addresses(client).items()
            for name, address in pages.items()
        },
        "exports": {
            name: _export(client, f"{LIST}export/{query}")
            for name, query in {"all": "", "search": "?q=svc-17"}.items()
        },
    }


def fill(rows: int, user: Any) -> None:
    """Write the rows by one statement: two years of a busy site."""
    from django.db import connection

    is_postgres = connection.vendor == "postgresql"
    if is_postgres:
        numbers = f"SELECT n FROM generate_series(1::bigint, {rows}) AS s(n)"
        at = "now() - n * interval '63 seconds'"
    else:
        numbers = (
            f"WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows})"
            " SELECT n FROM s"
        )
        # As Django writes a time without microseconds: SQLite compares texts.
        at = "strftime('%Y-%m-%d %H:%M:%S', 'now', '-' || (n * 63) || ' seconds')"
    json_type = "::jsonb" if is_postgres else ""
    name = "'svc-' || (n % 400)"
    targets = f"""'{{"names": ["' || {name} || '"], "control": "forced_open"}}'"""
    outcome = (
        f"""'{{"count": 1, "moved": 1, "results": [{{"name": "' || {name} || '","""
        """ "from": "closed", "to": "forced_open"}]}'"""
    )
    values = [
        "gen_random_uuid()" if is_postgres else "lower(hex(randomblob(16)))",
        _one_of(KINDS, "n * 7919 % 97"),
        # Some have been started, and nobody knows their end.
        f"CASE WHEN n % 5000 = 0 THEN 'started' ELSE {_one_of(STATUSES, 'n * 104729 % 101')} END",
        _one_of(CHANNELS, "n * 31 % 53"),
        "'op' || (n % 50)",
        str(user),
        "'reason ' || n || ' because of ticket ' || (n % 9973)",
        f"'Circuit breaker ' || {name} || ' set to forced_open'",
        f"({targets}){json_type}",
        f"({outcome}){json_type}",
        "''",
        at,
        at,
        "n % 1000 / 7.0",
    ]
    with connection.cursor() as cursor:
        source = f"({numbers}) AS numbers"
        cursor.execute(
            f"INSERT INTO analytics_admin_operation ({COLUMNS})"
            f" SELECT {', '.join(values)} FROM {source}"
        )
        cursor.execute("ANALYZE")


def _one_of(words: tuple[str, ...], number: str) -> str:
    cases = " ".join(f"WHEN {place} THEN '{word}'" for place, word in enumerate(words))
    return f"CASE ({number}) % {len(words)} {cases} END"


def addresses(client: Any) -> dict[str, dict[str, str]]:
    """Return what is asked for, of the admin and of REST."""
    yesterday = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() - 86_400))
    cursor = client.get(f"{REST}?page=900").json()["next_cursor"]
    searches = {
        "search, often found": "svc-17",
        "search, never found": "nothing-at-all",
        "search, two words": "op7+svc-17",
    }
    return {
        "admin": {
            "list": LIST,
            **{f"status={word}": f"{LIST}?status={word}" for word in ("failed", "interrupted")},
            "kind": f"{LIST}?kind__exact=allow_probe",
            "channel": f"{LIST}?channel__exact=command",
            "actor": f"{LIST}?actor=op7",
            "the last day": f"{LIST}?started_at__gte={yesterday[:10]}+00:00:00%2B00:00",
            "page 100": f"{LIST}?p=100",
            "page 1,000": f"{LIST}?p=1000",
            "counts of the filters": f"{LIST}?_facets=True",
            **{name: f"{LIST}?q={words}" for name, words in searches.items()},
            "by duration": f"{LIST}?o=4",
            "kind, page 1,000": f"{LIST}?kind__exact=reset_circuit_breakers&p=1000",
            **_pairs(LIST, kind="kind__exact", channel="channel__exact"),
            "kind, status, channel, actor": (
                f"{LIST}?kind__exact=allow_probe&status=failed&channel__exact=api&actor=op7"
            ),
        },
        "REST": {
            "list": REST,
            **{f"status={word}": f"{REST}?status={word}" for word in ("failed", "interrupted")},
            "kind": f"{REST}?kind=allow_probe",
            "channel": f"{REST}?channel=command",
            "actor": f"{REST}?actor=op7",
            "the last day": f"{REST}?since={yesterday}",
            "page 100": f"{REST}?page=100",
            "page 1,000": f"{REST}?page=1000",
            "kind, page 1,000": f"{REST}?kind=reset_circuit_breakers&page=1000",
            "cursor": f"{REST}?cursor={cursor}",
            **_pairs(REST),
            **{name: f"{REST}?search={words}" for name, words in searches.items()},
        },
    }


def _pairs(page: str, **parameters: str) -> dict[str, str]:
    """Return the addresses with each two of the filters, which have these parameters."""
    sent = {name: f"{parameters.get(name, name)}={value}" for name, value in FILTERS.items()}
    return {
        f"{first} and {second}": f"{page}?{sent[first]}&{sent[second]}"
        for first, second in combinations(FILTERS, 2)
    }


def _page(client: Any, address: str, rounds: int) -> float:
    took = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        answer = client.get(address)
        took.append(1000 * (time.perf_counter() - began))
        assert answer.status_code == 200, (address, answer.status_code)
    return statistics.median(took[1:])


def _export(client: Any, address: str) -> dict[str, float]:
    before, began, tail = _peak_mb(), time.perf_counter(), b""
    for part in client.get(address).streaming_content:
        tail = part
    rows = json.loads(b"{" + tail[tail.index(b'"count"') :])["count"]
    return {"s": time.perf_counter() - began, "MB": _peak_mb() - before, "rows": rows}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(options: argparse.Namespace, results: dict[str, dict[str, Any]]) -> None:
    title = f"{options.rows:,} operations, median of {options.rounds}; pages in ms"
    table = Table("page", *results, "bound", title=title)
    too_much = []
    for page in next(iter(results.values()))["pages"]:
        bound = PAGE_MS if page.partition(" ")[2] in BOUND else None
        took = [result["pages"][page] for result in results.values()]
        too_much += [page] if bound and max(took) > bound else []
        table.add_row(page, *(f"{each:.1f}" for each in took), str(bound or ""))
    for export in ("all", "search"):
        sizes = [result["exports"][export] for result in results.values()]
        if export == "all":
            assert {each["rows"] for each in sizes} == {options.rows}
        cells = [f"{each['rows']:,}: {each['s']:.0f} s, {each['MB']:.0f} MB" for each in sizes]
        too_much += [f"export, {export}"] if max(each["MB"] for each in sizes) > EXPORT_MB else []
        table.add_row(f"export, {export}", *cells, f"{EXPORT_MB} MB")
    Console(width=130).print(table)
    if too_much:
        raise SystemExit(f"beyond the bound: {', '.join(too_much)}")


if __name__ == "__main__":
    main()
