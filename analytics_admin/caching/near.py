"""The near cache: hot values in the memory of a process, for calls that bear a bounded delay.

One thread reads them over a connection that tracks them: the server says on it which keys have
changed. That may be late, or get lost. So a value counts only while a PING that was sent on that
connection within the caller's bound has been answered: by then everything that the server did
before is known here. Without an answer no near value is served, whatever is lost.
"""

import marshal
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from analytics_admin.caching.codec import decode
from analytics_admin.caching.freshness import assess_freshness
from analytics_admin.caching.stores.base import EntryKeys, Reading, StoreUnavailable
from analytics_admin.stores.contained_logger import get_logger
from analytics_admin.stores.threads import KeptThread, start_plain_thread

logger = get_logger("analytics_admin.caching")

PINGS_PER_BOUND = 3
IDLE_SECONDS = 10.0
"""Without a call for so long, the near cache is emptied and its thread rests."""
RECONNECT_SECONDS = 1.0
MAX_CANDIDATES = 100
"""Values that are read for the near cache at once."""
MAX_DOORKEEPER = 10_000
MAX_CHANGED = 1000
"""Names that are noted as changed; with more of them everything counts as changed."""
OVERHEAD_BYTES = 600
"""Memory of a near value beside its text, about."""


class NearEntry(NamedTuple):
    """A value in the memory of this process."""

    text: str
    packed: bytes
    """The value as marshal writes it: read in a third of the time that JSON takes."""
    stored_at: float
    """By this process' monotonic clock."""
    expires_at: float
    computed_in: float
    size: int

    def value(self) -> Any:
        """Return the value, which is the caller's own to change."""
        return marshal.loads(self.packed)  # noqa: S302  this process has written it


_of_this_process: "weakref.WeakSet[NearCache]" = weakref.WeakSet()


def forget_near_values() -> None:
    """Serve nothing more of what lies in this process' memory now: an operator has cleared here."""
    for near in list(_of_this_process):
        near.drop_all()


class TrackingLink(Protocol):
    """A connection that tracks what is read over it. Every method may raise StoreUnavailable."""

    def read(self, entries: list[EntryKeys]) -> tuple[float, list[Reading]]:
        """Return when the request was sent, and what lies in the store.

        All that the server did before the request has then been told to ``on_change``.
        """

    def close(self) -> None:
        """Close the connection."""


