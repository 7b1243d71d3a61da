"""Stores in a Redis Cluster: each alias lives in one slot, and follows it from node to node."""

import random
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings
from redis.crc import key_slot

from analytics_admin import services
from analytics_admin.breakers import CircuitOpenError, circuit_breaker
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.caching import SearchCache
from analytics_admin.caching.clear import hard
from analytics_admin.caching.stores import past
from analytics_admin.stores.client import dedicated_client
from tests.support.clusters import Cluster

ALIASES = ("default", "search", "breakers")
RETRY = 0.2


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


def aliases_in(cluster: Cluster) -> dict[str, Any]:
    first, *others = [f"127.0.0.1:{server.port}" for server in cluster.primaries]
    return {
        alias: {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://{first}?tag={alias}",
            "KEY_PREFIX": f"{{{alias}}}",
            "OPTIONS": {
                "CONNECTION_POOL_CLASS": "analytics_admin.stores.cluster.SlotPool",
                "CONNECTION_POOL_KWARGS": {"nodes": others},
                "SOCKET_TIMEOUT": 0.5,
                "SOCKET_CONNECT_TIMEOUT": 0.5,
            },
        }
        for alias in ALIASES
    }


@pytest.fixture(autouse=True)
def site(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(past, "_trail", None)  # nobody has cleared
    for server in cluster.primaries:
        server.ask("FLUSHALL")
    site = {"SEARCH_CACHE_DEDICATED": False, "STORE_RETRY_INTERVAL": RETRY}
    with override_settings(CACHES=aliases_in(cluster), ANALYTICS_ADMIN=site):
        yield


def other_than(cluster: Cluster, key: str) -> Any:
    return next(server for server in cluster.primaries if server is not cluster.owner(key))


def test_all_that_both_engines_store_lies_in_the_slots_of_their_aliases(cluster: Cluster) -> None:
    cache = SearchCache(lambda: "search")
    cache.lookup("q", lambda: 1, timeout=60, tags=["a", "b"])
    for _ in range(3):
        circuit_breaker("slot", failure_threshold=3).acquire().fail()
    operator_store().register(["another"], keep_for=None)
    keys = [key for server in cluster.primaries for key in server.ask("KEYS", "*")]
    assert keys
    assert {key.split(b":")[0] for key in keys} == {b"{search}", b"{breakers}"}


def test_a_moved_slot_is_followed_within_the_same_request(cluster: Cluster) -> None:
    cache, store = SearchCache(lambda: "search"), RedisStore("breakers", timeout=1)
    client = dedicated_client("search", timeout=1)
    assert cache.lookup("q", lambda: 1, timeout=60).state == "miss"
    store.check_writable()
    client.set("{search}:a", 1)
    for tag in ("{search}", "{breakers}"):
        cluster.move_slot(tag, other_than(cluster, tag))
    # On another server the audit trail is asked first whether the values still count.
    assert cache.lookup("q", lambda: 1, timeout=60).state in {"hit", "miss"}
    assert cache.lookup("q", lambda: 1, timeout=60).state == "hit"
    store.check_writable()
    assert client.get("{search}:a") == b"1"
    pipeline = client.pipeline(transaction=True)
    cluster.move_slot("{search}", other_than(cluster, "{search}"))
    assert pipeline.set("{search}:a", 2).get("{search}:a").execute() == [True, b"2"]
    cluster.move_slot("{default}", other_than(cluster, "{default}"))
    caches["default"].set("a", 1)  # the site's own use of such an alias, too
    cluster.move_slot("{default}", other_than(cluster, "{default}"))
    assert caches["default"].get("a") == 1


def test_a_slot_on_its_way_is_an_outage_without_an_exception(cluster: Cluster) -> None:
    cache = SearchCache(lambda: "search")
    states = [cache.lookup(number, int, timeout=60).state for number in range(20)]
    target = other_than(cluster, "{search}")
    source, slot = cluster.begin_move("{search}", target)
    names = source.ask("CLUSTER", "GETKEYSINSLOT", str(slot), "7")
    source.ask(*f"MIGRATE 127.0.0.1 {target.port} {names[0].decode()} 0 5000".split())
    for number in range(25):
        answer = cache.lookup(number, int, timeout=60)
        assert answer.value == 0
        states.append(answer.state)
    assert "bypass" in states
    cluster.move_keys(source, slot, target)
    cluster.end_move(slot, target)
    ended_at = time.monotonic()
    while cache.lookup(1, int, timeout=60).state != "hit":
        assert time.monotonic() - ended_at < RETRY + 0.5


def test_the_first_node_may_be_away(cluster: Cluster) -> None:
    gone = aliases_in(cluster)
    for alias in ALIASES:
        gone[alias]["LOCATION"] = f"redis://127.0.0.1:1?tag={alias}"
    with override_settings(CACHES=gone):
        assert dedicated_client("search", timeout=1).set("{search}:a", 1)


def test_a_clear_spares_other_prefixes_even_where_a_flush_is_asked_for(cluster: Cluster) -> None:
    caches["search"].set_many(dict.fromkeys(range(300), 1))
    neighbour = dedicated_client("search", timeout=1)
    neighbour.mset({f"{{search}}er:{number}": 1 for number in range(50)})
    neighbour.mset({f"other{{search}}:{number}": 1 for number in range(50)})
    with override_settings(ANALYTICS_ADMIN={"SEARCH_CACHE_DEDICATED": True}):
        assert hard.preview().way == "unlink"
        assert "cluster" in hard.preview().not_flushed
        outcome = hard.clear()
    assert (outcome.way, outcome.keys, outcome.finished) == ("unlink", 300, True)
    keys = neighbour.keys("*")
    assert sum(b"other" in key or b"}er" in key for key in keys) == 100
    assert len(keys) == 101  # and the epoch record


@pytest.mark.django_db
def test_a_thousand_breakers_are_listed_and_reset() -> None:
    names = [f"many.{number}" for number in range(1000)]
    operator_store().register(names, keep_for=None)
    actor = services.Actor.system("test")
    services.set_breaker_controls(names=names[:20], control="disabled", actor=actor)
    listed = [breaker for breaker in services.list_breakers() if breaker.name in set(names)]
    assert len(listed) == 1000
    assert sum(breaker.state == "disabled" for breaker in listed) == 20
    assert "reset" in services.reset_circuit_breakers(actor=actor).message
    assert {breaker.state for breaker in services.list_breakers()} == {"closed"}


class TestOnItsWay:
    """While the keys of a slot move one by one, whatever is asked is answered, and rightly."""

    @pytest.fixture(params=[0, 1, 2])
    def chance(self, request: pytest.FixtureRequest) -> random.Random:
        return random.Random(request.param)

    def steps(self, cluster: Cluster, tag: str, keys: int = 1) -> Iterator[int]:
        """Move the slot of the tag, so many keys at a step; its last step is the end."""
        target = other_than(cluster, tag)
        source, slot = cluster.begin_move(tag, target)
        yield 0
        while names := source.ask("CLUSTER", "GETKEYSINSLOT", str(slot), str(keys)):
            for name in names:
                text = f"MIGRATE 127.0.0.1 {target.port} {name.decode()} 0 5000 REPLACE"
                source.ask(*text.split())
            yield len(names)
        cluster.move_keys(source, slot, target)
        cluster.end_move(slot, target)

    def test_searches_get_no_value_of_before_a_change(
        self, cluster: Cluster, chance: random.Random
    ) -> None:
        cache, truths = SearchCache(lambda: "search"), {number: {0} for number in range(12)}
        for number in truths:
            cache.set(number, 0, timeout=60)
        met = set()
        for version, _ in enumerate(self.steps(cluster, "{search}"), 1):
            for number in chance.sample(sorted(truths), 4):
                if chance.random() < 0.5:
                    if cache.set(number, version, timeout=60):
                        truths[number] = {version}
                    else:  # it may have been done
                        truths[number].add(version)
                answer = cache.lookup(number, lambda: max(truths[number]), timeout=60)  # noqa: B023
                assert answer.value in truths[number]
                if answer.state != "bypass":
                    truths[number] = {answer.value}
                met.add(answer.state)
        assert "bypass" in met
        ended_at = time.monotonic()
        while cache.lookup("late", int, timeout=60).state != "hit":
            assert time.monotonic() - ended_at < RETRY + 0.5
        for number, values in truths.items():
            assert cache.get(number, min(values)) in values

    @pytest.mark.django_db
    def test_calls_go_on_and_an_act_that_is_done_holds(
        self, cluster: Cluster, chance: random.Random
    ) -> None:
        actor = services.Actor.system("test")
        names = [f"way.{chance.randrange(10**9)}.{number}" for number in range(4)]
        breakers = [circuit_breaker(name) for name in names]
        operator_store().register(names, keep_for=None)
        held, refused = set(), set()
        for _ in self.steps(cluster, "{breakers}", keys=3):
            for breaker in breakers:
                with suppress(CircuitOpenError):
                    assert breaker.call(lambda: "answer") == "answer"
            name = chance.choice(names)
            try:
                services.set_breaker_control(name=name, control="forced_open", actor=actor)
            except services.OperationFailed as error:
                refused.add(str(error.reason))
            else:
                held.add(name)
        assert refused <= {"the cluster is moving the key to another node"}
        states = {each.name: each.state for each in services.list_breakers()}
        assert {name for name in held if states[name] != "forced_open"} == set()

    def test_a_slot_that_nobody_has_is_an_outage_until_somebody_has_it(
        self, cluster: Cluster
    ) -> None:
        cache = SearchCache(lambda: "search")
        assert cache.set("q", 1, timeout=60)
        owner, slot = cluster.owner("{search}"), str(key_slot(b"search"))
        for server in cluster.primaries:
            server.ask("CLUSTER", "DELSLOTS", slot)
        assert [cache.lookup("q", lambda: 1, timeout=60).state for _ in range(3)] == ["bypass"] * 3
        for server in cluster.primaries:
            server.ask("CLUSTER", "SETSLOT", slot, "NODE", owner.ask("CLUSTER", "MYID").decode())
        back_at = time.monotonic()
        while cache.lookup("q", lambda: 1, timeout=60).state != "hit":
            assert time.monotonic() - back_at < RETRY + 0.5
