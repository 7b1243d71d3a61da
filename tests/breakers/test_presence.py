"""Who uses breakers, by both stores: told and gone in time; damage concerns itself alone."""

import time
from collections.abc import Callable
from dataclasses import replace
from unittest.mock import Mock, patch

import pytest

from analytics_admin.breakers import presence as presence_module
from analytics_admin.breakers.presence import (
    GONE_SECONDS,
    PRESENT_SECONDS,
    Presence,
    Process,
    hash_policies,
)
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import BreakerStore, Move, Report
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.stores.redis import RedisStore
from tests.support.stored_breakers import key_of_site, raw_client

PROCESS = Process(process_id="a1", host="web-1", pid=7, release="1.0", policies="abc")
OTHER = replace(PROCESS, process_id="b2", host="wéb 2", pid=8, gets_pushes=True)


class Site:
    """A store in which time can pass for the processes that are written down."""

    def __init__(self, kind: str) -> None:
        self.ahead = 0.0
        self.store: BreakerStore = RedisStore("breakers", timeout=2)
        if kind == "memory":
            self.store = MemoryStore(lambda: 1e9 + self.ahead)

    def pass_time(self, seconds: float) -> None:
        if isinstance(self.store, MemoryStore):
            self.ahead += seconds
            return
        for process_id, entry in raw_client().hgetall(key_of_site("processes")).items():
            at, _, rest = entry.decode().partition(" ")
            earlier = f"{float(at) - seconds:.6f} {rest}".strip()
            raw_client().hset(key_of_site("processes"), process_id, earlier)


@pytest.fixture(params=["memory", "redis"])
def site(request: pytest.FixtureRequest) -> Site:
    return Site(request.param)


@pytest.fixture
def store(site: Site) -> BreakerStore:
    return site.store


def known(store: BreakerStore) -> list[str]:
    return sorted(process.process_id for process in store.processes()[2])


def test_a_process_is_read_as_it_told_with_the_stores_times(store: BreakerStore) -> None:
    now, sequence, _ = store.present(replace(PROCESS, acknowledged=12))
    read_at, same, (process,) = store.processes()
    assert process == replace(PROCESS, acknowledged=12, since=now, seen_at=now)
    assert (same, read_at >= now) == (sequence, True)


def test_since_stays_while_a_process_tells_again(site: Site) -> None:
    now = site.store.present(PROCESS).now
    site.pass_time(GONE_SECONDS - 1)
    site.store.present(replace(PROCESS, since=now, acknowledged=3))
    ((process,),) = site.store.processes()[2:]
    assert (process.since, process.acknowledged) == (now, 3)
    assert process.seen_at > now or site.ahead == 0


def test_each_process_is_counted_once(store: BreakerStore) -> None:
    for process in (PROCESS, OTHER, PROCESS):
        store.present(process)
    assert known(store) == ["a1", "b2"]
    assert {process.host for process in store.processes()[2]} == {"web-1", "wéb 2"}


def test_a_process_not_heard_of_for_long_is_gone(site: Site) -> None:
    site.store.present(PROCESS)
    site.pass_time(GONE_SECONDS - 1)
    assert known(site.store) == ["a1"]
    site.pass_time(2)
    assert known(site.store) == []
    site.store.present(OTHER)
    assert known(site.store) == ["b2"]


def test_a_process_that_is_gone_is_dropped_by_the_others() -> None:
    site = Site("redis")
    site.store.present(PROCESS)
    site.pass_time(GONE_SECONDS + PRESENT_SECONDS)
    site.store.present(OTHER)
    assert set(raw_client().hkeys(key_of_site("processes"))) == {b"b2", b"swept"}


def test_a_reading_says_how_far_from_the_store_the_farthest_process_is(site: Site) -> None:
    def slowest() -> float:
        return site.store.add([Report(name="any")]).slowest_answer

    assert slowest() == 0.0
    site.store.present(replace(OTHER, answered_in=0.02))
    site.store.present(replace(PROCESS, answered_in=0.4))
    site.store.present(replace(OTHER, answered_in=0.02))
    assert slowest() == 0.4
    site.pass_time(GONE_SECONDS + PRESENT_SECONDS)
    site.store.present(replace(OTHER, answered_in=0.02))
    assert slowest() == 0.02


def test_a_process_that_is_far_from_the_store_tells_so_at_once(site: Site) -> None:
    class FarStore:
        """The store; its answers are late."""

        def present(self, process: Process) -> tuple[float, int]:
            time.sleep(0.1)
            return site.store.present(process)

    Presence().tell(FarStore())  # type: ignore[arg-type]
    ((process,),) = site.store.processes()[2:]
    assert 0.1 <= process.answered_in < 5


def test_all_of_them_are_dropped_when_nobody_is_left_to_do_it() -> None:
    Site("redis").store.present(PROCESS)
    assert 0 < raw_client().ttl(key_of_site("processes")) <= 4 * GONE_SECONDS


