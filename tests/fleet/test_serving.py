"""The site behind real servers: README's line, and idle and forging clients."""

import http.client
import re
import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.fleet.deployments import Deployment
from tests.support.sites import ROOT

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
