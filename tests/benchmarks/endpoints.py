"""The two acts over REST beside a bare DRF view with the same authentication, throttle and row.

Each request goes through the site's WSGI application (its middleware, a database connection of its
own, as under gunicorn) within this process: no socket between, which would flatter the ratio.
"""

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import django
from rich.console import Console
from rich.table import Table

from tests.support.servers import StoreServer

BARE = "/bare"
PATHS = {
    "bare view": BARE,
    "clear": "/api/v1/analytics/cache/clear",
    "reset": "/api/v1/analytics/circuit-breakers/reset",
}
WARM_UP = 100
LIMIT = 2.0
"""How many times the bare view's median an endpoint may take."""


def main() -> None:
    options = _options()
    with StoreServer() as store, tempfile.TemporaryDirectory() as folder:
        application, token = _site(store.url, folder)
        _register_breakers(options.breakers)
        _measure(application, token, WARM_UP, options.keys)
        _report(options, _measure(application, token, options.rounds, options.keys))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--keys", type=int, default=100, help="in the cache at each clear")
    parser.add_argument("--breakers", type=int, default=10, help="for each reset")
    return parser.parse_args()


def _site(store: str, folder: str) -> tuple[Any, str]:
    """Set the site up as in production; return its WSGI application and an operator's token."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DEBUG": "off",
        "SECRET_KEY": "benchmark-secret-key-of-more-than-fifty-characters-0123456789",
        "JWT_SIGNING_KEY": "benchmark-signing-key-of-more-than-32-bytes",
        "ALLOWED_HOSTS": "localhost",
        "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
        "REDIS_URL": store,
    }
    from django.conf import settings

    settings.STATIC_ROOT = folder
    settings.ROOT_URLCONF = "tests.benchmarks.bare"
    settings.ANALYTICS_ADMIN = {
        **settings.ANALYTICS_ADMIN,
        "THROTTLE_RATES": {"write": "100000000/min"},  # counted all the same
    }
    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application

    from analytics_admin.tokens import issue_access_token

    call_command("migrate", verbosity=0)
    admin = get_user_model().objects.create_superuser("admin", "admin@example.com", "pw")
    return get_wsgi_application(), issue_access_token(admin)


def _register_breakers(count: int) -> None:
    from analytics_admin.breakers import circuit_breaker

    for number in range(count):
        assert circuit_breaker(f"backend-{number}").state == "closed"  # to read it registers it


def _measure(
    application: Callable[..., Any], token: str, rounds: int, keys: int
) -> dict[str, list[float]]:
    """Take turns, each round beginning with another; return what each took (seconds)."""
    from django.core.cache import caches

    seen: dict[str, list[float]] = {name: [] for name in PATHS}
    names = list(PATHS)
    for turn in range(rounds):
        caches["search"].set_many(dict.fromkeys(map(str, range(keys)), "value"))
        for name in names[turn % 3 :] + names[: turn % 3]:
            began = time.perf_counter()
            status = _post(application, PATHS[name], token)
            seen[name].append(time.perf_counter() - began)
            assert status == "200 OK", f"{name}: {status}"
    return seen


def _post(application: Callable[..., Any], path: str, token: str) -> str:
    answered = []
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "CONTENT_LENGTH": "0",
        "HTTP_HOST": "localhost",
        "HTTP_AUTHORIZATION": f"Bearer {token}",
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": io.BytesIO(),
        "wsgi.url_scheme": "http",
    }
    response = application(environ, lambda status, headers: answered.append(status))
    for _ in response:
        pass
    response.close()  # ends the request: signals, and the database connection
    return answered[0]


def _report(options: argparse.Namespace, seen: dict[str, list[float]]) -> None:
    table = Table(
        title=f"{options.rounds} requests each, interleaved; WSGI application in-process, SQLite "
        f"file, {options.keys} keys at each clear, {options.breakers} breakers"
    )
    for column in ("endpoint", "median ms", "p99 ms", "of the bare view's median"):
        table.add_column(column, justify="left" if column == "endpoint" else "right")
    bare = statistics.median(seen["bare view"])
    for name, took in seen.items():
        median, p99 = statistics.median(took), statistics.quantiles(took, n=100)[98]
        table.add_row(name, f"{1000 * median:.2f}", f"{1000 * p99:.2f}", f"{median / bare:.2f}")
    Console(width=110).print(table)
    worst = max(statistics.median(took) for took in seen.values()) / bare
    if worst > LIMIT:
        raise SystemExit(f"an endpoint takes {worst:.2f} times as long as the bare view")


if __name__ == "__main__":
    main()
