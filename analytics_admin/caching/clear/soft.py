"""The soft clear and its undo: one step each, on the epoch record alone. They remove no key.

Values that were cleared softly may be served as stale for a while, as the record says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from analytics_admin.caching.clear.outcome import (
    NO_REPLY_TO_SOFT_CLEAR,
    NO_REPLY_TO_UNDO,
    TIMEOUT,
    confirm_outcome,
)
from analytics_admin.caching.clear.rehearsal import rehearse
from analytics_admin.caching.clear.server import ask_server
from analytics_admin.caching.epochs import EpochRecord, decode_record, record_key
from analytics_admin.caching.inspection.survey import Survey, survey
from analytics_admin.caching.keyspace import keyspace
from analytics_admin.caching.statistics.queries import Load, foresee_load
from analytics_admin.caching.stores import memory
from analytics_admin.conf import app_settings
from analytics_admin.i18n import Message, OperatorError, gettext_noop
from analytics_admin.stores.client import (
    StoreUnavailable,
    is_local_memory,
    load_script,
    operation_client,
)

MAX_ATTEMPTS = 10
"""Attempts at a change while others change the record between its reading and its writing."""

Change = Callable[[EpochRecord, float], EpochRecord]
"""Makes the next record from the present one and the store's Unix time."""

_REPLACE = load_script("analytics_admin.caching.stores", "replace_record")


class NothingToUndo(OperatorError):
    """There is no soft clear within its bound; nothing was done."""

    code = "nothing_to_undo"

    def __init__(self) -> None:
        super().__init__(
            Message(gettext_noop("There is no soft clear to undo")),
            reason=Message(gettext_noop("there is no soft clear to undo")),
        )