class NearCache:
    """The near values of one process.

    ``connect`` opens a link; it gets the function to call with the names that have changed, None
    for all.
    """

    def __init__(
        self,
        connect: Callable[[Callable[[Iterable[str] | None], None]], TrackingLink],
        *,
        max_bytes: int,
    ) -> None:
        self._connect = connect
        self._max_bytes = max_bytes
        self.after_fork()
        _of_this_process.add(self)

    def after_fork(self) -> None:
        """Start afresh in a forked child, which has no such thread."""
        self._lock = threading.Lock()
        self._values: dict[EntryKeys, NearEntry] = {}
        self._resting_on: dict[str, set[EntryKeys]] = {}
        self._changed: set[str] = set()
        self._all_changed = False
        self._bytes = 0
        self._seen: dict[EntryKeys, None] = {}
        self._offers: queue.SimpleQueue[EntryKeys | None] = queue.SimpleQueue()
        self._proven_at = -1e9
        self._bound = 1.0
        self._used_at = time.monotonic()
        self._thread = KeptThread(self._work, self._offers, name="search cache near", log=logger)
        self._is_closed = False

    def get(self, keys: EntryKeys, bound: float) -> NearEntry | None:
        """Return the value if it was right at most ``bound`` seconds ago."""
        proven_at = self._proven_at  # before the value: what it proves must be of that one
        entry = self._values.get(keys)
        if entry is None:
            return None
        now = time.monotonic()
        if now - proven_at >= bound or now >= entry.expires_at:
            return None
        self._used_at = now
        return entry

    def offer(self, keys: EntryKeys, bound: float) -> None:
        """Have a value kept near that was a hit in the store, if it was one before."""
        self._bound = min(self._bound, bound)
        self._used_at = time.monotonic()
        if keys in self._values:
            return  # there is no proof at present
        if keys not in self._seen:
            if len(self._seen) >= MAX_DOORKEEPER:
                self._seen.clear()
            self._seen[keys] = None
            return
        if self._offers.qsize() < MAX_CANDIDATES:
            self._offers.put(keys)
        self._thread.begin(start_plain_thread)  # without one there are no near values

    def drop(self, entry: str = "", tag_keys: Iterable[str] = ()) -> None:
        """Drop what this process has just set, deleted or cleared."""
        self._note_changed([name for name in (entry, *tag_keys) if name])

    def drop_all(self) -> None:
        """Drop every value."""
        self._note_changed(None)

    def close(self) -> None:
        """End the thread; serve no near value any more."""
        self._is_closed = True
        self._proven_at = -1e9
        self._offers.put(None)

    def _work(self, offers: "queue.SimpleQueue[EntryKeys | None]") -> None:
        while not self._is_closed and offers is self._offers:
            try:
                link = self._connect(self._note_changed)
            except StoreUnavailable:
                time.sleep(RECONNECT_SECONDS)
                continue
            try:
                self._use(link, offers)
            except StoreUnavailable as error:
                logger.info("search cache: no near values for now: %s", error.reason)
            finally:
                self._proven_at = -1e9
                self._note_changed(None)
                link.close()
            if not self._is_closed:
                time.sleep(RECONNECT_SECONDS)

    def _use(self, link: TrackingLink, offers: "queue.SimpleQueue[EntryKeys | None]") -> None:
        """Prove and fill the near cache until the link is lost or the process rests."""
        while not self._is_closed:
            if time.monotonic() - self._used_at > IDLE_SECONDS:
                self._proven_at = -1e9
                self._note_changed(None)
                offers.get()
            wanted = self._take_offers(offers)
            with self._lock:
                self._changed.clear()
                self._all_changed = False
            sent_at, readings = link.read(wanted)
            for keys, reading in zip(wanted, readings, strict=True):
                self._keep(keys, reading, sent_at)
            self._proven_at = sent_at

    def _take_offers(self, offers: "queue.SimpleQueue[EntryKeys | None]") -> list[EntryKeys]:
        """Return what is to be read, at the latest when the next proof is due."""
        wanted: dict[EntryKeys, None] = {}
        with suppress(queue.Empty):
            item = offers.get(timeout=self._bound / PINGS_PER_BOUND)
            while True:
                if item is not None:
                    wanted[item] = None
                if len(wanted) >= MAX_CANDIDATES:
                    break
                item = offers.get_nowait()
        return list(wanted)

    def _keep(self, keys: EntryKeys, reading: Reading, sent_at: float) -> None:
        entry = assess_freshness(reading, decodes=True).fresh
        if entry is None:
            return
        size = 2 * len(entry.text) + OVERHEAD_BYTES
        if size > self._max_bytes // 8:
            return
        try:
            packed = marshal.dumps(decode(entry.text))
        except ValueError:  # nested more deeply than marshal writes
            return
        near = NearEntry(
            entry.text,
            packed,
            sent_at - max(0.0, reading.now - entry.stored_at),
            sent_at + entry.fresh_until - reading.now,
            entry.computed_in,
            size,
        )
        names = (keys.record, keys.entry, *keys.tags)
        with self._lock:
            if self._all_changed or not self._changed.isdisjoint(names):
                return
            self._remove(keys)
            while self._values and self._bytes + size > self._max_bytes:
                self._remove(next(iter(self._values)))
            self._values[keys] = near
            self._bytes += size
            for name in names:
                self._resting_on.setdefault(name, set()).add(keys)

    def _note_changed(self, names: Iterable[str] | None) -> None:
        """Drop what rests on these keys of the store; None: everything."""
        with self._lock:
            if names is None:
                self._note_all_changed()
                self._values.clear()
                self._resting_on.clear()
                self._bytes = 0
                return
            for name in names:
                if not self._all_changed:
                    self._changed.add(name)
                for keys in tuple(self._resting_on.get(name, ())):
                    self._remove(keys)
            # Without a thread that reads, as in a process without near values, nobody takes them.
            if len(self._changed) > MAX_CHANGED:
                self._note_all_changed()

    def _note_all_changed(self) -> None:
        self._all_changed = True
        self._changed.clear()

    def _remove(self, keys: EntryKeys) -> None:
        near = self._values.pop(keys, None)
        if near is None:
            return
        self._bytes -= near.size
        for name in (keys.record, keys.entry, *keys.tags):
            resting = self._resting_on.get(name)
            if resting is not None:
                resting.discard(keys)
                if not resting:
                    del self._resting_on[name]
