"""A store that came back with its past: from a snapshot, or as a replica that had lagged behind.

Its epoch record may be that of before a clear, and then cleared values would count again. The
record names the server on which it was last right, and each new connection compares that before
anything is read over it. On another server the accepted epochs are suspended until the audit trail
shows that the store holds the last clear of an operator. If it does not, they are dropped.

For a while afterwards the clears on record are compared again: until all processes have left the
server of before, it may take clears which it then loses.

The audit trail does not know of a ``set``, a ``delete`` or a ``clear_tags``. A process that made
one looks for a trace of its last one, and has all values dropped if it finds none.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from django.db import connections
from redis.exceptions import RedisError

from analytics_admin.caching.entries import MAX_HEAD_BYTES
from analytics_admin.caching.epochs import (
    MAX_ACCEPTED,
    WATCH_SECONDS,
    EpochRecord,
    decode_record,
)
from analytics_admin.stores.client import StoreUnavailable, load_script
from analytics_admin.stores.contained_logger import get_logger
from analytics_admin.stores.identity import COMMANDS, identity_of
from analytics_admin.stores.threads import KeptThread, start_plain_thread

logger = get_logger("analytics_admin.caching")

Exchange = Callable[[Sequence[Sequence[Any]]], list[Any]]
"""Sends commands over one connection; returns their replies, an error for each that is refused."""
Change = Callable[[EpochRecord], EpochRecord | None]
"""Makes the next record from the present one; None to leave it."""


class ClearTrail(Protocol):
    """What the audit trail knows of clears. May raise anything."""

    def find_receipts(self, *, after: str, acknowledged: bool = False) -> Sequence[str]:
        """Return the receipts of the clears that may have been done after the one of this receipt.

        Oldest first. Where that is not on record, of the last one alone. With ``acknowledged``, of
        those only whose operator has been told that they are done, or may be.
        """

    def clear_again(self, receipts: Sequence[str]) -> object:
        """Put on record that the clears of these receipts were lost, and clear everything."""


MAX_ATTEMPTS = 10
"""Attempts at a change while others change the record between its reading and its writing."""
SETTLE_ATTEMPTS = 20
SETTLE_PAUSE_SECONDS = 0.25
"""Between two attempts to reach a store that has just come back."""
CLOCK_SECONDS = 1.0
"""By which the clocks of two processes may differ."""
COMPARE_SECONDS = 5.0
"""Between two comparisons with a server that is new."""
TELL_AGAIN_SECONDS = 60.0
"""Between two log lines about a record that is gone."""

_REPLACE = load_script("analytics_admin.caching.stores", "replace_record")
_trail: ClearTrail | None = None


def register_audit_trail(trail: ClearTrail) -> None:
    """Have the clears that a store has lost found out, and put on record.

    The trail is asked in threads of its own.
    """
    global _trail  # noqa: PLW0603  the site's one audit trail
    _trail = trail


@dataclass(frozen=True, slots=True, kw_only=True)
class _Write:
    """The last value that this process has set, deleted or cleared."""

    server: str
    key: str = ""
    """The key of a value that was set; "" for other writes, which leave no trace."""
    stored_ms: int = 0
    noted_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """The server that a process has used, and when it last connected to it (Unix time)."""

    server: str
    last_at: float


class PastCheck:
    """The check of one process; it outlives the connections.

    ``change_later`` makes a change of the record through the store. ``claim_later`` says whether it
    is this process' turn to compare, for so many seconds. Both raise StoreUnavailable.
    """

    def __init__(
        self,
        record_key: str = "",
        change_later: Callable[[Change], object] = id,
        claim_later: Callable[[float], bool] = bool,
    ) -> None:
        self._record_key = record_key
        self._change_later = change_later
        self._claim_later = claim_later
        self._watch_until = 0.0
        self._begin_threads()
        self._lock = threading.Lock()
        self._write: _Write | None = None
        self.server = ""
        """The server that the last connection has reached; "" if that cannot be told."""
        self.has_checked = False
        self._checked_at = 0.0
        self._had_record = False
        self._told_at = -TELL_AGAIN_SECONDS

    def note_write(self, key: str = "", stored_ms: int = 0, *, sent_at: float = 0.0) -> None:
        """Note what this process has just written, of its own accord, and its trace.

        Of writes at the same time, the trace of the last one counts; none if one has none.
        """
        noted_at = time.monotonic()
        with self._lock:
            last = self._write
            if last and last.key and key and last.stored_ms > stored_ms:
                return
            if last and not last.key and key and last.noted_at > sent_at:
                return
            self._write = _Write(
                server=self.server, key=key, stored_ms=stored_ms, noted_at=noted_at
            )

    def note_missing_record(self) -> None:
        """Note that there is no epoch record, and tell if there has been one."""
        now = time.monotonic()
        if not self._had_record or now - self._told_at < TELL_AGAIN_SECONDS:
            return
        self._had_record, self._told_at = False, now
        logger.warning(
            "search cache: the epoch record is gone, and with it all results: the store was "
            "emptied, or has evicted it, which its maxmemory-policy must not allow"
        )

    def note_record(self) -> None:
        """Note that there is an epoch record."""
        self._had_record = True

    def _begin_threads(self) -> None:
        self._closed = threading.Event()
        self._watcher = KeptThread(self._watch, name="search cache watch", log=logger)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def after_fork(self) -> None:
        """Replace the locks and the thread in a forked child."""
        self._lock = threading.Lock()
        self._begin_threads()

    def check(self, exchange: Exchange, *, is_return: bool) -> None:
        """Check the store at the other end of a new connection.

        ``is_return``: the process had no connection before, or has lost one.

        Raises:
            RedisError: the record is of the past, and cannot be changed there.
        """
        write = self._write
        trace = [("GETRANGE", write.key, 0, MAX_HEAD_BYTES)] if write and write.key else []
        replies = exchange([*COMMANDS, ("GET", self._record_key), *trace])
        server, self.has_checked = identity_of(replies[:2]), True
        head = replies[3] if trace else b""
        self._judge(exchange, replies[2], server, write, head, is_return=is_return)
        # Not before: another thread that connects meanwhile is to find out the same.
        self.server, self._checked_at = server, time.time()

    def _judge(
        self,
        exchange: Exchange,
        raw: Any,
        server: str,
        write: _Write | None,
        head: Any,
        *,
        is_return: bool,
    ) -> None:
        """Do what is to be done about the record that was found on this server."""
        record = decode_record(raw) if isinstance(raw, bytes) else None
        if record is None:  # no stored value counts
            return
        self._had_record = True
        has_moved = is_return if not server else write is not None and write.server != server
        if write is not None and has_moved and (record.born != server or not server):
            if not _is_trace(head, write):
                self._replace_write(write, None)
                self._drop(exchange, server)
                self._watch_later(time.time() + WATCH_SECONDS)
                return
            self._replace_write(write, replace(write, server=server))
        before = _Use(server=self.server, last_at=self._checked_at)
        if server and _is_past(record, server, before):
            self._suspend(exchange, server, before)
            self._watch_later(time.time() + WATCH_SECONDS)
        elif not server and is_return and _trail is not None:
            self._settle_later(_trail, server)
        else:
            self._watch_later(record.watched_until)

    def _replace_write(self, write: _Write, new: _Write | None) -> None:
        """Replace the noted write, unless there has been another one since."""
        with self._lock:
            if self._write is write:
                self._write = new

    def _drop(self, exchange: Exchange, server: str) -> None:
        """Have no value from before count: a write of this process is lost."""

        def drop(record: EpochRecord) -> EpochRecord | None:
            if server and record.born == server:  # another process has done it
                return None
            return record.emptied(server=server)

        if change_record(exchange, self._record_key, drop):
            logger.warning(
                "search cache: the store came back without the last writes of this process: "
                "what it held counts no more"
            )

    def _suspend(self, exchange: Exchange, server: str, used_before: "_Use") -> None:
        """Have no value from before count until it is known whether a clear is lost."""
        trail = _trail

        def suspend(record: EpochRecord) -> EpochRecord | None:
            if not _is_past(record, server, used_before):  # another process has done it
                return None
            if trail is None:  # nobody can have cleared
                return replace(record, server=server)
            before = frozenset(sorted(record.accepted | record.suspended)[:MAX_ACCEPTED])
            right_on = used_before.server if record.server == server else record.server
            new = replace(record, server=right_on).emptied(server=server)
            return replace(new, born="", suspended=before, era=record.era)

        if change_record(exchange, self._record_key, suspend) and trail is not None:
            self._settle_later(trail, server)

    def _settle_later(self, trail: ClearTrail, server: str) -> None:
        try:
            start_plain_thread(self._compare, trail, server, name="search cache past")
        except (RuntimeError, MemoryError):  # no thread is to be had: what is suspended stays so
            logger.warning("search cache: the store has changed; its old values count no more")

    def _watch_later(self, until: float) -> None:
        """Compare now and then until this Unix time, if that is to come and not too far ahead."""
        if _trail is not None and 0 < until - time.time() < 2 * WATCH_SECONDS:
            self._watch_until = until
            self._watcher.begin(start_plain_thread)  # without one, another process does it

    def _watch(self) -> None:
        while not self._closed.wait(COMPARE_SECONDS * random.uniform(0.8, 1.2)):
            is_last = time.time() > self._watch_until
            with suppress(StoreUnavailable):
                if _trail is not None and self._claim_later(COMPARE_SECONDS * 0.7):
                    self._compare(_trail, self.server, settles=False)
            if is_last:
                return

    def _compare(self, trail: ClearTrail, server: str, *, settles: bool = True) -> None:
        """Ask the audit trail which clears there were, and have the past count or not.

        ``settles``: it is suspended until then. Clears that are under way count as lost then.
        """
        for _ in range(SETTLE_ATTEMPTS):
            try:
                if self._compare_once(trail, server, settles=settles):
                    return
            except StoreUnavailable:
                if self._closed.wait(SETTLE_PAUSE_SECONDS):
                    return
            # The audit trail is the site's database, with whatever errors its driver has.
            except Exception as error:
                logger.warning(
                    "search cache: the store has changed, and %s: the last clear is not known (%s)",
                    "its old values count no more" if settles else "may have lost a clear",
                    type(error).__name__,
                )
                return
            finally:
                connections.close_all()

    def _compare_once(self, trail: ClearTrail, server: str, *, settles: bool) -> bool:
        """Return False if there was another clear meanwhile.

        Raises:
            StoreUnavailable, and whatever the trail raises.
        """
        base: str | None = None
        lost: list[str] = []
        is_outdated = False

        def find_base(record: EpochRecord) -> None:
            nonlocal base
            base = record.receipt

        def settle(record: EpochRecord) -> EpochRecord | None:
            nonlocal lost, is_outdated
            lost = []
            if server and (record.server != server or (settles and not record.suspended)):
                return None  # somebody has cleared everything since
            is_outdated = record.receipt != base
            if is_outdated:
                return None
            held = {base, *record.receipts, *record.earlier}
            lost = [each for each in on_record if each not in held]
            if lost:
                return record.emptied(server=server).with_receipts(*lost, server=server)
            if not record.suspended:
                return None
            room = max(0, MAX_ACCEPTED - len(record.accepted))
            accepted = record.accepted | frozenset(sorted(record.suspended)[:room])
            return replace(record, accepted=accepted, suspended=frozenset())

        self._change_later(find_base)
        if base is None:  # no stored value counts
            return True
        on_record = trail.find_receipts(after=base, acknowledged=not settles)
        self._change_later(settle)
        if lost:
            logger.warning(
                "search cache: the store came back without the last clear: "
                "what it held counts no more"
            )
            _put_on_record(trail, lost)
        return not is_outdated


def _is_past(record: EpochRecord, server: str, before: _Use) -> bool:
    """Say whether the record on this server may be of the past.

    It was right on another one. Or it was right on this one, but since then the process has used
    another: an old primary that had not followed the new one may be taken again.
    """
    if record.server != server:
        return bool(record.server)
    if before.server in {"", server}:
        return False
    return record.moved_at < before.last_at + CLOCK_SECONDS


def _put_on_record(trail: ClearTrail, lost: Sequence[str]) -> None:
    """Clear again: what the store held counts no more already."""
    try:
        trail.clear_again(lost)
    # The site's database and signals, with whatever errors they have.
    except Exception as error:
        logger.warning(
            "search cache: the clear that was done again is not on record (%s)",
            type(error).__name__,
        )


def change_record(exchange: Exchange, key: str, change: Change) -> bool:
    """Replace the record in one step; say whether it was changed.

    Raises:
        RedisError: the store refused.
    """
    for _ in range(MAX_ATTEMPTS):
        [raw] = exchange([("GET", key)])
        before = decode_record(raw) if isinstance(raw, bytes) else None
        after = None if before is None else change(before)
        if after is None:
            return False
        [done] = exchange([("EVAL", _REPLACE, 1, key, raw, after.encode())])
        if isinstance(done, RedisError):
            raise done
        if done:
            return True
    return False


def _is_trace(head: Any, write: _Write) -> bool:
    """Say whether a stored value begins as the one does that was written."""
    fields = head.split(b" ", 3) if isinstance(head, bytes) else []
    return len(fields) > 2 and fields[2] == b"%d" % write.stored_ms
