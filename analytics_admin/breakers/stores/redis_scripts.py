"""The Redis store's scripts. They compare and count atomically; the rules are in state_machine.

Each lies in ``lua/``, with its keys and arguments in its first lines; it touches no other keys. All
keys of an alias begin with ``<prefix>{breakers:2}:``, so that they share a slot; 2 is the number of
this layout.

``record:<name>`` is a hash of everything that decides about calls, so that no part of it can be
lost alone:

    record  generation, state, entered_at, wait, attempts, permits granted, consecutive failures,
            last_failure_at, calls, failures, slow calls, control or "-", times: microseconds since
            entered_at of the newest success that ended a run, then of the run's last failures
    hold    JSON: until (null: for ever), actor, reason
    probers the processes that hold permits, see ``probers.lua``
    and the fields of each window, see ``windows.lua``

A new generation begins with a new hash. For operators: ``moves:<name>`` is a list of transitions
and ``failures:<name>`` one of failures, both newest first; ``periods:<name>`` is a hash of "calls
failures slow rejected" by the second at which each period begins; ``policies:<name>`` is a hash of
policies by the second of their last report; ``totals:<name>`` is what ``totals.lua`` says.
``index`` is a sorted set of names by last use. ``not_closed`` is a hash of the breakers that are
not closed, by name: the state, or the hold and when it ends. ``sequence`` is the number of the last
change that all processes have to hear of; each is published with its number on the channel
``moves``. ``sent:<sender>:<place>`` is what ``once.lua`` says; it expires within a minute.

``processes`` is a hash of the processes that use breakers, by their ids: when each was last heard
of, since when, the newest change that it has read, "1" if changes are pushed to it or "0", in how
many milliseconds the store answers it, and JSON: host, pid, release, policies' hash. Its field
``swept`` is when it was last rid of those that are gone, and the longest of these answers.

``server`` is the identity of the server whose data were last compared with the audit trail, or "-",
and the second since when it is known; then that for which a process was last asked to compare,
and when.
"""

import re

from analytics_admin.breakers.history import (
    MAX_FAILURES,
    MAX_PERIODS,
    MAX_POLICIES,
    MAX_TRANSITIONS,
    PERIOD_SECONDS,
    RETENTION_SECONDS,
)
from analytics_admin.breakers.policy import (
    MAX_WINDOW_CALLS,
    MAX_WINDOW_SECONDS,
    TIME_BASED,
    BreakerPolicy,
)
from analytics_admin.breakers.presence import (
    COMPARE_SECONDS,
    FORGIVEN_SECONDS,
    GONE_SECONDS,
    MAX_PROCESSES,
    PRESENT_SECONDS,
    WATCH_SECONDS,
)
from analytics_admin.breakers.state import RUN_TIMES
from analytics_admin.breakers.state_machine import CLOSE_SHARE
from analytics_admin.breakers.stores.records import (
    MAX_HOLD_BYTES,
    MAX_PROCESS_BYTES,
    MAX_PUBLISHED_BYTES,
    MAX_RECORD_BYTES,
    MAX_ROW_BYTES,
)
from analytics_admin.breakers.windows import MAX_BUCKETS
from analytics_admin.stores.client import load_script, script_hash

_CONSTANTS = {
    "FORGIVEN_SECONDS": FORGIVEN_SECONDS,
    "COMPARE_SECONDS": COMPARE_SECONDS,
    "WATCH_SECONDS": WATCH_SECONDS,
    "GONE_SECONDS": GONE_SECONDS,
    "MAX_PROCESSES": MAX_PROCESSES,
    "MAX_PROCESS_BYTES": MAX_PROCESS_BYTES,
    "PRESENT_SECONDS": PRESENT_SECONDS,
    "DEFAULT_WINDOW_SIZE": BreakerPolicy().sliding_window_size,
    "LAST_FAILURE": MAX_FAILURES - 1,
    "LAST_TRANSITION": MAX_TRANSITIONS - 1,
    "MAX_BUCKETS": MAX_BUCKETS,
    "MAX_BUCKETS_BYTES": 30 * (MAX_BUCKETS + 2),
    "MAX_HOLD_BYTES": MAX_HOLD_BYTES,
    "MAX_PERIODS_STORED": MAX_PERIODS + 10,
    "MAX_POLICIES": MAX_POLICIES,
    "MAX_PUBLISHED_BYTES": MAX_PUBLISHED_BYTES,
    "MAX_RECORD_BYTES": MAX_RECORD_BYTES,
    "RUN_TIMES": RUN_TIMES,
    "MAX_ROW_BYTES": MAX_ROW_BYTES,
    "MAX_WINDOW_FIELDS": 20,
    "MAX_WINDOW_SIZE": max(MAX_WINDOW_CALLS, MAX_WINDOW_SECONDS),
    "CLOSE_SHARE": CLOSE_SHARE,
    "PERIODS_SECONDS": PERIOD_SECONDS * MAX_PERIODS,
    "PERIODS_TTL_SECONDS": PERIOD_SECONDS * (MAX_PERIODS + 1),
    "PERIOD_SECONDS": PERIOD_SECONDS,
    "RESEND_SECONDS": 60,
    "RETENTION_SECONDS": RETENTION_SECONDS,
    "TIME_BASED": TIME_BASED,
}
_CONSTANT = re.compile(rf"\b({'|'.join(_CONSTANTS)})\b")
_HEADER = re.compile(r"\A(--.*\n)*")


def _body(name: str) -> str:
    """Return a file's Lua with the constants filled in, without its header."""
    text = _HEADER.sub("", load_script(__package__, name))
    return _CONSTANT.sub(lambda found: str(_CONSTANTS[found[1]]), text)


def _script(name: str, *parts: str) -> str:
    """Return the parts, one after another, and what does it, as one script."""
    return "".join(f"\n{_body(file)}" for file in (*(f"parts/{part}" for part in parts), name))


COUNT_RESULTS = _script(
    "count_results", "record", "probers", "windows", "history", "totals", "publish", "once"
)
COMPARE_AND_SET = _script(
    "compare_and_set", "record", "probers", "history", "totals", "publish", "once"
)
LOAD_MANY = _script("load_many", "record", "history", "publish")
READ_TOTALS = _script("read_totals", "record", "totals")
READ_TRANSITIONS = _script("read_transitions", "record", "history")
REGISTER = _script("register", "record")
RETIRE = _script("retire", "record")
INSPECT = _script("inspect", "record", "windows", "history")
FORGET = _script("forget", "record", "publish")
WRITE_PROCESS = _script("write_process", "record", "publish", "server")
SETTLE_SERVER = _script("settle_server", "record", "server")
READ_PROCESSES = _script("read_processes", "record", "publish")
REMOVE_PROCESS = _script("remove_process", "record")

BY_HASH = {
    script_hash(script): script
    for script in (
        *(
            COUNT_RESULTS,
            COMPARE_AND_SET,
            LOAD_MANY,
            READ_TOTALS,
            READ_TRANSITIONS,
            REGISTER,
            RETIRE,
            INSPECT,
            FORGET,
        ),
        *(WRITE_PROCESS, READ_PROCESSES, REMOVE_PROCESS, SETTLE_SERVER),
    )
}
