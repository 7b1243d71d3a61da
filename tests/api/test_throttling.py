"""Rate limits of the API, per user and per address, also while the counters' store fails."""

import threading
import time
from io import StringIO
from urllib.parse import quote

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import caches
from django.core.management import call_command
from rest_framework.settings import api_settings

from analytics_admin.api.throttling import WindowCounter, counter, current_rate
from analytics_admin.conf import Rate
from analytics_admin.models import Operation
from tests.support.api import (
    ACTS,
    CLEAR,
    REFRESH,
    TOKEN,
    assert_error,
    call,
    contents,
    nothing_changes,
)
from tests.support.cache_aliases import redis_alias
from tests.support.servers import StoreServer, free_port
from tests.support.stopwatch import Stopwatch

pytestmark = pytest.mark.django_db

DRY = {"dry_run": True}
LOGIN = {"username": "admin", "password": "wrong"}
PASSWORD = "hunter2-of-the-store"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.usefixtures("counted_together")
def test_the_thirty_first_act_of_a_minute_is_429_and_does_nothing(client, superuser, mint):
    for number in range(30):
        path = ACTS[number % 2]  # both kinds of act count together
        assert call(client, path, mint(), DRY).status_code == 200
    with nothing_changes():
        answer = call(client, CLEAR, mint())
    assert_error(answer, 429, "throttled")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60


@pytest.mark.usefixtures("counted_together")
def test_each_user_has_a_limit_of_their_own(client, superuser, staff_user, mint, settings):
    settings.ANALYTICS_ADMIN = {"THROTTLE_RATES": {"write": "1/min"}}
    for name in ("admin", "sam"):
        assert call(client, CLEAR, mint(name), DRY).status_code == 200
        assert call(client, CLEAR, mint(name), DRY).status_code == 429


@pytest.mark.usefixtures("counted_together")
def test_a_refused_user_cannot_fill_the_audit_trail(client, plain_user, mint, settings):
    settings.ANALYTICS_ADMIN = {"THROTTLE_RATES": {"write": "2/min"}}
    answers = [call(client, CLEAR, mint("una")).status_code for _ in range(4)]
    assert answers == [403, 403, 429, 429]
    assert Operation.objects.count() == 2


@pytest.mark.usefixtures("counted_together")
def test_the_eleventh_sign_in_of_a_minute_from_one_address_is_429(client, superuser):
    for _ in range(10):
        assert call(client, TOKEN, None, LOGIN).status_code == 401
    right = {"username": "admin", "password": "pw-admin"}
    answer = call(client, TOKEN, None, right)
    assert_error(answer, 429, "throttled")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert call(client, REFRESH, None, {"refresh": "x"}).status_code == 429
    assert call(client, TOKEN, None, right, REMOTE_ADDR="192.0.2.7").status_code == 200


@pytest.mark.usefixtures("counted_together")
@pytest.mark.parametrize("proxies", [None, 0])
def test_without_a_proxy_a_forged_forwarded_for_changes_nothing(client, monkeypatch, proxies):
    monkeypatch.setattr(api_settings, "NUM_PROXIES", proxies, raising=False)
    answers = [forwarded(client, f"192.0.2.{number}") for number in range(11)]
    assert answers == [401] * 10 + [429]


@pytest.mark.usefixtures("counted_together")
def test_behind_one_proxy_only_the_entry_that_it_added_counts(client, monkeypatch):
    monkeypatch.setattr(api_settings, "NUM_PROXIES", 1, raising=False)
    answers = [forwarded(client, f"192.0.2.{number}, 198.51.100.1") for number in range(11)]
    assert answers == [401] * 10 + [429]
    assert forwarded(client, "192.0.2.1, 198.51.100.2") == 401


ONE_CALLER = {
    "one /64 of IPv6": [f"2001:db8:1:2::{number:x}" for number in range(11)],
    "one address with ports": [f"203.0.113.7:{40000 + number}" for number in range(11)],
    "one address in other spellings": [
        *("2001:db8::1", "2001:DB8::1", "2001:db8:0::1", "[2001:db8::1]", "[2001:db8::1]:443"),
        *("2001:db8:0:0:0:0:0:1", "2001:db8::0001", "2001:db8::0.0.0.1", "2001:db8::1%eth0"),
        *("2001:0db8::1", "2001:db8::"),
    ],
    "mapped": ["203.0.113.7", "::ffff:203.0.113.7", "::ffff:cb00:7107"] * 3 + ["203.0.113.7"] * 2,
    "no last hop": [f"192.0.2.{number}," for number in range(11)],
}


@pytest.mark.usefixtures("counted_together")
@pytest.mark.parametrize("addresses", ONE_CALLER.values(), ids=ONE_CALLER)
def test_one_caller_has_one_limit_however_the_address_is_written(client, monkeypatch, addresses):
    monkeypatch.setattr(api_settings, "NUM_PROXIES", 1, raising=False)
    assert [forwarded(client, address) for address in addresses] == [401] * 10 + [429]


