"""One part of the list of breakers: filtered, searched, sorted, in few round trips.

Most breakers are closed: only the others, which the store lists, are read to be told apart.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from analytics_admin.breakers import runtime
from analytics_admin.breakers.registry import declared_names
from analytics_admin.breakers.state import Control, State
from analytics_admin.breakers.status import MAX_READ_AT_ONCE, BreakerStatus, build_status, shown
from analytics_admin.breakers.stores.base import Reading, Survey

SORTS = ("name", "urgency")
HOLDS = frozenset(control.value for control in Control if control is not Control.AUTOMATIC)
LABELS = {*State, *HOLDS}
_URGENCY: Mapping[str, int] = {State.OPEN: 0, Control.FORCED_OPEN: 0, State.CLOSED: 2}

# What each question read the last time, to tell breakers apart and for its page, to be asked for in
# the first round trip of the next: the console asks the same again and again. A wrong guess costs a
# second one.
_Question = tuple[str | None, str, str, int | None, int | None]
_Guess = tuple[Sequence[str], Sequence[str]]
_read_before: dict[_Question, _Guess] = {}
QUESTIONS_KEPT = 50
GUESSES_KEPT = 500
MAX_BREAKERS_READ = 500
"""Breakers that are read to be told apart; among more of them, the store's word is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerList:
    """Some of the ``count`` breakers that were asked for; ``states`` counts all that there are."""

    count: int
    breakers: Sequence[BreakerStatus]
    states: Mapping[str, int]
    reading: Reading
    """What of the store it was taken from."""


def find_breakers(
    *, state: str | None, search: str, sort: str, bounds: slice, activity: bool = False
) -> BreakerList:
    """Return the breakers in the state whose names hold ``search``: those within the bounds.

    With ``activity`` the reading holds that of each of them.

    Raises:
        StoreUnavailable
    """
    wanted = search.strip().casefold()
    question = (state, wanted, sort, bounds.start, bounds.stop)
    found = _Found(_survey(*(_read_before.get(question) or _declared()), activity=activity))
    names = sorted(name for name in found.names if not wanted or wanted in name.casefold())
    distinguished: Collection[str] = found.held
    if state is not None or sort == "urgency":
        distinguished = {*found.held, *found.non_closed.keys() & names}
        if len(distinguished) > MAX_BREAKERS_READ:
            distinguished = found.held
    found.read(distinguished)
    if state is not None:
        names = [name for name in names if found.state(name) == state]
    if sort == "urgency":
        names = found.urgent_first(names)
    page = names[bounds]
    found.read(page, activity=activity)
    _remember(question, distinguished, page)
    return BreakerList(
        count=len(names),
        breakers=[found.status(name) for name in page],
        states=found.states(),
        reading=found.reading,
    )


def _survey(distinguished: Sequence[str], page: Sequence[str], *, activity: bool) -> Survey:
    return runtime.operator_store().survey(
        [*distinguished, *page],
        keep_for=runtime.keep_for(),
        activity_of=page if activity else None,
        all_up_to=MAX_READ_AT_ONCE,
    )


class _Found:
    """What was learnt of the breakers so far."""

    def __init__(self, survey: Survey) -> None:
        self.names = survey.names | declared_names()
        self.non_closed = {name: it for name, it in survey.non_closed.items() if name in self.names}
        # Only reading them tells whether the hold is over.
        self.held = [name for name, label in self.non_closed.items() if label in HOLDS]
        self.reading = survey.reading

    def read(self, names: Iterable[str], *, activity: bool = False) -> None:
        """Read those that are not read yet."""
        known = self.reading.activity if activity else self.reading.snapshots
        missing = [name for name in names if name not in known]
        if missing:
            found = runtime.operator_store().load_many(
                missing, activity_of=missing if activity else ()
            )
            self.reading = self.reading.joined(found)

    def state(self, name: str) -> str:
        """Return what calls meet; one that was not read is as the store lists it, or closed."""
        if name in self.reading.snapshots:
            return shown(self.reading.snapshots[name], self.reading.now)
        label = self.non_closed.get(name, State.CLOSED.value)
        return label if label in LABELS else State.UNKNOWN.value

    def urgent_first(self, names: Sequence[str]) -> list[str]:
        """Sort names that are in order by urgency; most are closed, and stay where they are."""
        moved = self.non_closed.keys() | self.reading.snapshots.keys()
        urgent = [
            name for name in names if name in moved and self.state(name) != State.CLOSED.value
        ]
        urgent.sort(key=lambda name: _URGENCY.get(self.state(name), 1))
        first = frozenset(urgent)
        return [*urgent, *(name for name in names if name not in first)]

    def states(self) -> dict[str, int]:
        """Count all breakers by state."""
        found = Counter(
            self.state(name) for name in {*self.non_closed, *self.reading.snapshots} & self.names
        )
        found[State.CLOSED.value] += len(self.names) - found.total()
        return dict(found)

    def status(self, name: str) -> BreakerStatus:
        return build_status(name, self.reading.snapshots[name], self.reading.now)


def _declared() -> _Guess:
    """Guess that those count which need not be in the store, if they are few."""
    names = tuple(declared_names())
    return ((), names) if len(names) <= MAX_READ_AT_ONCE else ((), ())


def _remember(question: _Question, distinguished: Collection[str], page: Sequence[str]) -> None:
    if len({*distinguished, *page}) <= GUESSES_KEPT:
        _read_before[question] = (tuple(distinguished), tuple(page))
        while len(_read_before) > QUESTIONS_KEPT:
            _read_before.pop(next(iter(_read_before)), None)
