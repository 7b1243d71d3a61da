"""Four processes under traffic while their store fails over or moves: what callers notice."""

import re
import time
from typing import Any

import pytest

from tests.support.clusters import Cluster
from tests.support.fleets import FIRST_CALLS, RETRY, Fleet, fleet_of, last_without_store, slowest
from tests.support.sentinels import SERVICE, SentinelGroup
from tests.support.servers import StoreServer
from tests.support.ways import Way

CALL_SECONDS = 0.05
FIRST_SECONDS = 0.15
"""For a first look: at the address, the connection and what is asked over it, all together."""
BACK_SECONDS = RETRY + 0.5
LEFT_SECONDS = 3.5


def check(fleet: Fleet, *, back_at: float, losses: int = 1) -> list[list[dict[str, Any]]]:
    """Check what each process has met; at each loss one search may open a connection anew."""
    for log in (logs := fleet.end()):
        assert [round_ for round_ in log if "error" in round_] == []
        for part in ("call", "search"):
            first = log[:FIRST_CALLS]
            assert max(round_[part] - round_["waited"] for round_ in first) < FIRST_SECONDS
        assert slowest(log, "call") < CALL_SECONDS
        searches = sorted(round_["search"] - round_["waited"] for round_ in log[FIRST_CALLS:])
        assert searches[-1] < FIRST_SECONDS
        assert searches[-1 - losses] < CALL_SECONDS
        assert last_without_store(log, after=back_at) - back_at < BACK_SECONDS
        assert log[-1]["met"] == "hit"
    return logs


@pytest.mark.parametrize(
    ("primary", "first_sentinel"), [("killed", "frozen"), ("frozen", "killed")]
)
def test_a_lost_primary_costs_no_call_more_than_a_moment(primary, first_sentinel, tmp_path):
    trouble = {"killed": StoreServer.stop, "frozen": StoreServer.freeze}
    with SentinelGroup() as group:
        hosts = ",".join(f"{host}:{port}" for host, port in group.addresses)
        trouble[first_sentinel](group.sentinels[0])
        with fleet_of(tmp_path, Way(url=f"redis+sentinel://{hosts}/{SERVICE}")) as fleet:
            time.sleep(1)
            trouble[primary](group.primary)
            group.await_primary(other_than=group.primary.port)
            back_at = time.monotonic()
            time.sleep(BACK_SECONDS + 0.5)
            check(fleet, back_at=back_at)


def site_connections(server: StoreServer) -> list[bytes]:
    """Return the connections of search and breakers that were used within two seconds."""
    return re.findall(rb" idle=[01] .* db=[12] ", server.ask("CLIENT", "LIST"))


def test_an_old_primary_that_takes_requests_is_left(tmp_path):
    """After a failover on demand it does so until the Sentinels demote it, for eight seconds."""
    with SentinelGroup(down_after=5) as group:
        hosts = ",".join(f"{host}:{port}" for host, port in group.addresses)
        with fleet_of(tmp_path, Way(url=f"redis+sentinel://{hosts}/{SERVICE}")) as fleet:
            time.sleep(1)
            assert len(site_connections(group.primary)) >= 4 * 2
            group.sentinels[1].ask("SENTINEL", "FAILOVER", SERVICE)
            new = group.await_primary(other_than=group.primary.port)
            began = time.monotonic()
            while site_connections(group.primary):
                # Each process asks each second; the Sentinels tell each other every two.
                assert time.monotonic() - began < LEFT_SECONDS + 2
                time.sleep(0.05)
            assert group.primary.ask("ROLE")[0] == b"master"
            assert len(site_connections(new)) >= 4 * 2
            check(fleet, back_at=time.monotonic())


def owners(cluster: Cluster) -> dict[str, StoreServer]:
    return {tag: cluster.owner(f"{{{tag}}}") for tag in ("search", "breakers")}


def test_slots_that_move_and_a_primary_that_dies_cost_no_call_more_than_a_moment(tmp_path):
    with Cluster(replicas=3) as cluster:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in cluster.servers)
        with fleet_of(tmp_path, Way(url=f"redis+cluster://{hosts}")) as fleet:
            time.sleep(1)
            for tag, owner in owners(cluster).items():
                target = next(server for server in cluster.primaries if server is not owner)
                cluster.move_slot(f"{{{tag}}}", target)
            moved_at = time.monotonic()
            time.sleep(BACK_SECONDS + 0.5)
            dead = owners(cluster)["breakers"]
            killed_at = time.monotonic()
            dead.stop()
            while dead in owners(cluster).values():
                time.sleep(0.02)
            back_at = time.monotonic()
            time.sleep(BACK_SECONDS + 0.5)
            logs = check(fleet, back_at=back_at, losses=2)
    for log in logs:
        before = [round_ for round_ in log if round_["at"] < killed_at]
        assert last_without_store(before, after=moved_at) - moved_at < BACK_SECONDS
