"""A store that restarts without what operators did gets it again from the audit trail."""

import pytest

from tests.fleet.deployments import Deployment
from tests.fleet.doors import Rest

pytestmark = pytest.mark.hurried

NEW_PROCESS = """
import time
from analytics_admin.breakers import circuit_breaker
breaker, began = circuit_breaker("lost"), time.monotonic()
breaker.call(int, fallback=None)
while breaker.state != "forced_open" and time.monotonic() < began + 30:
    time.sleep(0.1)
    breaker.call(int, fallback=None)
print(breaker.state)
"""


def test_a_hold_comes_back_though_no_process_knows_of_it(staffed: Deployment) -> None:
    rest = Rest(staffed)
    staffed.manage("shell", "-c", NEW_PROCESS.replace("30", "0"))  # registers the name
    assert rest.hold("lost", "forced_open", 600.0).outcome == "done"
    staffed.store.stop()
    staffed.store.start()
    shown = staffed.manage("shell", "-c", NEW_PROCESS)
    assert shown.stdout.split()[-1] == "forced_open"
    rows = staffed.rows("actor", "status", "targets")
    again = [row for row in rows if row[0] == "reconciliation" and '"lost"' in row[2]]
    assert [status for _, status, _ in again if status == "done"] == ["done"]
    assert "lost" in rest.look()