def sign_in(client, number: int, name: str = "admin", password: str = "wrong") -> int:
    login = {"username": name, "password": password}
    return call(client, TOKEN, None, login, REMOTE_ADDR=f"192.0.2.{number}").status_code


@pytest.mark.usefixtures("counted_together", "superuser")
@pytest.mark.parametrize("names", [["admin"], ["Admin", " admin", "ADMIN "], ["nobody"]])
def test_failed_logins_to_one_account_are_limited_from_wherever_they_come(client, names):
    answers = [sign_in(client, number, names[number % len(names)]) for number in range(21)]
    assert answers == [401] * 20 + [429]
    assert sign_in(client, 22, "another") == 401


@pytest.mark.usefixtures("counted_together")
def test_a_limited_account_keeps_its_other_doors(client, superuser, mint):
    for number in range(20):
        sign_in(client, number)
    assert sign_in(client, 21, password="pw-admin") == 429
    assert call(client, CLEAR, mint(), DRY).status_code == 200
    assert client.login(username="admin", password="pw-admin")
    call_command("issue_token", "admin", stdout=StringIO())


@pytest.mark.usefixtures("counted_together", "superuser")
def test_logins_that_succeed_do_not_count_against_the_account(client):
    answers = {sign_in(client, number, password="pw-admin") for number in range(25)}
    assert answers == {200}


def forwarded(client, value: str) -> int:
    answer = call(client, TOKEN, None, LOGIN, headers={"X-Forwarded-For": value})
    return answer.status_code


def test_an_odd_address_is_an_address(client, monkeypatch):
    monkeypatch.setattr(api_settings, "NUM_PROXIES", 3, raising=False)
    for value in ("x" * 5000, " , ,", "\udcff", "a\tb c"):
        assert forwarded(client, value) == 401


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({}, Rate(limit=30, seconds=60)),
        ({"login": "1/s"}, Rate(limit=30, seconds=60)),
        ({"write": "5/s"}, Rate(limit=5, seconds=1)),
        ({"write": "100/hour"}, Rate(limit=100, seconds=3600)),
        ({"write": "7/day"}, Rate(limit=7, seconds=86400)),
        ({"write": None}, None),
    ],
)
def test_rates_are_merged_over_the_defaults_when_they_are_used(settings, rates, expected):
    settings.ANALYTICS_ADMIN = {"THROTTLE_RATES": rates}
    assert current_rate("write") == expected


@pytest.mark.parametrize("rate", ["", "30", "0/min", "-1/min", "many/min", "5/fortnight", 30, []])
def test_a_malformed_rate_leaves_the_default_in_force(client, superuser, mint, settings, rate):
    settings.ANALYTICS_ADMIN = {"THROTTLE_RATES": {"write": rate}}
    assert current_rate("write") == Rate(limit=30, seconds=60)
    assert call(client, CLEAR, mint(), DRY).status_code == 200


def test_none_as_rate_limits_nothing(client, superuser, mint, settings):
    settings.ANALYTICS_ADMIN = {"THROTTLE_RATES": {"write": None}}
    assert {call(client, CLEAR, mint(), DRY).status_code for _ in range(35)} == {200}


def test_a_window_begins_with_its_first_hit_and_ends_on_time():
    began, watch = time.monotonic(), Stopwatch()
    hits, left = counter.hit("key", 1)
    assert (hits, round(left)) == (1, 1)
    assert counter.hit("key", 1)[0] == 2
    assert counter.hit("another", 1)[0] == 1
    while counter.hit("key", 1)[0] > 1:
        assert watch.seconds < 5
        time.sleep(0.01)
    assert time.monotonic() - began > 0.95
    assert watch.seconds < 1.5


@pytest.mark.usefixtures("counted_together")
@pytest.mark.parametrize("skew", [-7200, -0.01, 0.01, 7200])
def test_hosts_whose_clocks_differ_share_a_window(skew):
    ahead = Clock()
    ahead.now = time.time() + skew
    counter.hit("key", 60)
    hits, left = WindowCounter(clock=ahead).hit("key", 60)
    assert hits == 2
    assert 0 <= left <= 60
    assert counter.hit("key", 60)[0] == 3


DAMAGE = {
    "text": lambda store, key: store.set(key, "junk"),
    "JSON of another kind": lambda store, key: store.set(key, '{"a": 1}'),
    "bytes": lambda store, key: store.set(key, b"\xff\xfe"),
    "a list": lambda store, key: (store.delete(key), store.lpush(key, 1)),
    "a huge number": lambda store, key: store.set(key, 10**18),
    "more than fits": lambda store, key: store.set(key, "9" * 40),
    "negative": lambda store, key: store.set(key, -(10**15)),
    "null": lambda store, key: store.set(key, "null"),
}