def test_a_process_that_has_ended_is_forgotten_at_once(store: BreakerStore) -> None:
    for process in (PROCESS, OTHER):
        store.present(process)
    store.withdraw("a1")
    store.withdraw("nobody")
    assert known(store) == ["b2"]


def test_the_sequence_is_that_of_the_last_move(store: BreakerStore) -> None:
    before = store.present(PROCESS)[1]
    (moved,) = store.compare_and_set([Move(name="a", expected=None, new=new_record())])
    assert before < moved.sequence == store.present(PROCESS)[1] == store.processes()[1]


DAMAGES: dict[str, bytes] = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe 1 1 1 []",
    "nan": b'nan nan 1 1 ["h",1,"",""]',
    "400 digits": b"1 1 " + b"9" * 400 + b' 1 ["h",1,"",""]',
    "nested": b"1 1 1 1 " + b"[" * 1000,
    "huge": b"x" * 3_000_000,
    "no JSON": b"1 1 1 1 {",
    "of other types": b'1 1 1 1 [1,"x",null,{}]',
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_concerns_itself_alone_and_goes(damage: bytes) -> None:
    site = Site("redis")
    site.store.present(PROCESS)
    raw_client().hset(key_of_site("processes"), "bad", damage)
    assert known(site.store) == ["a1"]
    raw_client().hdel(key_of_site("processes"), "swept")
    site.store.present(PROCESS)
    assert known(site.store) == ["a1"]
    assert not raw_client().hexists(key_of_site("processes"), "bad")


@pytest.mark.parametrize("kind", ["string", "list", "crowd"])
def test_what_is_no_list_of_processes_makes_way(kind: str) -> None:
    site, key = Site("redis"), key_of_site("processes")
    if kind == "string":
        raw_client().set(key, b"\xff")
    elif kind == "list":
        raw_client().rpush(key, "x")
    else:
        raw_client().hset(key, mapping={f"p{number}": "x" for number in range(25_000)})
    assert known(site.store) == []
    site.store.withdraw("a1")
    site.store.present(PROCESS)
    assert known(site.store) == ["a1"]
    assert raw_client().hlen(key) == 2


def test_a_server_without_memory_still_answers() -> None:
    site, client = Site("redis"), raw_client()
    before = client.config_get("maxmemory")["maxmemory"]
    client.config_set("maxmemory", 1)
    try:
        assert site.store.present(PROCESS)[0] > 0
    finally:
        client.config_set("maxmemory", before)
    assert known(site.store) == []


@pytest.fixture
def presence() -> Presence:
    return Presence(lambda: "abc")


def test_a_process_tells_at_first_then_in_time_and_what_is_new_at_once(
    presence: Presence, store: BreakerStore
) -> None:
    spy = Mock(wraps=store)
    clock = Mock()
    with patch.object(presence_module, "time", clock):
        for now, acknowledged, gets_pushes, times in [
            (100.0, 0, False, 1),
            (100.0 + 0.7 * PRESENT_SECONDS, 0, False, 1),
            (100.0 + 1.1 * PRESENT_SECONDS, 0, False, 2),
            (105.6, 1, False, 3),
            (105.7, 1, True, 4),
        ]:
            clock.monotonic.return_value = now
            presence.acknowledged = acknowledged
            presence.tell(spy, gets_pushes=gets_pushes)
            assert spy.present.call_count == times


def test_a_process_keeps_its_identity_and_a_forked_child_has_its_own(
    presence: Presence, store: BreakerStore
) -> None:
    for acknowledged in (1, 2):
        presence.acknowledged = acknowledged
        presence.tell(store, gets_pushes=True)
    ((mine,),) = store.processes()[2:]
    assert (mine.acknowledged, mine.gets_pushes) == (2, True)
    assert mine.policies == "abc"
    presence.after_fork()
    presence.tell(store)
    assert len(known(store)) == 2


def test_a_process_withdraws_once_and_only_what_it_has_told(
    presence: Presence, store: BreakerStore
) -> None:
    withdrawn: list[str] = []

    class Watched:
        present: Callable[[Process], tuple[float, int]] = store.present

        def withdraw(self, process_id: str) -> None:
            withdrawn.append(process_id)
            store.withdraw(process_id)

    Presence().withdraw(Watched())  # type: ignore[arg-type]
    assert withdrawn == []
    presence.tell(store)
    for _ in range(2):
        presence.withdraw(Watched())  # type: ignore[arg-type]
    assert (len(withdrawn), known(store)) == (1, [])


def test_the_hash_of_policies_knows_no_order_and_every_difference() -> None:
    assert hash_policies(["a {}", "b {}"]) == hash_policies(["b {}", "a {}"])
    assert len({hash_policies(it) for it in ([], ["a"], ["a", "b"], ["ab"], ["a", ""])}) == 5
