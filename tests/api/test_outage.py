"""The endpoints while the store fails: the documents' 500, at once, with no word of a password."""

from urllib.parse import quote

import pytest
from django.core.cache import caches

from analytics_admin.models import Operation
from tests.support.api import ACTS, CLEAR, RESET, assert_error, call
from tests.support.breakers import trip
from tests.support.servers import StoreServer, free_port
from tests.support.stopwatch import Stopwatch

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

PASSWORD = "hunter2-of-the-store"
SENTENCE = {
    path: "Failed to clear cache: " if path == CLEAR else "Failed to reset circuit breakers: "
    for path in ACTS
}
REASONS = {
    "stopped": "the store cannot be reached",
    "frozen": "the store did not answer in time",
    "wrong password": "the store refused the user name or password",
    "out of memory": "the store is out of memory",
    "malformed address": "the store's settings are not usable",
}


def aliases(password: str, port: str | int):
    return {
        alias: {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://:{quote(password)}@127.0.0.1:{port}/{database}",
        }
        for database, alias in enumerate(["default", "search", "breakers"])
    }


@pytest.fixture(params=REASONS)
def failing(request, settings):
    """All three aliases, the throttles' among them, on one store that fails."""
    with StoreServer(port=free_port(), requirepass=PASSWORD) as server:
        password = f"{PASSWORD}-wrong" if request.param == "wrong password" else PASSWORD
        port = f"no{server.port}" if request.param == "malformed address" else server.port
        settings.CACHES = aliases(password, port)
        if request.param == "stopped":
            server.stop()
        if request.param == "frozen":
            server.freeze()
        if request.param == "out of memory":
            trip("catalog")  # something that a reset would have to write
            caches["default"].client.get_client(write=True).config_set("maxmemory", "1")
        yield request.param


@pytest.mark.usefixtures("superuser")
@pytest.mark.parametrize("path", ACTS)
def test_a_store_that_fails_is_the_documents_500_within_two_seconds_and_on_record(
    client, mint, failing, caplog, path
):
    watch = Stopwatch()
    answer = call(client, path, mint())
    assert watch.seconds < 2
    row = Operation.objects.get()
    assert_error(answer, 500, "store_unavailable", REASONS[failing])
    assert answer.json()["detail"] == f"{SENTENCE[path]}{REASONS[failing]}"
    assert answer.headers["X-Operation-Id"] == str(row.pk)
    assert (row.status, row.error) == ("failed", REASONS[failing])
    for text in (answer.text, str(answer.headers), caplog.text, str(Operation.objects.values())):
        assert PASSWORD not in text


@pytest.mark.usefixtures("superuser")
@pytest.mark.parametrize("path", ACTS)
def test_a_dry_run_says_the_same_and_leaves_no_row(client, mint, failing, caplog, path):
    watch = Stopwatch()
    answer = call(client, path, mint(), {"dry_run": True})
    assert watch.seconds < 2
    if failing == "out of memory" and path == RESET:  # reading needs no memory
        assert answer.status_code == 200
    else:
        assert_error(answer, 500, "store_unavailable", REASONS[failing])
    assert not Operation.objects.exists()
    assert PASSWORD not in answer.text + caplog.text
