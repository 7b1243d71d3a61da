"""``manage.py quickstart``: from a fresh checkout to a running site with demo data."""

import argparse
import errno
import ipaddress
import os
import re
import secrets
import sqlite3
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.servers.basehttp import (
    ThreadedWSGIServer,
    WSGIRequestHandler,
    get_internal_wsgi_application,
)
from django.db import DatabaseError
from django.urls import reverse
from django_redis import get_redis_connection
from redis.exceptions import RedisError
from rest_framework_simplejwt.settings import api_settings

from analytics_admin.tokens import issue_access_token
from project.demo.faults import FAULTS, FaultSwitch
from project.demo.index import Index
from project.demo.traffic import Traffic
from project.embedded_store import EmbeddedStoreError, embedded_store

ADMIN = "admin"
_ADDRESS = re.compile(r"(?:(\[[^\]]+\]|[A-Za-z0-9.-]+):)?([0-9]{1,5})")
_LOOPBACK_HOSTS = {"0.0.0.0": "127.0.0.1", "0": "127.0.0.1", "::": "::1"}  # noqa: S104  a look-up
_LISTEN_ERRORS = {
    errno.EADDRINUSE: "the port is already in use",
    errno.EACCES: "this user may not use the port",
    errno.EADDRNOTAVAIL: "this machine does not have the address",
}


class Address(NamedTuple):
    """Where to listen; port 0 lets the system choose."""

    host: str
    port: int

    def url(self, port: int) -> str:
        """Return the URL for a client on this machine, with the actual port."""
        host = _LOOPBACK_HOSTS.get(self.host, self.host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def address(text: str) -> Address:
    """Read "8000", "localhost:8000", "127.0.0.1:8000" or "[::1]:8000".

    Raises:
        argparse.ArgumentTypeError: the text is none of these.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[2]) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a port nor host:port")
    host = match[1] or "127.0.0.1"
    if host.startswith("["):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{host!r} is not an IPv6 address") from None
    return Address(host, int(match[2]))


class Command(BaseCommand):
    help = (
        "Prepares the site and serves it until Ctrl-C: store, database, admin user and demo "
        "traffic. For development: does not run while DEBUG is off, the default when SECRET_KEY "
        "is set. Uses the store at REDIS_URL if that is set."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "addrport",
            nargs="?",
            type=address,
            default="127.0.0.1:8000",
            help="port or host:port to listen on (default: %(default)s)",
        )
        parser.add_argument(
            "--password",
            help=f"password for {ADMIN!r}, also changed if the user exists (default for a "
            "new user: QUICKSTART_ADMIN_PASSWORD from the environment, else a random one)",
        )
        parser.add_argument("--no-traffic", action="store_true", help="start no demo traffic")

    def handle(
        self, *, addrport: Address, password: str | None, no_traffic: bool, **options: Any
    ) -> None:
        if not settings.DEBUG:
            raise CommandError("quickstart is for development, and DEBUG is off; set DEBUG=on")
        try:
            with _listen(addrport) as server:  # first: nothing is created if this fails
                self._prepare(addrport.url(server.server_port), password)
                _serve(server, traffic=settings.DEMO_SEARCH and not no_traffic)
        except KeyboardInterrupt:
            self.stdout.write("\nStopped.")

    def _prepare(self, url: str, password: str | None) -> None:
        try:
            if settings.REDIS_URL_IS_SET:
                self._try_store()
            else:
                embedded_store(settings.EMBEDDED_STORE_FOLDER).ensure_running()
            call_command("migrate", verbosity=0, interactive=False)
            user, login = _admin(password)
            fault = _prepare_demo() if settings.DEMO_SEARCH else None
        except EmbeddedStoreError as error:
            raise CommandError(f"the embedded store did not start: {error}") from None
        except DatabaseError as error:
            words = str(error).partition("\n")[0]
            raise CommandError(f"the database is not usable: {words}") from None
        except (OSError, sqlite3.Error) as error:
            raise CommandError(f"cannot set up the demo search: {error}") from None
        self._announce(url, login, issue_access_token(user), fault=fault)

    def _try_store(self) -> None:
        """Warn if the store does not answer; the site runs without it."""
        try:
            for alias in settings.CACHES:
                get_redis_connection(alias).ping()
        except RedisError as error:  # its message may contain a secret
            self.stderr.write(
                f"The store at REDIS_URL does not answer ({type(error).__name__}); "
                "the site starts anyway and connects as soon as it does"
            )

    def _announce(self, url: str, login: str, token: str, *, fault: str | None) -> None:
        minutes = api_settings.ACCESS_TOKEN_LIFETIME.total_seconds() / 60
        clear, reset = (
            reverse(f"analytics_admin:{name}") for name in ("cache-clear", "circuit-breakers-reset")
        )
        self.stdout.write(
            f"Console:  {url}{reverse('admin:index')}\n"
            f"Login:    {login}\n"
            f"Token:    {token}\n"
            f"          valid for {minutes:.0f} minutes; new one: manage.py issue_token {ADMIN}\n\n"
            f"{_demo(url, fault) if fault else ''}"
            f"Clear the search cache:\n{_curl(url + clear, token)}\n\n"
            f"Reset all circuit breakers:\n{_curl(url + reset, token)}\n\n"
            "Ctrl-C stops the site."
        )
        self.stdout.flush()  # for readers behind a pipe


def _listen(addrport: Address) -> ThreadedWSGIServer:
    try:
        return ThreadedWSGIServer(addrport, WSGIRequestHandler, ipv6=":" in addrport.host)
    except OSError as error:
        problem = _LISTEN_ERRORS.get(error.errno or 0, error.strerror)
        raise CommandError(f"cannot listen on {addrport.url(addrport.port)}: {problem}") from None


def _admin(password: str | None) -> tuple[User, str]:
    """Return the admin user, created if missing, and the login line to print."""
    user = User.objects.filter(username=ADMIN).first()
    if user is None:
        password = password or os.environ.get("QUICKSTART_ADMIN_PASSWORD")
        password = password or secrets.token_urlsafe(12)
        user = User.objects.create_superuser(ADMIN, "admin@example.com", password)
    elif password:
        user.set_password(password)
        user.save(update_fields=["password"])
    else:
        return user, f"{ADMIN}, password unchanged (set a new one with --password)"
    return user, f"{ADMIN} / {password}"


def _prepare_demo() -> str:
    """Build the demo index; return the current fault, initially "sometimes"."""
    Index(settings.DEMO_FOLDER).build()
    switch = FaultSwitch(settings.DEMO_FOLDER)
    fault = switch.read() or "sometimes"
    switch.set(fault)  # restarts the period, so that "sometimes" begins healthy
    return fault


def _demo(url: str, fault: str) -> str:
    choices = "|".join(FAULTS)
    return (
        f"Search:   curl -sSi '{url}{reverse('search')}?q=red+kettle'\n"
        f"          backend fault: {fault}; change it: manage.py demo_fault {choices}\n\n"
    )


def _curl(url: str, token: str) -> str:
    return f"curl -sS -X POST {url} -H 'Authorization: Bearer {token}'"


def _serve(server: ThreadedWSGIServer, *, traffic: bool) -> None:
    visitors = Traffic()
    if traffic:
        visitors.start()
    server.set_app(get_internal_wsgi_application())
    try:
        server.serve_forever()
    finally:
        if traffic:
            visitors.stop()
