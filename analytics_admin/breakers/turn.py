"""One turn of the reporter: it learns what was pushed, reports, reads, and answers callers."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import cast

from analytics_admin.breakers.listener import Listener
from analytics_admin.breakers.local_state import LocalState
from analytics_admin.breakers.presence import Presence
from analytics_admin.breakers.probes import Probes
from analytics_admin.breakers.reporter_requests import Request, Wish
from analytics_admin.breakers.schedule import MAX_DUE, Schedule
from analytics_admin.breakers.state import Snapshot
from analytics_admin.breakers.stores.base import BreakerStore, DamagedList, Push, RequestRefused
from analytics_admin.breakers.sync import StoreSync
from analytics_admin.stores.threads import RETRY_SECONDS

FOREVER = float("inf")
LISTEN_AFTER_SECONDS = 1.0
"""Age at which a process begins to listen; one that ends sooner does without."""


class Turn:
    """What the reporter does with the shared store each time.

    ``states`` are the breakers of the process by name. ``tell`` tells the store that the process is
    there and what its calls obey; it returns the seconds until that is due again.
    """

    def __init__(
        self,
        states: Mapping[str, LocalState],
        *,
        schedule: Schedule,
        sync: StoreSync,
        listener: Listener,
        presence: Presence,
        can_listen: Callable[[BreakerStore], bool],
        tell: Callable[[BreakerStore], float],
    ) -> None:
        self._states = states
        self._schedule = schedule
        self._sync = sync
        self.probes = Probes(sync)
        self._listener = listener
        self._presence = presence
        self._can_listen = can_listen
        self._tell = tell
        self._not_closed: set[str] | None = None
        self._read_up_to = math.inf
        self._pushed_up_to = 0
        """The number of the last change that was pushed, until all breakers are read for it."""
        self.after_fork()

    def after_fork(self) -> None:
        """Begin as a child."""
        self._began_at = time.monotonic()
        self.clear()

    def clear(self) -> None:
        """Forget what was read, and have nothing to do: the store is another."""
        self._schedule.clear()
        self._schedule.gets_pushes = False
        self.probes.spares.clear()
        self._not_closed = None
        self._presence.acknowledged = self._pushed_up_to = 0

    def lose_track(self) -> None:
        """Have every breaker read: those in use now, the others at their next calls."""
        self._not_closed = None
        self._schedule.read_all()

    def knows_as_closed(self, name: str) -> bool:
        """Return whether the first call of this breaker need not wait: it is closed, or new."""
        return self._not_closed is not None and name not in self._not_closed

    def have_next_call_wait(self, name: str) -> None:
        """Have the next call wait for its reading: what is known of the breaker is not true."""
        if (not_closed := self._not_closed) is not None:
            not_closed.add(name)

    def take(self, store: BreakerStore, requests: Sequence[Request]) -> float:
        """Report, read and answer; return the seconds until the next turn.

        Raises:
            StoreUnavailable, RequestRefused
        """
        if not self._presence.is_written:
            self._tell(store)  # so that a change that this process is to miss waits for it
        self._pushed_up_to = self._apply_pushes() or self._pushed_up_to
        self._schedule.asks_processes = store.asks_processes
        due = self._schedule.take_due(_asked_for(requests, self._schedule))
        if self._schedule.began_followed:
            self._read_not_closed(store)
            self._read_up_to = math.inf
        self._exchange(store, due)
        acknowledged = self._obeyed()
        self._answer(store, requests)
        self._presence.acknowledged = acknowledged or self._presence.acknowledged
        listens_in = self._listen(store)
        self.probes.give_back_spares(store)
        wait = min(listens_in, self._schedule.end_turn(), self.probes.due_in, self._tell(store))
        for request in requests:
            if request.wish is Wish.TELL:
                request.give(True)
        return wait

    def _exchange(self, store: BreakerStore, due: dict[str, LocalState]) -> None:
        """Report and read these, and note what follows from what was read."""
        for part in _parts(due):
            sequence = self._sync.synchronise(store, list(part.values()))
            self._read_up_to = min(self._read_up_to, sequence)
            for name, state in part.items():
                if state.snapshot is not None:
                    self._note_whether_closed(name, state.snapshot)
                if name not in self._schedule.followed:
                    state.rest()
                self._schedule.judge_run(name, self._sync.judging.seconds_to_judge(store, state))

    def _obeyed(self) -> int:
        """Return the number of the last change that calls obey by now; 0: as before."""
        reads_all = self._schedule.took_followed and not self._schedule.gets_pushes
        if reads_all and self._read_up_to < math.inf:
            return int(self._read_up_to)
        if self._schedule.has_stale:  # what was pushed is not read of all breakers yet
            return 0
        pushed, self._pushed_up_to = self._pushed_up_to, 0
        return pushed

    def obey(self, push: Push) -> None:
        """Have calls obey what was just pushed, in the listener's thread.

        The reporter takes the push later, for all that follows from it.
        """
        at = time.monotonic()
        for name, snapshot in push.snapshots.items():
            if snapshot is None:
                continue
            if not snapshot.is_plain:
                self.have_next_call_wait(name)
            if (state := self._states.get(name)) is not None and state.is_followed:
                state.apply_push(snapshot, push.now, at)

    def _apply_pushes(self) -> int:
        """Apply what was pushed; return the number of the last change, 0 if there was none.

        What has to be read for it becomes due.
        """
        sequence = 0
        for push in self._listener.take():
            if push.is_question:
                self._schedule.report_successes(push.snapshots)
                continue
            sequence = push.sequence
            if push.is_gap:
                self.lose_track()
            for name, snapshot in push.snapshots.items():
                self._apply_push(name, snapshot, push.now)
        if self._schedule.gets_pushes is not self._listener.gets_pushes:
            self._schedule.gets_pushes = self._listener.gets_pushes
            self.lose_track()
        return sequence

    def _apply_push(self, name: str, snapshot: Snapshot | None, now: float) -> None:
        state = self._states.get(name)
        if snapshot is not None or state is None or not state.is_followed:
            self._note_whether_closed(name, snapshot)  # else it is read at once
        if state is None:
            return
        is_known = snapshot is not None and state.apply_push(snapshot, now, time.monotonic())
        if state.is_followed:
            if not is_known:
                self._schedule.read(state)
            return
        state.close_gate()
        if not is_known:
            self.have_next_call_wait(name)

    def _note_whether_closed(self, name: str, snapshot: Snapshot | None) -> None:
        if self._not_closed is None:
            return
        if snapshot is not None and snapshot.is_plain:
            self._not_closed.discard(name)
        else:
            self._not_closed.add(name)

    def _read_not_closed(self, store: BreakerStore) -> None:
        """Read once which breakers are not closed, so that first calls of the others don't wait."""
        if self._schedule.gets_pushes and self._not_closed is None:
            with suppress(DamagedList, RequestRefused):
                self._not_closed = store.not_closed()

    def _listen(self, store: BreakerStore) -> float:
        """Begin to listen for pushes once it is time; return the seconds until then."""
        if not self._can_listen(store):
            return FOREVER
        wait = self._began_at + LISTEN_AFTER_SECONDS - time.monotonic()
        if wait > 0:
            return wait
        return RETRY_SECONDS if self._listener.start(store.channel, self.obey) else FOREVER

    def _answer(self, store: BreakerStore, requests: Sequence[Request]) -> None:
        waiting: dict[str, list[Request]] = {}
        for request in requests:
            if request.wish is Wish.PERMIT and request.state is not None:
                waiting.setdefault(request.state.name, []).append(request)
            elif request.wish is Wish.RETURN and request.state is not None:
                self.probes.give_back(store, request.state, request.generation)
            elif request.wish is Wish.LEAVE:
                self._presence.withdraw(store)
                request.give(True)
            elif request.wish is not Wish.TELL:
                request.give(True)
                if request.state is not None and request.state.look is request.answer:
                    request.state.look = None  # half of what an unused breaker would take
        for asked in waiting.values():
            # One permit at most for those who have left: it serves the next call.
            callers = [request for request in asked if not request.answer.is_done] or asked[:1]
            self.probes.grant(store, cast("LocalState", callers[0].state), callers)


def _parts(due: dict[str, LocalState]) -> Iterator[dict[str, LocalState]]:
    """Return them in order, as many at once as a turn takes: more are reported before an end."""
    items = iter(due.items())
    while part := dict(islice(items, MAX_DUE)):
        yield part


def _asked_for(requests: Sequence[Request], schedule: Schedule) -> Iterator[LocalState]:
    """Return the breakers that callers want read, or reported."""
    # Once it has left, nobody waits for its probes.
    if any(request.wish in (Wish.FLUSH, Wish.LEAVE) for request in requests):
        yield from schedule.recent()
    for request in requests:
        if request.wish is Wish.LOOK and request.state is not None:
            yield request.state
