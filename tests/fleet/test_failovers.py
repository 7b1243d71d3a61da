"""Four processes under traffic while their store fails over: what callers notice of it."""

import time

import pytest

from tests.support.fleets import RETRY, Fleet, fleet_of, last_without_store, slowest
from tests.support.sentinels import SERVICE, SentinelGroup
from tests.support.servers import StoreServer
from tests.support.ways import Way

CALL_SECONDS = 0.05
SEARCH_SECONDS = 0.15
"""What one call may cost: a search that notices the loss waits for its answer once."""
BACK_SECONDS = RETRY + 0.5


def check(fleet: Fleet, *, back_at: float) -> None:
    for log in fleet.end():
        assert [round_ for round_ in log if "error" in round_] == []
        assert slowest(log, "call") < CALL_SECONDS
        assert slowest(log, "search") < SEARCH_SECONDS
        assert last_without_store(log, after=back_at) - back_at < BACK_SECONDS
        assert log[-1]["met"] == "hit"


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
