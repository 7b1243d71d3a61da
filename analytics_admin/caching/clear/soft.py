"""Clear the search cache softly, and take that back: one step each, on the token record alone.

What was cleared softly may be served as stale for a while; how, the record says. Removes no key.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from analytics_admin.caching.clear.outcome import (
    NO_REPLY_TO_SOFT_CLEAR,
    NO_REPLY_TO_UNDO,
    TIMEOUT,
    confirm_outcome,
    translate_redis_errors,
)
from analytics_admin.caching.entries import EpochRecord, decode_record, ensure_record, record_key
from analytics_admin.caching.stores import local_memory
from analytics_admin.conf import app_settings
from analytics_admin.i18n import Message, OperatorError, gettext_noop
from analytics_admin.stores.client import (
    StoreUnavailable,
    is_local_memory,
    load_script,
    operation_client,
)

ATTEMPTS = 10
"""Times a step is tried when others change the record between its reading and its writing."""

Change = Callable[[EpochRecord, float], EpochRecord]
"""Makes the next record of the present one and the store's time (seconds)."""

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
    """The last soft clear is not the one that was to be undone; nothing was done."""

    code = "another_clear"

    def __init__(self) -> None:
        template = gettext_noop("The last soft clear is another one by now: nothing was undone")
        reason = Message(gettext_noop("the last soft clear is another one by now"))
        super().__init__(Message(template), reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftClearOutcome:
    """What a soft clear did."""

    alias: str
    stale_for: float
    """Seconds for which what was cleared may still be served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoableClear:
    """The soft clear that an undo takes back."""

    alias: str
    seconds_left: float
    """Seconds until it can't be undone any more."""
    clear: str
    """Which one it is: another soft clear has another."""


def clear_softly() -> SoftClearOutcome:
    """Have no value count as fresh any more, and let them be served as stale for a bound.

    Raises:
        StoreUnavailable: the store refused or did not answer; nothing was cleared.
        OutcomeUnknown: the store fell silent in the act.
    """
    site = app_settings()
    bound = float(site.search_cache_soft_clear_grace)
    drawn = ""

    def clear(record: EpochRecord, now: float) -> EpochRecord:
        nonlocal drawn
        cleared = record.soft_cleared(now=now, bound=bound)
        drawn = cleared.current
        return cleared

    def is_done(now: EpochRecord) -> bool:
        return drawn in now.accepted or drawn in now.servable_until

    _change(site.search_cache, clear, is_done, silent=NO_REPLY_TO_SOFT_CLEAR, draws=True)
    return SoftClearOutcome(alias=site.search_cache, stale_for=bound)


def undo(clear: str | None = None) -> UndoableClear:
    """Have the values of before the last soft clear count as fresh again, with those stored since.

    With ``clear`` only if that one is the last: whoever has looked at it undoes no other.

    Raises:
        NothingToUndo, AnotherClear: nothing was done.
        StoreUnavailable: the store refused or did not answer; nothing was undone.
        OutcomeUnknown: the store fell silent in the act.
    """
    alias = app_settings().search_cache
    wanted: frozenset[str] = frozenset()
    found = UndoableClear(alias=alias, seconds_left=0.0, clear="")

    def take_back(record: EpochRecord, now: float) -> EpochRecord:
        nonlocal wanted, found
        undone = record.undone(now=now)
        if undone is None:
            raise NothingToUndo
        wanted, found = undone.accepted, _last_clear(alias, record, now)
        if clear not in {None, found.clear}:
            raise AnotherClear
        return undone

    _change(
        alias, take_back, lambda now: wanted <= now.accepted, silent=NO_REPLY_TO_UNDO, draws=False
    )
    return found


def find_undoable() -> UndoableClear | None:
    """Return the soft clear that can be undone now, or None.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    alias = app_settings().search_cache
    if is_local_memory(alias):
        record, now = local_memory.read_record(alias)
    else:
        with translate_redis_errors(), operation_client(alias, timeout=TIMEOUT) as client:
            raw, now = _read(client, record_key(alias))
        record = decode_record(raw)
    if record is None or record.undone(now=now) is None:
        return None
    return _last_clear(alias, record, now)


def _last_clear(alias: str, record: EpochRecord, now: float) -> UndoableClear:
    """Return the last soft clear, which is known by the instant at which its bound ends."""
    until = max(record.servable_until.values())
    return UndoableClear(alias=alias, seconds_left=round(until - now, 1), clear=repr(until))


def _change(
    alias: str, change: Change, is_done: Callable[[EpochRecord], bool], *, silent: str, draws: bool
) -> None:
    """Replace the record in one step, and make sure that the store has kept the new one.

    Without a record ``draws`` decides whether one is drawn first, or there is nothing to change.
    """
    if is_local_memory(alias):
        _in_memory(alias, change, draws=draws)
        return
    with translate_redis_errors(), operation_client(alias, timeout=TIMEOUT) as client:
        key = record_key(alias)
        if draws:
            ensure_record(client, key)
        for _ in range(ATTEMPTS):
            raw, now = _read(client, key)
            before = decode_record(raw)
            if before is None:
                lost = StoreUnavailable(Message(gettext_noop("the store lost the record")))
                raise lost if draws else NothingToUndo
            after = change(before, now)
            with confirm_outcome(alias, is_done, silent=silent):
                if not client.eval(_REPLACE, 1, key, raw, after.encode()):
                    continue
                _verify(client, key, before)
            return
    raise StoreUnavailable(
        Message(gettext_noop("others keep changing the cache's token; try again"))
    )


def _read(client: Any, key: str) -> tuple[bytes | None, float]:
    """Return what lies in the record's place, and the store's time."""
    step = client.pipeline(transaction=False)
    step.get(key)
    step.time()
    raw, time = step.execute(raise_on_error=False)
    for reply in (raw, time):
        if isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE"):
            raise reply
    return (raw if isinstance(raw, bytes) else None), time[0] + time[1] / 1_000_000


def _verify(client: Any, key: str, before: EpochRecord) -> None:
    """Make sure that the record has changed; that of an act which came after ours may be there."""
    raw, _ = _read(client, key)
    now = decode_record(raw)
    if now is None or now == before:
        raise StoreUnavailable(Message(gettext_noop("the store did not keep the new token")))


def _in_memory(alias: str, change: Change, *, draws: bool) -> None:
    if not local_memory.change_record(alias, change, draws=draws):
        raise NothingToUndo
