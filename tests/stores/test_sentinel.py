"""Stores behind Redis Sentinel: both engines find the primary, and leave one that is demoted."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django_redis.pool import ConnectionFactory
from redis.connection import Connection
from redis.exceptions import ConnectionError as StoreConnectionError

from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.caching import SearchCache
from analytics_admin.caching.stores.tracking import RedisTrackingLink
from analytics_admin.stores.client import StoreUnavailable, dedicated_client
from analytics_admin.stores.routes import NoGuide, NoPrimary
from analytics_admin.stores.sentinel import SentinelRoute
from tests.support.sentinels import SERVICE, SentinelGroup
from tests.support.servers import StoreServer, free_port
from tests.support.sites import eventually

LIMITS = {"SOCKET_CONNECT_TIMEOUT": 0.5, "SOCKET_TIMEOUT": 0.5}
FACTORY = "django_redis.pool.SentinelConnectionFactory"
SENTINELS_POOL = "redis.sentinel.SentinelConnectionPool"


@pytest.fixture(scope="module")
def group() -> Iterator[SentinelGroup]:
    with SentinelGroup(down_after=5) as group:
        yield group


@pytest.fixture
def use(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the site's aliases ask these Sentinels."""
    monkeypatch.setattr(ConnectionFactory, "_pools", {})  # by address, whatever the Sentinels are

    def use(group: SentinelGroup, query: str = "", **options: Any) -> None:
        options = {"SENTINELS": group.addresses, **LIMITS, **options}
        settings.CACHES = {
            alias: {
                "BACKEND": "django_redis.cache.RedisCache",
                "LOCATION": f"redis://{SERVICE}/{number}{query}",
                "KEY_PREFIX": alias,
                "OPTIONS": options,
            }
            for number, alias in enumerate(("default", "search", "breakers"))
        }

    return use


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", {"CLIENT_CLASS": "django_redis.client.SentinelClient", "CONNECTION_FACTORY": FACTORY}),
        (
            "?is_master=1",
            {"CONNECTION_FACTORY": FACTORY, "CONNECTION_POOL_CLASS": SENTINELS_POOL},
        ),
    ],
)
def test_both_ways_of_django_redis_lead_both_engines_to_the_primary(
    query: str, options: dict[str, Any], group: SentinelGroup, use: Any
) -> None:
    use(group, query, **options)
    store, cache = RedisStore("breakers", timeout=1), SearchCache(lambda: "search")
    store.check_writable()
    assert store.channel().open() == 0
    assert [cache.lookup(("q", query), lambda: 1, timeout=60).state for _ in "ab"] == [
        "miss",
        "hit",
    ]
    keys = set(group.primary.ask("INFO", "keyspace"))
    assert {"db1", "db2"} <= keys


def test_a_demoted_primary_is_left_at_once(use: Any, settings: Any) -> None:
    with SentinelGroup(down_after=5) as group:
        use(group, CLIENT_CLASS="django_redis.client.SentinelClient", CONNECTION_FACTORY=FACTORY)
        settings.ANALYTICS_ADMIN = {"STORE_RETRY_INTERVAL": 0.3}
        store, cache = RedisStore("breakers", timeout=1), SearchCache(lambda: "search")
        store.check_writable()
        cache.set("q", 1, timeout=60)
        group.sentinels[1].ask("SENTINEL", "FAILOVER", SERVICE)
        new = group.await_primary(other_than=group.primary.port)
        # A Sentinel would tell it within ten seconds, and cut its connections; these stay.
        group.primary.ask("REPLICAOF", "127.0.0.1", str(new.port))
        began = time.monotonic()
        while cache.lookup(("q", began), lambda: 1, timeout=60).state != "hit":
            assert time.monotonic() - began < 0.3 + 0.5
        with store.within(1):
            store.check_writable()  # a request of the breakers finds the new one by itself
        assert time.monotonic() - began < 0.3 + 0.5
        assert store._peer is not None
        assert store._peer[1][1] == new.port
        new.stop()  # without threads a process asks by PING, but not for ever
        assert eventually(lambda: store.ping() is False)
        assert store.ping() is True


