"""The console's list of 10,000 breakers beside a plain changelist of as many rows and columns.

Each request goes through the site's WSGI application (its middleware, a session, a database
connection of its own) within this process, until the response is rendered.
"""

import argparse
import io
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import django
from rich.console import Console
from rich.table import Table

from tests.support.servers import StoreServer

PATHS = {
    "plain changelist": "/plain/analytics_admin/row/",
    "circuit breakers": "/admin/analytics_admin/circuitbreaker/",
    "circuit breakers, one state": "/admin/analytics_admin/circuitbreaker/?state=open",
    "circuit breakers, by name": "/admin/analytics_admin/circuitbreaker/?sort=name&page=50",
}
ROWS = 10_000
OPEN = 50
WARM_UP = 10
LIMIT = 1.3
"""How many times the plain changelist's median a page of the list may take."""


def main() -> None:
    options = _options()
    with StoreServer() as store, tempfile.TemporaryDirectory() as folder:
        application, cookie = _site(store.url, folder)
        _fill()
        _measure(application, cookie, WARM_UP)
        _report(options, _measure(application, cookie, options.rounds))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    return parser.parse_args()


def _site(store: str, folder: str) -> tuple[Callable[..., Any], str]:
    """Set the site up as in production; return its WSGI application and an operator's cookie."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DEBUG": "off",
        "SECRET_KEY": "benchmark-secret-key-of-more-than-fifty-characters-0123456789",
        "JWT_SIGNING_KEY": "benchmark-signing-key-of-more-than-32-bytes",
        "ALLOWED_HOSTS": "localhost,testserver",
        "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
        "REDIS_URL": store,
    }
    from django.conf import settings

    settings.STATIC_ROOT = folder
    settings.ROOT_URLCONF = "tests.benchmarks.plain_changelist"
    settings.SECURE_SSL_REDIRECT = False
    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application
    from django.test import Client

    call_command("migrate", verbosity=0)
    call_command("collectstatic", verbosity=0, interactive=False)
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("admin", "a@example.com", "pw"))
    return get_wsgi_application(), client.cookies[settings.SESSION_COOKIE_NAME].value


def _fill() -> None:
    """Have as many rows as breakers; those have calls in each period, and some are open."""
    from analytics_admin.breakers import runtime
    from analytics_admin.breakers.history import PERIOD_SECONDS, oldest_period
    from tests.benchmarks.breaker_reset import fill_up, open_all
    from tests.benchmarks.plain_changelist import fill_table

    fill_table(ROWS)
    fill_up()
    names = runtime.registered_names()
    open_all(random.Random(7).sample([name for name in names if name[-1].isdigit()], OPEN))
    store = runtime.operator_store()
    first = oldest_period(store.load_many(["none"]).now)
    history = {
        first + PERIOD_SECONDS * turn: f"{9 + turn} {turn % 4} 1 {turn % 3}" for turn in range(40)
    }
    commands = store._client.pipeline(transaction=False)
    for name in names:
        commands.hset(store._key(name, "periods"), mapping=history)
    commands.execute()


def _measure(application: Callable[..., Any], cookie: str, rounds: int) -> dict[str, list[float]]:
    """Take turns, each round beginning with another; return what each took (seconds)."""
    seen: dict[str, list[float]] = {name: [] for name in PATHS}
    names = list(PATHS)
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            began = time.perf_counter()
            status = _get(application, PATHS[name], cookie)
            seen[name].append(time.perf_counter() - began)
            assert status == "200 OK", f"{name}: {status}"
    return seen


def _get(application: Callable[..., Any], address: str, cookie: str) -> str:
    answered = []
    path, _, query = address.partition("?")
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
        "QUERY_STRING": query,
        "HTTP_HOST": "localhost",
        "HTTP_COOKIE": f"sessionid={cookie}",
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": io.BytesIO(),
        "wsgi.url_scheme": "https",
    }
    response = application(environ, lambda status, headers: answered.append(status))
    rows = b"".join(response).count(b"<tr")
    response.close()  # ends the request: signals, and the database connection
    assert answered[0] != "200 OK" or rows > OPEN, f"{address}: {rows} rows"
    return answered[0]


def _report(options: argparse.Namespace, seen: dict[str, list[float]]) -> None:
    table = Table(
        title=f"{options.rounds} requests each, interleaved; WSGI application in-process, "
        f"{ROWS:,} rows in an SQLite file, as many breakers, {OPEN} of them open, 100 a page"
    )
    for column in ("page", "median ms", "p99 ms", "of the plain one's median"):
        table.add_column(column, justify="left" if column == "page" else "right")
    plain = statistics.median(seen["plain changelist"])
    for name, took in seen.items():
        median, p99 = statistics.median(took), statistics.quantiles(took, n=100)[98]
        table.add_row(name, f"{1000 * median:.1f}", f"{1000 * p99:.1f}", f"{median / plain:.2f}")
    Console(width=110).print(table)
    worst = max(statistics.median(took) for took in seen.values()) / plain
    if worst > LIMIT:
        raise SystemExit(f"a page takes {worst:.2f} times as long as the plain changelist")


if __name__ == "__main__":
    main()