class AnotherClear(OperatorError):
    """The last soft clear is not the expected one; nothing was done."""

    code = "another_clear"

    def __init__(self) -> None:
        super().__init__(
            Message(gettext_noop("There has been another soft clear since: nothing was undone")),
            reason=Message(gettext_noop("there has been another soft clear since")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftClearOutcome:
    """What a soft clear did."""

    alias: str
    stale_for: float
    """Seconds for which the cleared values may still be served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftClearPreview:
    """What a soft clear would do now, and the load that it would put on the backend."""

    alias: str
    dedicated: bool
    keys: int
    exact: bool
    """False: ``keys`` is an estimate from a sample."""
    bytes: int | None
    """About the memory that these keys take; None: unknown."""
    load: Load | None
    """None: unknown, for the reason ``load_unknown``."""
    load_unknown: str = ""
    stale_for: float
    """Seconds for which old results may be served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoableClear:
    """The soft clear that an undo takes back."""

    alias: str
    seconds_left: float
    """Seconds for which it can still be undone."""
    clear: str
    """Identifies the soft clear."""


def preview() -> SoftClearPreview:
    """Return what a soft clear would do; change nothing.

    Raises:
        StoreUnavailable: the store does not answer, or would refuse.
    """
    site = app_settings()
    alias, dedicated = site.search_cache, site.search_cache_dedicated
    if is_local_memory(alias):
        keys = memory.count(alias, keyspace(alias))
        content = Survey(keys=keys, exact=True, bytes=None, foreign=None)
    else:
        with operation_client(alias, timeout=TIMEOUT) as client:
            rehearse(client, *_writing(alias))
            content = survey(client, alias, dedicated=dedicated)
    return SoftClearPreview(
        alias=alias,
        dedicated=dedicated,
        keys=content.keys,
        exact=content.exact,
        bytes=content.bytes,
        stale_for=float(site.search_cache_soft_clear_grace),
        **foresee_load(),
    )


def rehearse_undo() -> None:
    """Return if the store would take an undo.

    Raises:
        StoreUnavailable: it does not answer, or would refuse.
    """
    alias = app_settings().search_cache
    if not is_local_memory(alias):
        with operation_client(alias, timeout=TIMEOUT) as client:
            rehearse(client, *_writing(alias))


def _writing(alias: str) -> list[tuple[str, ...]]:
    """Return commands as a change of the record needs them."""
    key = record_key(alias)
    return [("GET", key), ("TIME",), ("SET", key, ""), ("EVAL", "return 0", "1", key)]


def clear_softly(*, receipt: str = "") -> SoftClearOutcome:
    """Make all values stale; they may be served for SEARCH_CACHE_SOFT_CLEAR_GRACE seconds.

    The store keeps the ``receipt``, by which the loss of this clear is found out later.

    Raises:
        StoreUnavailable: the store refused or did not answer; nothing was cleared.
        OutcomeUnknown: the store did not answer during the soft clear.
    """
    site = app_settings()
    bound = float(site.search_cache_soft_clear_grace)
    epoch = ""

    def clear(record: EpochRecord, now: float) -> EpochRecord:
        nonlocal epoch
        cleared = record.soft_cleared(now=now, bound=bound)
        epoch = cleared.current
        return cleared

    def is_done(now: EpochRecord) -> bool:
        return epoch in now.accepted or epoch in now.servable_until

    alias = site.search_cache
    _change(alias, clear, is_done, no_reply=NO_REPLY_TO_SOFT_CLEAR, receipt=receipt)
    return SoftClearOutcome(alias=alias, stale_for=bound)


def undo(clear: str | None = None) -> UndoableClear:
    """Make the values from before the last soft clear fresh again; those stored since stay fresh.

    With ``clear``, undo only that soft clear: an operator undoes what the preview showed.

    Raises:
        NothingToUndo, AnotherClear: nothing was done.
        StoreUnavailable: the store refused or did not answer; nothing was undone.
        OutcomeUnknown: the store did not answer during the undo.
    """
    alias = app_settings().search_cache
    expected: frozenset[str] = frozenset()
    undoable = UndoableClear(alias=alias, seconds_left=0.0, clear="")

    def take_back(record: EpochRecord, now: float) -> EpochRecord:
        nonlocal expected, undoable
        undone = record.undone(now=now)
        if undone is None:
            raise NothingToUndo
        expected, undoable = undone.accepted, _last_clear(alias, record, now)
        if clear not in {None, undoable.clear}:
            raise AnotherClear
        return undone

    def is_done(now: EpochRecord) -> bool:
        return expected <= now.accepted

    _change(alias, take_back, is_done, no_reply=NO_REPLY_TO_UNDO)
    return undoable


def find_undoable() -> UndoableClear | None:
    """Return the soft clear that can be undone now, or None.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    alias = app_settings().search_cache
    if is_local_memory(alias):
        record, now = memory.read_record(alias)
    else:
        with operation_client(alias, timeout=TIMEOUT) as client:
            raw, now = _read(client, record_key(alias))
        record = decode_record(raw)
    if record is None or record.undone(now=now) is None:
        return None
    return _last_clear(alias, record, now)


def _last_clear(alias: str, record: EpochRecord, now: float) -> UndoableClear:
    """Return the last soft clear; the time at which its bound ends identifies it."""
    until = max(record.servable_until.values())
    return UndoableClear(alias=alias, seconds_left=round(until - now, 1), clear=repr(until))


def _change(
    alias: str,
    change: Change,
    is_done: Callable[[EpochRecord], bool],
    *,
    no_reply: str,
    receipt: str | None = None,
) -> None:
    """Replace the record in one step, and check that the store has kept the new one.

    A clear has a receipt. Without a record it creates one; for an undo there is nothing to change.
    """
    is_clear = receipt is not None
    if is_local_memory(alias):
        if not memory.change_record(alias, change, create=is_clear):
            raise NothingToUndo
        return
    with operation_client(alias, timeout=TIMEOUT) as client:
        key = record_key(alias)
        server = ask_server(client, key).identity if is_clear else ""
        for _ in range(MAX_ATTEMPTS):
            raw, now = _read(client, key)
            before = decode_record(raw)
            if before is None:
                lost = StoreUnavailable(Message(gettext_noop("the store lost the epoch record")))
                raise lost if is_clear else NothingToUndo
            after = change(before, now)
            if receipt is not None:
                after = after.with_receipts(receipt, server=server)
            with confirm_outcome(alias, is_done, no_reply=no_reply):
                if not client.eval(_REPLACE, 1, key, raw, after.encode()):
                    continue
                _verify(client, key, before)
            return
    raise StoreUnavailable(Message(gettext_noop("the epoch record keeps changing; try again")))


def _read(client: Any, key: str) -> tuple[bytes | None, float]:
    """Return the record's raw content and the store's Unix time."""
    pipeline = client.pipeline(transaction=False)
    pipeline.get(key)
    pipeline.time()
    raw, time = pipeline.execute(raise_on_error=False)
    for reply in (raw, time):
        if isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE"):
            raise reply
    return (raw if isinstance(raw, bytes) else None), time[0] + time[1] / 1_000_000


def _verify(client: Any, key: str, before: EpochRecord) -> None:
    """Check that the record has changed; it may be that of a later operation."""
    raw, _ = _read(client, key)
    now = decode_record(raw)
    if now is None or now == before:
        raise StoreUnavailable(Message(gettext_noop("the store did not keep the new epoch")))