def test_the_last_good_sentinel_is_asked_first_and_a_silent_one_costs_a_moment(
    group: SentinelGroup,
) -> None:
    route = SentinelRoute(SERVICE, group.addresses, connection_class=Connection, kwargs={})
    group.sentinels[0].freeze()
    try:
        began = time.monotonic()
        assert route.find(1)[1] == group.primary.port
        assert 0.05 <= time.monotonic() - began < 0.15
        route._answer = None  # as for a later connection
        began = time.monotonic()
        assert route.find(1)[1] == group.primary.port
        assert time.monotonic() - began < 0.05
    finally:
        group.sentinels[0].thaw()


def test_a_server_that_another_has_replaced_is_sent_nothing_more(
    group: SentinelGroup, use: Any
) -> None:
    use(group, CLIENT_CLASS="django_redis.client.SentinelClient", CONNECTION_FACTORY=FACTORY)
    connection = dedicated_client("search", timeout=1).connection_pool.get_connection()
    connection.send_command("PING")
    assert connection.read_response()
    route, primary = connection._route, group.primary.port
    route._note(("127.0.0.1", group.servers[1].port))
    with pytest.raises(StoreConnectionError, match="another server"):
        connection.send_command("PING")
    assert not connection.is_connected
    route._note(("127.0.0.1", primary))  # and back again
    connection.send_command("PING")
    assert connection.read_response()
    assert connection.port == primary


def test_a_look_each_second_finds_out_that_another_server_is_the_primary(
    group: SentinelGroup,
) -> None:
    route = SentinelRoute(SERVICE, group.addresses, connection_class=Connection, kwargs={})
    old, primary = ("127.0.0.1", group.servers[1].port), ("127.0.0.1", group.primary.port)
    route._note(old)
    found_at = time.monotonic()
    assert [route.claim_look(), route.claim_look()] == [True, False]
    group.sentinels[0].freeze()
    try:
        route.look()
    finally:
        group.sentinels[0].thaw()
    assert route.has_left(old, found_at)
    assert not route.has_left(primary, found_at)
    assert time.monotonic() - found_at < 0.2


def test_near_values_are_proven_by_no_server_that_the_sentinels_name_no_more(
    group: SentinelGroup, use: Any
) -> None:
    """A process whose calls are all near hits sends nothing over another connection."""
    use(group, CLIENT_CLASS="django_redis.client.SentinelClient", CONNECTION_FACTORY=FACTORY)
    client = dedicated_client("search", timeout=1)
    route = client.connection_pool.connection_kwargs["route"]
    with StoreServer(port=free_port()) as old:
        route._note(("127.0.0.1", old.port))  # what they named until now
        route._looked_at = time.monotonic()
        link = RedisTrackingLink(client, lambda names: None, max_value_bytes=1000)
        link.read([])
        assert link._connection.port == old.port
        route._looked_at = 0.0  # a second later
        with pytest.raises(StoreUnavailable):
            link.read([])
        link.close()
    link = RedisTrackingLink(client, lambda names: None, max_value_bytes=1000)
    link.read([])
    assert link._connection.port == group.primary.port
    link.close()


def test_who_is_not_known_is_told_from_who_cannot_be_asked(group: SentinelGroup) -> None:
    route = SentinelRoute("unheard-of", group.addresses, connection_class=Connection, kwargs={})
    with pytest.raises(NoPrimary):
        route.find(1)
    nobody = SentinelRoute(SERVICE, [("127.0.0.1", 1)], connection_class=Connection, kwargs={})
    with pytest.raises(NoGuide):
        nobody.find(1)
    nobody._last = ("127.0.0.1", 7)
    assert nobody.find(1) == ("127.0.0.1", 7)


def test_a_replica_that_a_sentinel_takes_for_the_primary_is_not_used(
    group: SentinelGroup, settings: Any
) -> None:
    settings.CACHES = {
        **settings.CACHES,
        "search": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{group.sentinels[0].port}/1?service={SERVICE}",
            "OPTIONS": {
                **LIMITS,
                "CONNECTION_POOL_CLASS": "analytics_admin.stores.sentinel.ServicePool",
            },
        },
    }
    client = dedicated_client("search", timeout=1)
    assert client.ping()
    client.connection_pool.disconnect()
    route = client.connection_pool.connection_kwargs["route"]
    replica = ("127.0.0.1", group.servers[1].port)
    route._note(replica)
    assert client.set("a", 1)  # after the wrong answer the Sentinels are asked
