"""One part of the list of breakers: filtered, searched, sorted, in few round trips.

Most breakers are closed: only the others, which the store lists, are read to be told apart.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from analytics_admin.breakers import engine
from analytics_admin.breakers.registry import declared_names
from analytics_admin.breakers.roster import BreakerStatus, shown, status_of
from analytics_admin.breakers.snapshot import Control, State
from analytics_admin.breakers.store import Survey

SORTS = ("name", "urgency")
HOLDS = frozenset(control.value for control in Control if control is not Control.AUTOMATIC)
LABELS = {*State, *HOLDS}
_URGENCY: Mapping[str, int] = {State.OPEN: 0, Control.FORCED_OPEN: 0, State.CLOSED: 2}

# What each question read the last time, to be asked for in the first round trip of the next: the
# console asks the same again and again. A wrong guess costs a second one.
_Question = tuple[str | None, str, str, int | None, int | None]
_read_before: dict[_Question, Sequence[str]] = {}
QUESTIONS_KEPT = 50
GUESSES_KEPT = 500
MOST_READ = 500
"""Breakers that are read to be told apart; among more of them, the store's word is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some of the ``count`` breakers that were asked for; ``states`` counts all that there are."""

    count: int
    breakers: Sequence[BreakerStatus]
    states: Mapping[str, int]
    now: float
    """Of the store."""


def list_part(*, state: str | None, search: str, sort: str, bounds: slice) -> Part:
    """Return the breakers in the state whose names hold ``search``: those within the bounds.

    Raises:
        StoreUnavailable
    """
    wanted = search.strip().casefold()
    question = (state, wanted, sort, bounds.start, bounds.stop)
    guess = _read_before.get(question, ())
    found = _Found(engine.act_store().survey(guess, keep_for=engine.keep_for()))
    names = sorted(name for name in found.names if wanted in name.casefold())
    told_apart: Collection[str] = found.held
    if state is not None or sort == "urgency":
        told_apart = {*found.held, *found.astir.keys() & names}
        if len(told_apart) > MOST_READ:
            told_apart = found.held
    found.read(told_apart)
    if state is not None:
        names = [name for name in names if found.state(name) == state]
    if sort == "urgency":
        names.sort(key=lambda name: (_URGENCY.get(found.state(name), 1), name))
    page = names[bounds]
    found.read(page)
    _remember(question, {*told_apart, *page})
    statuses = [found.status(name) for name in page]
    return Part(count=len(names), breakers=statuses, states=found.states(), now=found.now)


class _Found:
    """What was learnt of the breakers so far."""

    def __init__(self, survey: Survey) -> None:
        self.names = survey.names | declared_names()
        self.astir = {name: it for name, it in survey.astir.items() if name in self.names}
        # Only reading them tells whether the hold is over.
        self.held = [name for name, label in self.astir.items() if label in HOLDS]
        self.now = survey.reading.now
        self._snapshots = dict(survey.reading.snapshots)

    def read(self, names: Iterable[str]) -> None:
        """Read those that are not read yet."""
        missing = [name for name in names if name not in self._snapshots]
        if missing:
            reading = engine.act_store().load_many(missing)
            self.now = reading.now
            self._snapshots |= reading.snapshots

    def state(self, name: str) -> str:
        """Return what calls meet; one that was not read is as the store lists it, or closed."""
        if name in self._snapshots:
            return shown(self._snapshots[name], self.now)
        label = self.astir.get(name, State.CLOSED.value)
        return label if label in LABELS else State.UNKNOWN.value

    def states(self) -> dict[str, int]:
        """Count all breakers by state."""
        found = Counter(self.state(name) for name in {*self.astir, *self._snapshots} & self.names)
        found[State.CLOSED.value] += len(self.names) - found.total()
        return dict(found)

    def status(self, name: str) -> BreakerStatus:
        return status_of(name, self._snapshots[name], self.now)


def _remember(question: _Question, read: Collection[str]) -> None:
    if len(read) <= GUESSES_KEPT:
        _read_before[question] = tuple(read)
        while len(_read_before) > QUESTIONS_KEPT:
            _read_before.pop(next(iter(_read_before)), None)
