"""The Redis store's scripts. They compare and count atomically; the rules are in state_machine.

Each lies in ``lua/``, with its keys and arguments in its first lines. All keys of one breaker share
a hash tag. ``<record>`` is a hash:

    g generation, s state, e entered_at, w wait, a attempts, p permits granted,
    r consecutive failures, l last_failure_at, c calls, f failures, o slow calls,
    and under a hold: k control, u until ("" for ever), x actor, z reason

``windows.lua`` describes the keys of its windows. For operators: ``<record>:moves`` is a list of
transitions and ``<record>:failures`` one of failures, both newest first; ``<record>:history`` is a
hash of "calls failures slow rejected" by the second at which each period begins;
``<record>:policies`` is a hash of policies by the second of their last report. The index is a
sorted set of names by last use. ``<index>:astir`` is a hash of the breakers that are not closed, by
name: the state, or the hold and when it ends.
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
from analytics_admin.breakers.policy import TIME_BASED, BreakerPolicy
from analytics_admin.stores.client import load_script

_CONSTANTS = {
    "DEFAULT_WINDOW_SIZE": BreakerPolicy().sliding_window_size,
    "LAST_FAILURE": MAX_FAILURES - 1,
    "LAST_TRANSITION": MAX_TRANSITIONS - 1,
    "MAX_PERIODS_STORED": MAX_PERIODS + 10,
    "MAX_POLICIES": MAX_POLICIES,
    "PERIODS_SECONDS": PERIOD_SECONDS * MAX_PERIODS,
    "PERIODS_TTL_SECONDS": PERIOD_SECONDS * (MAX_PERIODS + 1),
    "PERIOD_SECONDS": PERIOD_SECONDS,
    "RETENTION_SECONDS": RETENTION_SECONDS,
    "TIME_BASED": TIME_BASED,
}
_CONSTANT = re.compile(rf"\b({'|'.join(_CONSTANTS)})\b")
_HEADER = re.compile(r"\A(--.*\n)*")


def _body(name: str) -> str:
    """Return a file's Lua with the constants filled in, without its header."""
    text = _HEADER.sub("", load_script(__package__, name))
    return _CONSTANT.sub(lambda found: str(_CONSTANTS[found[1]]), text)


def _script(*names: str) -> str:
    """Return the files, one after another, as one script."""
    return "".join(f"\n{_body(name)}" for name in names)


ADD = _script("record", "windows", "add")
COMPARE_AND_SET = _script("record", "compare_and_set")
LOAD_MANY = _script("record", "activity", "load_many")
READ_TRANSITIONS = _script("record", "read_transitions")
REGISTER = _script("record", "retirement", "register")
SURVEY = _script("record", "retirement", "activity", "survey")
INSPECT = _script("record", "windows", "inspect")
FORGET = _script("forget")
