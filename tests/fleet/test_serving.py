"""The site behind real servers: README's line, and idle and forging clients."""

import http.client
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from celery import Celery

from analytics_admin import services
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.caching.statistics.queries import read_figures
from tests.fleet.deployments import Deployment
from tests.settings import STORE_FOLDER
from tests.support.servers import free_port, listening
from tests.support.sites import ROOT, eventually

PAGE = "/admin/login/?next=/admin/"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The site as README's server line serves it."""
    deployment = Deployment(tmp_path_factory.mktemp("served") / "site")
    try:
        deployment.prepare()
        deployment.serve_by(*server_line())
        yield deployment
    finally:
        deployment.close()


def server_line() -> list[str]:
    """Return what README writes after the program's path."""
    (line,) = re.findall(r"^\.venv/bin/(gunicorn .+)$", (ROOT / "README.md").read_text(), re.M)
    assert line in (ROOT / "docs/howto/deploy.md").read_text()
    return shlex.split(line)


def get(port: int, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", PAGE, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_clients_that_do_not_finish_a_request_keep_nobody_out(
    served: Deployment, sent: bytes
) -> None:
    with ExitStack() as clients:
        for _ in range(30):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", served.port)))
            client.sendall(sent)
        began = time.monotonic()
        for _ in range(5):
            assert get(served.port)[0] == 200
        assert time.monotonic() - began < 4  # a single idle client would hold a thread for five


def test_a_client_cannot_say_below_which_path_the_site_is(served: Deployment) -> None:
    status, page = get(served.port, SCRIPT_NAME="/elsewhere", PATH_INFO="/metrics")
    assert status == 200
    assert "/elsewhere" not in page


GUNICORN = ("-m", "gunicorn", "--no-control-socket", "--workers", "2", "--bind", "127.0.0.1:{port}")
WSGI, ASGI = "tests.fleet.served_site:wsgi", "tests.fleet.served_site:asgi"
UWSGI = (
    *(
        "-c",
        "import pyuwsgi; pyuwsgi.run()",
        "--http-socket",
        "127.0.0.1:{port}",
        "--module",
        WSGI,
        "--need-app",
    ),
    *("--processes", "2", "--master", "--die-on-term", "--lazy-apps"),
)
SERVERS = {
    "gunicorn sync": (*GUNICORN, WSGI),
    "gunicorn gthread": (*GUNICORN, "--threads", "4", WSGI),
    "gunicorn gevent": (*GUNICORN, "--worker-class", "gevent", WSGI),
    "gunicorn preload": (*GUNICORN, "--preload", "--threads", "4", WSGI),
    "gunicorn asgi": (*GUNICORN, "--worker-class", "asgi", ASGI),
    "gunicorn uvicorn": (*GUNICORN, "--worker-class", "uvicorn_worker.UvicornWorker", ASGI),
    "uvicorn": ("-m", "uvicorn", "--port", "{port}", "--workers", "2", ASGI),
    "uvicorn alone": ("-m", "uvicorn", "--port", "{port}", ASGI),
    "uwsgi": (*UWSGI, "--enable-threads"),
    "uwsgi forking": (*(word for word in UWSGI if word != "--lazy-apps"), "--enable-threads"),
    "uwsgi without threads": UWSGI,
}


class Client:
    """Asks a server over and over, each time by a new connection, so that any worker answers."""

    def __init__(self, port: int, workers: int) -> None:
        self._port = port
        self._workers = workers

    def ask(self, path: str) -> tuple[int, str]:
        """Return which process answered, and what it saw."""
        address = f"http://127.0.0.1:{self._port}/{path}"
        with urllib.request.urlopen(address, timeout=20) as answer:
            told = json.load(answer)
        return told["pid"], told["seen"]

    def all_see(self, state: str) -> bool:
        """Whether each worker is asked, and sees this now."""
        seen = dict(self.ask("call") for _ in range(8 * self._workers))
        return list(seen.values()) == [state] * self._workers


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("server", SERVERS)
def test_an_incident_is_one_to_all_workers_and_nothing_is_lost_at_the_end(
    server: str, tmp_path: Path
) -> None:
    port = free_port()
    command = [part.format(port=port) for part in SERVERS[server]]
    workers = 1 if "alone" in server else 2
    client = Client(port, workers)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    log = tmp_path / "server.log"
    with listening(*command, port=port, cwd=tmp_path, environment=environment, log=log):
        assert eventually(lambda: client.all_see("closed"))
        assert eventually(lambda: client.ask("call?down")[1] == "open")
        assert eventually(lambda: client.all_see("open"))
        done = services.reset_circuit_breakers(actor=services.Actor.system("test"))
        assert done.acknowledged is not None
        if server == "uwsgi without threads":  # nobody reads between two calls
            assert "--enable-threads" in log.read_text()
            assert eventually(lambda: client.all_see("closed"), seconds=1)
        else:
            assert done.acknowledged.obeyed == workers
            assert client.all_see("closed")
        for _ in range(20):
            assert client.ask("search")[1] == "found"
        pids = {process.pid for process in services.list_processes()}
        assert len(pids) == workers
    assert services.list_processes() == []
    assert counted() == (20, 20)


def counted() -> tuple[int, int]:
    """Return how many searches the store knows of: of the breaker, and of the cache."""
    snapshot = operator_store().load_many(["search"]).snapshots["search"]
    calls = snapshot.counts.calls if snapshot else 0
    return calls, read_figures().periods["last_day"].calls


def test_celerys_workers_tell_all_also_those_that_end_after_three_tasks(tmp_path: Path) -> None:
    broker = f"redis+socket://{STORE_FOLDER}/store.sock?virtual_host=5"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CELERY_BROKER_URL": broker}
    arguments = [
        *(sys.executable, "-m", "celery", "-A", "tests.fleet.celery_site", "worker"),
        *("--pool", "prefork", "--concurrency", "2", "--max-tasks-per-child", "3"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"),
    ]
    log = tmp_path / "worker.log"
    with log.open("w") as output, Celery(broker=broker) as celery:
        worker = subprocess.Popen(
            arguments, cwd=tmp_path, env=environment, stdout=output, stderr=output
        )
        try:
            for _ in range(20):
                celery.send_task("search", ignore_result=True)
            assert eventually(lambda: log.read_text().count(" succeeded in ") == 20)
        finally:
            worker.terminate()
            worker.wait(timeout=60)
    assert counted() == (20, 20)
    assert services.list_processes() == []
