"""Whether the fleet obeys an operation: how many of its processes have read what it changed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analytics_admin.breakers import runtime
from analytics_admin.breakers.presence import SILENT_SECONDS, Process
from analytics_admin.breakers.stores.base import BreakerStore, StoreUnavailable
from analytics_admin.i18n import Message, ngettext_lazy
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.models import Operation

OBEYED_KINDS = (
    Operation.Kind.RESET_CIRCUIT_BREAKERS,
    Operation.Kind.CONTROL_CIRCUIT_BREAKERS,
    Operation.Kind.ALLOW_PROBE,
)
"""Operations that change the state or the hold of breakers, which processes then obey."""
MAX_MISSING_RECORDED = 20
MAX_MISSING_NAMED = 3
MAX_WAIT_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.005
MAX_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingProcess:
    """A process that did not say in time that it obeys."""

    host: str
    pid: int
    last_heard: float
    """Seconds from when it was last heard of until the operation stopped waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obedience:
    """How many of the processes that use breakers obey an operation.

    Both are None, and ``error`` says why, where the store was lost after the operation.
    """

    processes: int | None
    obeyed: int | None
    missing: Sequence[MissingProcess] = ()
    """Those that are missing, at most 20."""
    error: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether all processes obey, as far as is known."""
        return self.processes is not None and self.processes == self.obeyed

    @property
    def figures(self) -> str:
        """The figures as a header has them: ``6/8``, or ``unknown``."""
        return "unknown" if self.processes is None else f"{self.obeyed}/{self.processes}"

    @property
    def totals(self) -> Message:
        """The figures as a sentence without its full stop."""
        if self.processes is None:
            return Message(_("whether processes obey is unknown: %(reason)s"), reason=self.error)
        if not self.processes:
            return Message(_("no process uses circuit breakers"))
        template = ngettext_lazy(
            "obeyed by %(obeyed)d of %(processes)d process",
            "obeyed by %(obeyed)d of %(processes)d processes",
            "processes",
        )
        return Message(template, obeyed=self.obeyed, processes=self.processes)

    @property
    def message(self) -> Message:
        """The totals, and the first of those that are missing."""
        text = self.totals
        if self.processes is None:
            return text
        for process in self.missing[:MAX_MISSING_NAMED]:
            text = Message(
                _("%(text)s; %(host)s/%(pid)s last heard %(seconds)s s ago"),
                text=text,
                host=process.host,
                pid=process.pid,
                seconds=round(process.last_heard),
            )
        unnamed = self.processes - (self.obeyed or 0) - MAX_MISSING_NAMED
        return (
            Message(_("%(text)s; %(number)s more"), text=text, number=unnamed)
            if unnamed > 0
            else text
        )

    def to_record(self) -> dict[str, Any]:
        """Return it as the operation's row keeps it."""
        record: dict[str, Any] = {
            "processes": self.processes,
            "obeyed": self.obeyed,
            "missing": [
                {
                    "host": process.host,
                    "pid": process.pid,
                    "last_heard": round(process.last_heard, 1),
                }
                for process in self.missing
            ],
        }
        return record | ({"error": self.error} if self.error else {})

    @classmethod
    def from_record(cls, record: Any) -> "Obedience | None":
        """Return what a row keeps; None if it keeps nothing that can be read."""
        if not isinstance(record, dict):
            return None
        processes, obeyed = record.get("processes"), record.get("obeyed")
        numbers = [number for number in (processes, obeyed) if type(number) is int and number >= 0]
        if len(numbers) < 2:
            error = record.get("error")
            return cls(processes=None, obeyed=None, error=error if isinstance(error, str) else "")
        missing = record.get("missing")
        return cls(
            processes=numbers[0],
            obeyed=numbers[1],
            missing=[
                MissingProcess(host=host, pid=pid, last_heard=seconds)
                for row in (missing if isinstance(missing, list) else [])
                if isinstance(row, dict)
                for host, pid, seconds in [(row.get("host"), row.get("pid"), row.get("last_heard"))]
                if isinstance(host, str) and type(pid) is int and isinstance(seconds, int | float)
            ],
        )


def await_obedience(sequence: int) -> Obedience:
    """Wait at most a second until all processes that are not silent have read this change.

    A ``sequence`` of 0 stands for the last one. Raises nothing: the change is made.
    """
    store, pause, longest = runtime.operator_store(), FIRST_PAUSE_SECONDS, 0.0
    ends_at = time.monotonic() + MAX_WAIT_SECONDS
    try:
        runtime.engine.acknowledge()
        while True:
            asked_at = time.monotonic()
            obedience, is_settled, sequence = _read_obedience(store, sequence)
            now = time.monotonic()
            longest = max(longest, now - asked_at)
            if is_settled or now + pause + longest > ends_at:
                return obedience
            time.sleep(pause)
            pause = min(1.5 * pause, MAX_PAUSE_SECONDS)
    except StoreUnavailable as error:
        return Obedience(processes=None, obeyed=None, error=error.reason)


def count_current() -> Obedience:
    """Return how many processes have read the last change of any breaker.

    Raises:
        StoreUnavailable
    """
    obedience, _, _ = _read_obedience(runtime.operator_store(), 0)
    return obedience


def count_obedient(processes: Sequence[Process], sequence: int, now: float) -> Obedience:
    """Return how many of these have read the change by the store's time ``now``."""
    missing = _find_missing(processes, sequence)
    return Obedience(
        processes=len(processes),
        obeyed=len(processes) - len(missing),
        missing=_describe_missing(missing, now),
    )


def _find_missing(processes: Sequence[Process], sequence: int) -> list[Process]:
    return [process for process in processes if process.acknowledged < sequence]


def _read_obedience(store: BreakerStore, sequence: int) -> tuple[Obedience, bool, int]:
    """Return who obeys, whether there is nobody to wait for, and the change in question."""
    now, newest, processes = store.processes()
    wanted = sequence or newest
    missing = _find_missing(processes, wanted)
    is_settled = all(now - process.seen_at > SILENT_SECONDS for process in missing)
    return count_obedient(processes, wanted, now), is_settled, wanted


def _describe_missing(processes: Sequence[Process], now: float) -> list[MissingProcess]:
    """Return the first of these, the longest silent ones before the others."""
    longest_first = sorted(processes, key=lambda process: (process.seen_at, process.place))
    return [
        MissingProcess(
            host=process.host, pid=process.pid, last_heard=max(0.0, now - process.seen_at)
        )
        for process in longest_first[:MAX_MISSING_RECORDED]
    ]
