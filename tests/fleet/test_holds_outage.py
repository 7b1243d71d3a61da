"""A hold that ends while the store is away ends in every process, and nothing revives it."""

import os
import time
from collections.abc import Iterator

import pytest

from tests.fleet import callers
from tests.fleet.callers import AFTERWARDS, ENDS, MEETS, PASSED, PROBE, Log
from tests.fleet.deployments import Deployment
from tests.fleet.doors import Rest
from tests.support.crew import Crew, sleep_until
from tests.support.servers import StoreServer

pytestmark = pytest.mark.hurried

SECONDS = 1.8
"""Seconds that a hold of the tests lasts."""
BOUND = 0.4
"""Seconds after which every process obeys, with time to spare; then the store is lost."""
RETRY = 0.3
"""STORE_RETRY_INTERVAL of the tests, in seconds."""
SLACK = 0.05
"""Seconds by which the processes' ideas of the store's clock may differ."""


@pytest.fixture(scope="module")
def crew(staffed: Deployment) -> Iterator[Crew]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "REDIS_URL", staffed.store.url)
        crew = Crew(3, patient=False)
    with crew:
        for worker in crew.workers:
            worker.ask(callers.hasten_return, RETRY)
        yield crew


def _freeze(site: Deployment) -> None:
    site.store.freeze()


def _kill_after_a_save(site: Deployment) -> None:
    site.client(2).save()
    site.store.stop()


def _thaw(store: StoreServer) -> None:
    store.thaw()


def _start(store: StoreServer) -> None:
    store.start()


def _start_empty(store: StoreServer) -> None:
    (store.folder / "dump.rdb").unlink()
    store.start()


FAULTS = {
    "frozen": (_freeze, _thaw),
    "restarted": (_kill_after_a_save, _start),
    "emptied": (_kill_after_a_save, _start_empty),
}


class Outage:
    """Holds of each kind that end while the store is away, and what three processes met."""

    def __init__(self, site: Deployment, crew: Crew, fault: str) -> None:
        self.names = {control: f"{fault}.{control}" for control in MEETS}
        for control in ("disabled", "metrics_only"):
            crew.workers[0].ask(callers.open_for_an_hour, self.names[control])
        crew.ask_all(callers.begin, list(self.names.values()))
        time.sleep(0.3)
        self._hold(site, crew)
        sleep_until(max(self.answered_at.values()) + BOUND)
        lose, bring_back = FAULTS[fault]
        lose(site)
        crew.ask_all(callers.wait_for_loss)
        sleep_until(max(*self.ends_at.values(), time.monotonic()) + PROBE + 0.5)
        self.back_at = time.monotonic()
        bring_back(site.store)
        crew.ask_all(callers.wait_for_return)
        time.sleep(PROBE + 0.8)
        self._logs: list[dict[str, Log]] = crew.ask_all(callers.end)
        ask = crew.workers[0].ask
        self.moves = {name: ask(callers.moves, name) for name in self.names.values()}

    def _hold(self, site: Deployment, crew: Crew) -> None:
        rest = Rest(site)
        answers = {c: rest.hold(name, c, SECONDS) for c, name in self.names.items()}
        assert {answer.outcome for answer in answers.values()} == {"done"}
        self.answered_at = {control: answer.answered_at for control, answer in answers.items()}
        ahead = time.time() - time.monotonic()
        self.ends_at = {
            control: crew.workers[0].ask(callers.moves, name)[-1].at + SECONDS - ahead
            for control, name in self.names.items()
        }

    def logs(self, control: str) -> list[Log]:
        return [logs[self.names[control]] for logs in self._logs]


@pytest.fixture(scope="module", params=FAULTS)
def outage(request: pytest.FixtureRequest, staffed: Deployment, crew: Crew) -> Outage:
    return Outage(staffed, crew, request.param)


every_control = pytest.mark.parametrize("control", MEETS)


@every_control
def test_each_process_obeys_until_the_end_and_not_a_call_longer(
    outage: Outage, control: str
) -> None:
    for log in outage.logs(control):
        bound_at, ends_at = outage.answered_at[control] + BOUND, outage.ends_at[control]
        assert log.met_between(bound_at, ends_at - SLACK) == {MEETS[control]}
        assert log.last_with(MEETS[control], after=ends_at) <= ends_at + SLACK


@every_control
def test_each_process_lets_calls_pass_again_while_the_store_is_still_away(
    outage: Outage, control: str
) -> None:
    ends_at, back_at = outage.ends_at[control], outage.back_at
    for log in outage.logs(control):
        met = log.met_between(ends_at + SLACK, back_at)
        assert PASSED + "closed" in met
        assert met <= AFTERWARDS[control]
        probes = log.count(PASSED + "half_open", before=back_at)
        assert probes == (1 if control == "forced_open" else 0)  # each process its own


@every_control
def test_when_the_store_is_back_nothing_revives_the_hold_and_its_end_is_written_once(
    outage: Outage, control: str
) -> None:
    name, back_at = outage.names[control], outage.back_at
    for log in outage.logs(control):
        after = log.met_between(back_at, float("inf"))
        assert PASSED + "closed" in after
        assert after <= AFTERWARDS[control]
    moves = [(it.to_state, it.cause) for it in outage.moves[name] if it.to_state != "open"]
    emptied = name.startswith("emptied")
    assert moves == ([] if emptied else [(control, "control"), *ENDS[control]])
    probes = sum(log.count(PASSED + "half_open", after=back_at) for log in outage.logs(control))
    assert probes == (1 if control == "forced_open" and not emptied else 0)