@pytest.mark.usefixtures("counted_together")
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("whole", [True, False], ids=["all keys", "the counter"])
def test_a_damaged_counter_counts_anew(caplog, damage, whole):
    counter.hit("key", 60)
    client = caches["default"].client.get_client(write=True)
    for key in contents("default"):
        if whole or key.count(b".") == 2:
            damage(client, key)
    assert [counter.hit("key", 60)[0] for _ in range(3)] == [1, 2, 3]
    assert sum(0 < client.ttl(key) <= 61 for key in contents("default")) == 2
    assert "count per process" not in caplog.text


@pytest.mark.usefixtures("counted_together")
def test_a_hit_that_is_taken_back_does_not_count():
    counter.hit("key", 60)
    counter.hit("key", 60)
    counter.take_back("key", 60)
    assert counter.hit("key", 60)[0] == 2


@pytest.mark.usefixtures("counted_together")
def test_a_changed_period_begins_a_window_of_its_own():
    counter.hit("key", 3600)
    assert counter.hit("key", 60)[0] == 1


@pytest.mark.usefixtures("counted_together")
def test_processes_count_together_and_none_is_lost():
    together = threading.Barrier(4)

    def hit_often() -> None:
        counts = WindowCounter()  # each thread stands for a process
        together.wait(timeout=10)
        for _ in range(50):
            counts.hit("shared", 3600)

    threads = [threading.Thread(target=hit_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert WindowCounter().hit("shared", 3600)[0] == 201


def test_counters_leave_the_store_by_themselves():
    counter.hit("key", 60)
    client = caches["default"].client.get_client(write=True)
    assert contents("default")
    assert all(0 < client.ttl(key) <= 61 for key in contents("default"))


def test_a_cache_in_memory_counts_as_well(settings):
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "t"}
    }
    assert [counter.hit("key", 60)[0] for _ in range(3)] == [1, 2, 3]


@pytest.fixture(params=["stopped", "frozen", "wrong password", "out of memory", "malformed"])
def failing_default(request, settings):
    """The throttles' own store fails; the others work."""
    with StoreServer(port=free_port(), requirepass="right") as server:
        password = PASSWORD if request.param == "wrong password" else "right"
        port = f"no{server.port}" if request.param == "malformed" else server.port
        options = {"SOCKET_CONNECT_TIMEOUT": 5, "SOCKET_TIMEOUT": 5}
        broken = {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://:{quote(password)}@127.0.0.1:{port}/0",
            "OPTIONS": options,
        }
        settings.CACHES = {**settings.CACHES, "default": broken}
        if request.param == "stopped":
            server.stop()
        if request.param == "frozen":
            server.freeze()
        if request.param == "out of memory":
            caches["default"].client.get_client(write=True).config_set("maxmemory", "1")
        yield server


@pytest.mark.usefixtures("superuser", "failing_default")
@pytest.mark.parametrize("path", ACTS)
def test_acts_go_on_while_the_counters_store_fails(client, mint, caplog, path):
    watch = Stopwatch()
    answer = call(client, path, mint())
    assert watch.seconds < 2
    assert answer.status_code == 200
    assert "throttles count per process" in caplog.text
    assert PASSWORD not in caplog.text


def test_each_process_counts_while_the_store_fails(client, failing_default):
    watch = Stopwatch()
    answers = [call(client, TOKEN, None, LOGIN).status_code for _ in range(11)]
    assert answers == [401] * 10 + [429]
    assert watch.seconds < 2  # not every request waits for it anew


def test_the_store_is_tried_again_after_a_while(settings):
    with StoreServer(port=free_port()) as server:
        location = f"redis://127.0.0.1:{server.port}/0"
        settings.CACHES = {
            **settings.CACHES,
            "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location},
        }
        timer = Clock()
        counts = WindowCounter(timer=timer)
        counts.hit("key", 60)
        server.stop()
        counts.hit("key", 60)
        server.start()
        counts.hit("key", 60)
        assert not contents("default")
        timer.now += 5
        counts.hit("key", 60)
        assert contents("default")


@pytest.mark.usefixtures("failing_default")
@pytest.mark.parametrize("failing_default", ["stopped"], indirect=True)
def test_many_addresses_in_an_outage_do_not_fill_the_memory():
    for number in range(12_000):
        counter.hit(f"key-{number}", 60)
    assert len(counter._local._cache) <= 10_000


def test_deleted_users_leave_no_limit_behind(client, superuser, mint, settings):
    settings.ANALYTICS_ADMIN = {"THROTTLE_RATES": {"write": "1/min"}}
    call(client, CLEAR, mint(), DRY)
    superuser.delete()
    get_user_model().objects.create_superuser("admin", "admin@example.com", "pw", id=777)
    assert call(client, CLEAR, mint(), DRY).status_code == 200


def test_a_client_class_without_counters_has_each_process_count(settings):
    """django-redis' HerdClient cannot increment."""
    herd = {"CLIENT_CLASS": "django_redis.client.HerdClient"}
    settings.CACHES = {**settings.CACHES, "default": redis_alias("site", options=herd)}
    counter = WindowCounter()
    assert [counter.hit("k", 60)[0] for _ in range(3)] == [1, 2, 3]
