"""How the search cache's page keeps up to date, and at what cost."""

import re
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.cache import caches
from redis.connection import AbstractConnection

from analytics_admin import services
from analytics_admin.caching import search_cache
from analytics_admin.caching.clear import sweep
from analytics_admin.caching.statistics.counters import Counts
from analytics_admin.caching.statistics.store import Batch, open_statistics_store
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from tests.console.search_cache_pages import PAGE, leave_behind, part, tell

pytestmark = pytest.mark.django_db

SHELL = Actor.system("nightly")
REFRESH = "X-Console-Refresh"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is for this process: the middle of a minute."""
    now = [time.time() // 60 * 60 + 30.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def refreshed(operator: Any, tag: str = "") -> Any:
    return operator.get(PAGE, headers={REFRESH: "1", "If-None-Match": tag})


def test_nothing_new_is_304_though_the_load_falls_while_the_minute_goes_on(operator, clock):
    tell((1, Counts(hits=50, misses=10)), now=clock[0])
    services.clear_search_cache(actor=SHELL, mode="soft")
    search_cache.set("q", 1, tags=["x"])
    tag = refreshed(operator).headers["ETag"]
    clock[0] += 7
    assert refreshed(operator, tag).status_code == 304
    tell((0, Counts(hits=1)), now=clock[0])
    assert refreshed(operator, tag).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda: search_cache.set("another", 1),
        lambda: search_cache.set("q", 1, tags=["y"]),
        lambda: services.clear_search_cache(actor=SHELL, mode="soft"),
        lambda: open_statistics_store("breakers", "search", timeout=5).add(
            "other", [Batch("1", int(time.time() // 60), Counts(hits=1))]
        ),
        lambda: Operation.objects.create(kind="clear_search_cache", actor="x", channel="api"),
        sweep.sweep_leftovers,
    ],
)
def test_what_is_new_changes_the_page(operator, clock, change):
    leave_behind(2000)
    tag = refreshed(operator).headers["ETag"]
    assert refreshed(operator, tag).status_code == 304
    change()
    assert refreshed(operator, tag).status_code == 200


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """What is sent to each database, greetings of new connections apart."""
    sent: Counter[int] = Counter()
    real = AbstractConnection.send_packed_command

    def counting(self: Any, command: Any, check_health: bool = True) -> Any:
        text = b"".join(command if isinstance(command, list) else [command])
        if not re.match(rb"\*\d+\r\n\$\d+\r\n(SELECT|CLIENT|AUTH|HELLO)", text):
            sent[self.db] += 1
        return real(self, command, check_health)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counting)
    return sent


@pytest.mark.parametrize("dedicated", [True, False])
@pytest.mark.parametrize("keys", [10, 3000, 12_000])
def test_a_look_again_is_one_round_trip_to_each_store(operator, settings, trips, dedicated, keys):
    settings.ANALYTICS_ADMIN = {
        **settings.ANALYTICS_ADMIN,
        "SEARCH_CACHE_DEDICATED": dedicated,
    }
    leave_behind(keys)
    refreshed(operator)
    trips.clear()
    refreshed(operator)
    assert sorted(trips.values()) == [1, 1]


def test_a_large_database_that_grows_is_not_sampled_anew_and_its_keys_are_as_they_are(operator):
    leave_behind(2000)
    assert '<dd id="aa-keys">2,001</dd>' in operator.get(PAGE).text
    client = caches["search"].client.get_client(write=True)
    client.config_resetstat()
    for n in range(5):
        search_cache.set(("new", n), 1)
    assert '<dd id="aa-keys">2,006</dd>' in operator.get(PAGE).text
    assert "cmdstat_scan" not in client.info("commandstats")


def test_after_a_clear_nothing_found_before_it_is_told_again(operator):
    leave_behind(2000)
    search_cache.set("q", 1, tags=["x"])
    assert "x</bdi>" in part(operator.get(PAGE), "aa-tags")
    services.clear_search_cache(actor=SHELL)
    page = operator.get(PAGE)
    assert '<dd id="aa-keys">0</dd>' in page.text
    assert "No stored result has a tag." in part(page, "aa-tags")


def test_after_a_clear_a_large_shared_database_is_looked_at_anew(operator, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "SEARCH_CACHE_DEDICATED": False}
    step = caches["search"].client.get_client(write=True).pipeline(transaction=False)
    for n in range(1500):
        step.set(f"session:{n}", 1)
    step.execute()
    for n in range(500):
        search_cache.set(n, 1)
    assert '<dd id="aa-keys">500</dd>' in operator.get(PAGE).text
    services.clear_search_cache(actor=SHELL)
    assert '<dd id="aa-keys">0</dd>' in operator.get(PAGE).text


def test_a_day_is_read_once_in_a_while_and_its_last_half_hour_each_time(operator, clock):
    tell((100, Counts(hits=5)), (10, Counts(hits=3)), now=clock[0])
    client = caches["breakers"].client.get_client(write=True)
    address = f"{PAGE}?hours=24"
    operator.get(PAGE)  # somebody else looks at fewer hours
    assert "8 calls in the last 24 hours" in operator.get(address).text
    client.config_resetstat()
    tell((9, Counts(hits=1)), now=clock[0])
    assert "9 calls in the last 24 hours" in operator.get(address).text
    assert client.info("commandstats")["cmdstat_hmget"]["calls"] < 150
    assert services.describe_search_cache(minutes=200).history[-101].counts.hits == 5


def test_hours_read_a_while_ago_are_no_gap_in_a_longer_period(operator, clock):
    tell((100, Counts(hits=5)), (1000, Counts(hits=3)), now=clock[0])
    for hours, calls in ((1, 0), (3, 5), (24, 8), (6, 5)):
        assert f"{calls} calls in" in operator.get(f"{PAGE}?hours={hours}").text


def test_who_does_not_ask_for_an_old_survey_gets_none():
    leave_behind(2000)
    services.describe_search_cache(max_age=30)
    caches["search"].client.get_client(write=True).set("session:1", 1)
    fresh = services.describe_search_cache()
    assert [kind.prefix for kind in fresh.foreign] == ["session:"]


def test_the_undo_counts_down_to_an_instant(operator):
    services.clear_search_cache(actor=SHELL, mode="soft")
    page = operator.get(PAGE)
    until = services.describe_search_cache().undo_until
    stamp = until.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    undo = part(page, "aa-undo-module")
    assert f'<time datetime="{stamp}"' in undo
    assert 'data-aa-as="countdown"' in undo
    confirm = operator.post(f"{PAGE}undo/").text
    shown = re.search(r'datetime="([^"]+)"[^>]*data-aa-as="countdown"', confirm)[1]
    assert abs((datetime.fromisoformat(shown) - until).total_seconds()) < 1
