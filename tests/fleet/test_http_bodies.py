"""What clients send that no test client would: raw requests to real servers."""

import json
import os
import socket
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jwt
import pytest
import redis

from tests.support.servers import StoreServer, free_port, listening

ROOT = Path(__file__).parent.parent.parent
KEY = "fleet-test-signing-key-of-more-than-32-bytes"
CLEAR = "/api/v1/analytics/cache/clear"
RESET = "/api/v1/analytics/circuit-breakers/reset"
ONE = "/api/v1/analytics/circuit-breakers/any"
TOKEN = "/api/v1/auth/token"
DRY = b'{"dry_run":true}'
COMMANDS = {
    "gunicorn sync": ["-m", "gunicorn", "project.wsgi", "--bind", "127.0.0.1:{port}"],
    "gunicorn gthread": [
        *("-m", "gunicorn", "project.wsgi", "--bind", "127.0.0.1:{port}"),
        *("--worker-class", "gthread", "--threads", "4"),
    ],
    "runserver": ["manage.py", "runserver", "--noreload", "127.0.0.1:{port}"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    port: int
    database: Path
    store: redis.Redis

    def send(self, *parts: bytes, half_close: bool = False) -> tuple[int, dict]:
        """Send the bytes as they are; return status and JSON of the first answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            for part in parts:
                connection.sendall(part)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            return _read_answer(connection)

    def post(self, path: str, body: bytes, *headers: str, **options: bool) -> tuple[int, dict]:
        return self.send(self.request(path, *headers), body, **options)

    def request(self, path: str, *headers: str, method: str = "POST") -> bytes:
        """Return the head of a request by the superuser."""
        token = jwt.encode({"sub": "admin", "exp": int(time.time()) + 60}, KEY, algorithm="HS256")
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Authorization: Bearer {token}",
            "Content-Type: application/json",
            "Connection: close",
            *headers,
        ]
        return "\r\n".join([*lines, "", ""]).encode()

    def trace(self) -> tuple[int, int]:
        """Return what acts would have changed: keys in the search cache, rows of the trail."""
        with sqlite3.connect(self.database) as connection:
            (rows,) = connection.execute(
                "SELECT COUNT(*) FROM analytics_admin_operation"
            ).fetchone()
        return self.store.dbsize(), rows


def _read_answer(connection: socket.socket) -> tuple[int, dict]:
    received = b""
    while b"\r\n\r\n" not in received:
        received += _receive(connection, received)
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    while len(body) < int(headers.get("content-length", 0)):
        body += _receive(connection, received)
    is_json = headers.get("content-type") == "application/json"
    return int(lines[0].split()[1]), json.loads(body) if is_json else {}


def _receive(connection: socket.socket, so_far: bytes) -> bytes:
    chunk = connection.recv(65536)
    assert chunk, f"the server closed after {so_far!r}"
    return chunk


@pytest.fixture(scope="module", params=COMMANDS)
def site(request, tmp_path_factory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with StoreServer() as server:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DEBUG": "off",
            "SECRET_KEY": "fleet-test-secret-key-of-more-than-fifty-characters-0123456789",
            "JWT_SIGNING_KEY": KEY,
            "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
            "REDIS_URL": server.url,
            "ALLOWED_HOSTS": "127.0.0.1",
            "DJANGO_SUPERUSER_PASSWORD": "pw-admin",
        }
        create_user = ["createsuperuser", "--noinput", "--username=admin", "--email=a@example.com"]
        for command in (["migrate", "-v0"], create_user):
            arguments = [sys.executable, "manage.py", *command]
            subprocess.run(arguments, cwd=ROOT, env=environment, check=True, timeout=60)
        port = free_port()
        command = [part.format(port=port) for part in COMMANDS[request.param]]
        with listening(
            *command, port=port, cwd=ROOT, environment=environment, log=folder / "server.log"
        ):
            store = redis.Redis(unix_socket_path=server.socket_path, db=1)
            yield Site(port=port, database=folder / "db.sqlite3", store=store)


@pytest.fixture
def untouched(site) -> Iterator[Site]:
    """Lend the site, its limits forgotten, and see that nothing was done meanwhile."""
    site.store.flushall()
    site.store.set("kept", "value")
    before = site.trace()
    yield site
    assert site.trace() == before


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("path", [CLEAR, RESET])
def test_a_dry_run_sent_chunked_is_411_and_not_the_act(untouched, path):
    status, body = untouched.post(path, chunked(DRY), "Transfer-Encoding: chunked")
    assert (status, body["code"]) == (411, "length_required")


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", ONE), ("PUT", f"{ONE}/control"), ("POST", f"{ONE}/reset")]
)
def test_acts_on_one_breaker_do_not_begin_with_a_body_that_cannot_be_seen(untouched, method, path):
    head = untouched.request(path, "Transfer-Encoding: chunked", method=method)
    status, body = untouched.send(head, chunked(DRY))
    assert (status, body["code"]) == (411, "length_required")
    head = untouched.request(path, "Content-Length: 20", method=method)
    status, body = untouched.send(head, DRY, half_close=True)
    assert (status, body["code"]) == (400, "truncated")


@pytest.mark.parametrize("path", [CLEAR, RESET])
def test_a_chunked_body_beside_a_content_length_does_nothing(untouched, path):
    headers = ("Transfer-Encoding: chunked", "Content-Length: 0")
    status, _ = untouched.post(path, chunked(DRY), *headers)
    assert status in {400, 411}  # some servers refuse it before the site sees it


@pytest.mark.parametrize("path", [CLEAR, RESET])
def test_a_body_that_ends_before_its_content_length_is_400(untouched, path):
    status, body = untouched.post(path, DRY, "Content-Length: 20", half_close=True)
    assert (status, body["code"]) == (400, "truncated")


def test_a_client_that_hangs_up_within_its_body_has_done_nothing(untouched):
    with socket.create_connection(("127.0.0.1", untouched.port)) as connection:
        connection.sendall(untouched.request(CLEAR, "Content-Length: 20") + DRY)
        at_once = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    status, _ = untouched.post(CLEAR, DRY, "Content-Length: 5")  # its turn comes after that one
    assert status == 400


@pytest.mark.parametrize("path", [CLEAR, RESET])
def test_a_body_that_goes_on_after_its_content_length_is_judged_by_what_is_in_it(untouched, path):
    status, body = untouched.post(path, DRY, "Content-Length: 5")
    assert (status, body["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("sent", [10, 65_537])
def test_a_body_over_the_limit_is_413_however_much_of_it_arrives(untouched, sent):
    status, body = untouched.post(CLEAR, b" " * sent, "Content-Length: 65537")
    assert (status, body["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("length", ["-1", "abc", "1, 1", "0x10"])
def test_a_content_length_that_is_no_number_does_nothing(untouched, length):
    status, _ = untouched.post(CLEAR, DRY, f"Content-Length: {length}")
    assert status == 400


def test_bytes_beyond_ascii_in_a_token_are_401(untouched):
    request = f"POST {CLEAR} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    head = (
        request.encode() + b"Content-Length: 0\r\nAuthorization: Bearer \xe9\xff.\xfe.\xfd\r\n\r\n"
    )
    status, body = untouched.send(head)
    assert (status, body["code"]) == (401, "token_not_valid")


def test_a_forged_forwarded_for_does_not_get_round_the_limit_of_sign_ins(untouched):
    wrong = b'{"username":"admin","password":"wrong"}'
    answers = [
        untouched.post(
            TOKEN, wrong, f"Content-Length: {len(wrong)}", f"X-Forwarded-For: 192.0.2.{number}"
        )[0]
        for number in range(11)
    ]
    assert answers == [401] * 10 + [429]


def test_an_act_sent_by_hand_is_done(site):
    site.store.flushall()
    site.store.set("gone", "value")
    _, rows = site.trace()
    status, body = site.post(CLEAR, b"", "Content-Length: 0")
    assert (status, body) == (200, {"message": "Search cache cleared"})
    assert not site.store.exists("gone")
    assert site.trace()[1] == rows + 1
