"""The operator's acts on the search cache: clear, undo, sweep.

Services offers them to every door; each act is permitted, put on record and announced here.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from uuid import UUID

from django.utils.translation import ngettext_lazy

from analytics_admin.caching.clear import soft, sweep
from analytics_admin.caching.clear.soft import AnotherClear, NothingToUndo, UndoableClear
from analytics_admin.caching.clear.sweep import SweepOutcome, SweepPlan
from analytics_admin.i18n import Message, message_of
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.permissions import Act
from analytics_admin.services.audit import Actor
from analytics_admin.services.errors import OperationRejected
from analytics_admin.services.runner import (
    OperationResult,
    authorize,
    translate_errors,
)
from analytics_admin.services.search_cache.ways import Progress, choose_strategy
from analytics_admin.signals import search_cache_cleared
from analytics_admin.stores.client import StoreUnavailable


def clear_search_cache(
    *,
    actor: Actor,
    mode: str = "hard",
    tags: Sequence[str] | None = None,
    reason: str = "",
    dry_run: bool = False,
    on_progress: Progress | None = None,
    operation_id: UUID | None = None,
) -> OperationResult:
    """Clear the search cache: all of it, or the results of some tags.

    ``mode`` "hard" removes everything, and ``on_progress`` is told how many keys are gone so far.
    "soft" removes nothing: results may be served as stale, for at most
    ``SEARCH_CACHE_SOFT_CLEAR_GRACE`` seconds, while they are computed anew, and it can be undone.
    The act is done once under one ``operation_id``, which becomes the key of its row.

    Raises:
        TypeError: an argument is of another type; ``tags`` is one text instead of several.
        OperationDenied: the actor lacks the permission; nothing was done, a row says so.
        OperationRejected: not asked for properly, or switched off; nothing was done or recorded.
        DuplicateOperation: an act was begun under ``operation_id`` before; nothing was done now.
        OperationFailed: the store or the audit trail failed.
    """
    act = Act.CLEAR_SEARCH_CACHE
    way = choose_strategy(mode, tags, on_progress)
    reason = authorize(act, actor, reason, dry_run=dry_run)
    if isinstance(way, OperationRejected):
        raise way
    with translate_errors(act, actor=actor, operation_id=operation_id) as attempt:
        if dry_run:
            return way.look()
        targets = {"mode": mode, "tags": list(way.tags)}
        with attempt.recorded(reason=reason, targets=targets) as operation:
            operation.outcome = {"mode": mode, **asdict(way.clear())}
            operation.message = way.say(operation.outcome)
    search_cache_cleared.send_robust(sender=None, operation=operation, outcome=operation.outcome)
    return OperationResult(message=operation.message, operation_id=operation.pk)


def undo_clear(
    *,
    actor: Actor,
    reason: str = "",
    dry_run: bool = False,
    operation_id: UUID | None = None,
    expected_clear: str | None = None,
) -> OperationResult:
    """Take back the last soft clear: what it ended counts again, beside what was stored since.

    ``expected_clear`` is the ``clear`` of a preview that somebody has seen.

    Raises:
        OperationRejected: also if there is no soft clear within its bound (code "nothing_to_undo"),
        or
            the last one is not the one expected (code "another_clear").
        OperationDenied, OperationFailed: as for clear_search_cache.
    """
    act = Act.UNDO_CLEAR
    reason = authorize(act, actor, reason, dry_run=dry_run)
    passing = (OperationRejected,)
    with translate_errors(act, actor=actor, passing=passing, operation_id=operation_id) as attempt:
        if dry_run:
            found = _require_undoable(soft.find_undoable(), expected_clear)
            message = Message(_("Dry run: the last soft clear would be undone"))
            return OperationResult(message=message, preview=asdict(found))
        with suppress(StoreUnavailable):  # the act's to report, on record
            _require_undoable(soft.find_undoable(), expected_clear)
        try:
            with attempt.recorded(reason=reason) as operation:
                undone = soft.undo(expected_clear)
                operation.outcome = {"alias": undone.alias, "seconds_left": undone.seconds_left}
                operation.message = Message(_("Soft clear undone"))
        except (NothingToUndo, AnotherClear) as error:  # it ended in this very moment
            raise OperationRejected(message_of(error), code=error.code) from error
    return OperationResult(message=operation.message, operation_id=operation.pk)


def sweep_search_cache(
    *,
    actor: Actor,
    reason: str = "",
    dry_run: bool = False,
    on_progress: Progress | None = None,
    operation_id: UUID | None = None,
    seconds: float | None = None,
) -> OperationResult:
    """Remove the results that count no more; ``on_progress`` is told how many were looked at.

    A sweep that was cut off is gone on with by the next one within an hour. After ``seconds`` it
    stops by itself, for a caller that may not last as long as it does; a dry run then infers the
    rest from what it has seen.

    Raises:
        OperationDenied, OperationRejected, OperationFailed: as for clear_search_cache.
    """
    act = Act.SWEEP_SEARCH_CACHE
    reason = authorize(act, actor, reason, dry_run=dry_run)
    with translate_errors(act, actor=actor, operation_id=operation_id) as attempt:
        if dry_run:
            plan = sweep.preview(seconds=seconds)
            return OperationResult(message=_say_plan(plan), preview=asdict(plan))
        with attempt.recorded(reason=reason) as operation:
            outcome = sweep.sweep_leftovers(on_progress=on_progress, seconds=seconds)
            operation.outcome = asdict(outcome)
            operation.message = _say_swept(outcome)
    return OperationResult(message=operation.message, operation_id=operation.pk)


def _say_plan(plan: SweepPlan) -> str:
    if plan.exact:
        words = ngettext_lazy(
            "Dry run: %(removed)d of %(seen)d results would be removed",
            "Dry run: %(removed)d of %(seen)d results would be removed",
            "removed",
        )
    else:
        words = ngettext_lazy(
            "Dry run: about %(removed)d of %(seen)d results would be removed",
            "Dry run: about %(removed)d of %(seen)d results would be removed",
            "removed",
        )
    return Message(words, removed=plan.removed, seen=plan.seen)


def _say_swept(outcome: SweepOutcome) -> str:
    if outcome.finished:
        words = ngettext_lazy(
            "Search cache swept: %(removed)d of %(seen)d results removed",
            "Search cache swept: %(removed)d of %(seen)d results removed",
            "removed",
        )
    else:
        words = ngettext_lazy(
            "Search cache swept in part, about %(share)s: %(removed)d of %(seen)d results removed."
            " Go on with it",
            "Search cache swept in part, about %(share)s: %(removed)d of %(seen)d results removed."
            " Go on with it",
            "removed",
        )
    share = f"{outcome.progress:.0%}"
    return Message(words, removed=outcome.removed, seen=outcome.seen, share=share)


def _require_undoable(found: UndoableClear | None, expected: str | None) -> UndoableClear:
    if found is None:
        nothing = NothingToUndo()
        raise OperationRejected(message_of(nothing), code=nothing.code)
    if expected not in {None, found.clear}:
        another = AnotherClear()
        raise OperationRejected(message_of(another), code=another.code)
    return found
