"""A copy of the site in production: its own store, an SQLite file, gunicorn in front."""

import http.client
import http.cookiejar
import json
import os
import signal
import socket
import sqlite3
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import jwt
import redis

from tests.support.servers import StoreServer, free_port
from tests.support.sites import Site, eventually

KEY = "fleet-test-signing-key-of-more-than-32-bytes"
USERS = ("admin", "olga")
PASSWORD = "pw-of-both"
BUSY_TIMEOUT = 1
"""Seconds for which the site waits for a locked database."""

# The static files are none of what is tested: no need to collect them.
SETTINGS = """
from project.settings import *

STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
"""

USE = """
import django
django.setup()
from django.contrib.auth import get_user_model
from analytics_admin.breakers import circuit_breaker

for name in {users}:
    get_user_model().objects.create_superuser(name, "", {password!r})
try:
    with circuit_breaker("catalog", failure_threshold=1, wait_duration_in_open_state=3600):
        raise ValueError
except ValueError:
    pass
"""


class Deployment:
    """The site; once prepared it has two superusers and an open breaker ``catalog``."""

    def __init__(self, folder: Path, *, settings: str = "") -> None:
        self.store = StoreServer()
        self.site = Site(folder)
        self.database = folder / "data" / "db.sqlite3"
        self.database.parent.mkdir()
        (folder / "site_settings.py").write_text(f"{SETTINGS}\n{settings}")
        self.environment = {
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "SECRET_KEY": "fleet-test-secret-key-of-more-than-fifty-characters-0123456789",
            "JWT_SIGNING_KEY": KEY,
            "DEBUG": "off",
            "SECURE_COOKIES": "off",
            "ALLOWED_HOSTS": "127.0.0.1",
            "DATABASE_URL": f"sqlite:///{self.database}?timeout={BUSY_TIMEOUT}",
            "REDIS_URL": self.store.url,
        }
        self.port = free_port()
        self.master = 0

    def prepare(self) -> None:
        """Start the store, create the database, open the breaker."""
        self.store.start()
        use = USE.format(users=USERS, password=PASSWORD)
        for arguments in (("manage.py", "migrate", "-v0"), ("-c", use)):
            done = self.site.run(*arguments, **self.environment)
            assert done.returncode == 0, done.stderr

    def serve(self, *, workers: int) -> None:
        self.serve_by("gunicorn", "project.wsgi", "--workers", str(workers))
        assert eventually(lambda: len(self.workers()) == workers)

    def serve_by(self, *command: str) -> None:
        """Serve by gunicorn with these arguments."""
        self.master = self.start("-m", *command, "--bind", f"127.0.0.1:{self.port}").pid
        assert eventually(self._listens)

    def start(self, *arguments: str) -> Any:
        return self.site.start(*arguments, **self.environment)

    def manage(self, *arguments: str) -> Any:
        return self.site.manage(*arguments, **self.environment)

    def workers(self) -> list[int]:
        """Return the process ids of gunicorn's workers."""
        children = Path(f"/proc/{self.master}/task/{self.master}/children").read_text()
        return [int(pid) for pid in children.split()]

    def renew_workers(self) -> None:
        """Have all workers replaced: one that met an error may still hold the database's file."""
        old = self.workers()
        for pid in old:
            os.kill(pid, signal.SIGTERM)
        assert eventually(lambda: len(set(self.workers()) - set(old)) == len(old))
        assert eventually(lambda: not set(self.workers()) & set(old))

    def post(self, path: str, *, user: str = "admin") -> tuple[int, dict[str, Any]]:
        """POST without a body, with a token of the user; return the status and the JSON."""
        status, _, body = self.send("POST", path, user=user)
        return status, body

    def send(
        self, method: str, path: str, body: Any = None, *, user: str = "admin", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, dict[str, Any]]:
        """Send JSON, or no body, with a token of the user; return status, headers and JSON."""
        token = jwt.encode({"sub": user, "exp": int(time.time()) + 60}, KEY, algorithm="HS256")
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers |= {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            assert answer.headers["Content-Type"] == "application/json"
            return answer.status, answer.headers, json.loads(answer.read())
        finally:
            connection.close()

    def rows(self, *columns: str) -> list[tuple[str, ...]]:
        """Return each row of the audit trail, oldest first: kind and status, or these columns."""
        wanted = ", ".join(columns or ("kind", "status"))
        query = f"SELECT {wanted} FROM analytics_admin_operation ORDER BY started_at"
        connection = sqlite3.connect(self.database)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def client(self, database: int) -> "redis.Redis[bytes]":
        return redis.Redis(unix_socket_path=self.store.socket_path, db=database)

    def contents(self) -> dict[tuple[int, bytes], bytes | None]:
        """Return what acts change: all of the search cache's database and of the breakers'."""
        found = {}
        for number in (1, 2):
            client = self.client(number)
            found |= {(number, key): client.dump(key) for key in client.scan_iter(count=1000)}
        return found

    def close(self) -> None:
        self.store.close()  # also a frozen one
        self.site.close()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


class Operator:
    """A browser that is signed in to the console.

    ``answered_at``: when (monotonic seconds) the last form was answered with a redirect.
    """

    def __init__(self, deployment: Deployment, *, user: str = "admin") -> None:
        self._root = f"http://127.0.0.1:{deployment.port}"
        self._jar = http.cookiejar.CookieJar()
        self.answered_at = 0.0
        cookies = urllib.request.HTTPCookieProcessor(self._jar)
        self._browser = urllib.request.build_opener(cookies, _Redirects(self))
        self.open("/admin/login/")
        page = self.submit("/admin/login/", username=user, password=PASSWORD, next="/admin/")
        assert "Search cache" in page

    def open(self, path: str) -> str:
        return self._page(path, None)

    def submit(self, path: str, **fields: str) -> str:
        """Send a form; return the page to which that leads."""
        token = next(cookie.value for cookie in self._jar if cookie.name == "csrftoken")
        form = urllib.parse.urlencode({"csrfmiddlewaretoken": token or "", **fields}).encode()
        return self._page(path, form)

    def _page(self, path: str, form: bytes | None) -> str:
        with self._browser.open(f"{self._root}{path}", data=form, timeout=20) as answer:
            page: str = answer.read().decode()
            return page


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, as ever, and notes when they came."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    def redirect_request(self, *arguments: Any) -> urllib.request.Request | None:
        self._operator.answered_at = time.monotonic()
        return super().redirect_request(*arguments)
