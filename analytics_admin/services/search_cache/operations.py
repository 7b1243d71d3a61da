"""What operators do to the search cache: clear it, undo a soft clear, sweep what clears left."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from django.utils.translation import ngettext_lazy

from analytics_admin.caching import keys
from analytics_admin.caching.clear import hard, soft, sweep
from analytics_admin.caching.clear import keys as key_clear
from analytics_admin.caching.clear import tags as tag_clear
from analytics_admin.caching.clear.server import await_copies
from analytics_admin.caching.clear.soft import AnotherClear, NothingToUndo, UndoableClear
from analytics_admin.caching.clear.sweep import SweepOutcome
from analytics_admin.caching.near import forget_near_values
from analytics_admin.i18n import Message, message_of
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.models import Operation
from analytics_admin.permissions import CLEAR_PART
from analytics_admin.services.audit import Actor, is_storable
from analytics_admin.services.errors import OperationRejected
from analytics_admin.services.runner import Command, OperationResult, Outcome, perform
from analytics_admin.signals import search_cache_cleared
from analytics_admin.stores.copies import Copies

UNREMARKABLE = {
    "finished": True,
    "keys_before": None,
    "not_flushed": "",
    "stopped": "",
}
"""What a row does not keep of a clear's outcome."""
ALWAYS_HARD = _("%(what)s: a clear by %(what)s is always hard")
CLEAR_MODES = ("hard", "soft")
MAX_TAG_CHARS = keys.MAX_TAG_CHARS
MAX_TAGS_PER_CLEAR = tag_clear.MAX_TAGS_PER_CLEAR
MAX_KEYS_PER_CLEAR = key_clear.MAX_KEYS_PER_CLEAR

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearStrategy:
    """One way to clear: all values or some, at once or softly."""

    preview: Callable[[], OperationResult]
    execute: Callable[[str], Any]
    """Gets the receipt, by which the loss of the clear is found out later."""
    describe: Callable[[Mapping[str, Any]], str]
    targets: Mapping[str, Any] = field(default_factory=lambda: {"tags": []})
    """What the row says that it is aimed at, beside the mode."""


class _SearchCacheCommand(Command[Outcome]):
    """A command that changes the search cache."""

    __slots__ = ()

    def await_copies(self) -> Copies | None:
        return await_copies()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearSearchCache(_SearchCacheCommand[dict[str, Any]]):
    kind = Operation.Kind.CLEAR_SEARCH_CACHE

    mode: str
    tags: Sequence[str] | None
    functions: Sequence[str] | None
    keys: Sequence[Any] | None
    on_progress: Progress | None

    @property
    def action(self) -> str:
        parts = (self.tags, self.functions, self.keys)
        return self.kind if all(part is None for part in parts) else CLEAR_PART

    @property
    def strategy(self) -> ClearStrategy:
        return choose_strategy(self.mode, self.tags, self.functions, self.keys, self.on_progress)

    @property
    def targets(self) -> Mapping[str, Any]:
        return {"mode": self.mode, **self.strategy.targets}

    def validate(self) -> None:
        self.strategy  # noqa: B018  raises

    def preview(self) -> OperationResult:
        return self.strategy.preview()

    def execute(self) -> dict[str, Any]:
        return self._execute("")

    def execute_as(self, operation: Operation) -> dict[str, Any]:
        return self._execute(receipt_of(operation))

    def _execute(self, receipt: str) -> dict[str, Any]:
        outcome = self.strategy.execute(receipt)
        forget_near_values()
        return {"mode": self.mode, **asdict(outcome)}

    def record(self, outcome: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in outcome.items() if UNREMARKABLE.get(key, ...) != value}

    def message(self, outcome: dict[str, Any]) -> str:
        return self.strategy.describe(outcome)

    def warnings(self, outcome: dict[str, Any]) -> Sequence[str]:
        return [] if outcome.get("finished", True) else [_describe_rest(outcome)]

    def announce(self, operation: Operation) -> None:
        search_cache_cleared.send_robust(
            sender=None, operation=operation, outcome=operation.outcome
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoClear(_SearchCacheCommand[UndoableClear]):
    kind = Operation.Kind.UNDO_CLEAR

    expected_clear: str | None

    def check(self) -> None:
        self._find()

    def preview(self) -> OperationResult:
        message = Message(_("Dry run: the last soft clear would be undone"))
        undoable = self._find()
        soft.rehearse_undo()
        return OperationResult(message=message, preview=asdict(undoable))

    def execute(self) -> UndoableClear:
        return soft.undo(self.expected_clear)

    def record(self, outcome: UndoableClear) -> dict[str, Any]:
        return {"alias": outcome.alias, "seconds_left": outcome.seconds_left}

    def message(self, outcome: UndoableClear) -> str:
        return Message(_("Soft clear undone"))

    def _find(self) -> UndoableClear:
        clear = soft.find_undoable()
        if clear is None:
            raise NothingToUndo
        if self.expected_clear not in {None, clear.clear}:
            raise AnotherClear
        return clear


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoTagClear(_SearchCacheCommand[tag_clear.TagUndoOutcome]):
    """Undoes the last soft clear of each of some tags and functions."""

    kind = Operation.Kind.UNDO_CLEAR
    action = CLEAR_PART

    tags: Sequence[str] | None
    functions: Sequence[str] | None

    @property
    def chosen(self) -> tuple[list[str], list[str]]:
        tags = [] if self.tags is None else _checked("tags", tag_clear.check_tags, self.tags)
        functions: list[str] = []
        if self.functions is not None:
            functions = _checked("functions", tag_clear.check_functions, self.functions)
        return tags, functions

    @property
    def targets(self) -> Mapping[str, Any]:
        tags, functions = self.chosen
        return {"tags": tags, **({"functions": functions} if functions else {})}

    def validate(self) -> None:
        self.chosen  # noqa: B018  raises

    def check(self) -> None:
        self._find()

    def preview(self) -> OperationResult:
        plan = self._find()
        template = ngettext_lazy(
            "Dry run: the last soft clear of %(undone)d of %(number)d tag would be undone",
            "Dry run: the last soft clear of %(undone)d of %(number)d tags would be undone",
            "number",
        )
        message = Message(template, undone=plan.undone, number=plan.tags)
        return OperationResult(message=message, preview=asdict(plan))

    def execute(self) -> tag_clear.TagUndoOutcome:
        return tag_clear.undo_tags(*self.chosen)

    def message(self, outcome: tag_clear.TagUndoOutcome) -> str:
        template = ngettext_lazy(
            "Soft clear undone for %(undone)d of %(number)d tag",
            "Soft clear undone for %(undone)d of %(number)d tags",
            "number",
        )
        return Message(template, undone=outcome.undone, number=outcome.tags)

    def _find(self) -> tag_clear.TagUndoOutcome:
        plan = tag_clear.find_undoable(*self.chosen)
        if not plan.undone:
            raise NothingToUndo
        return plan


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSearchCache(_SearchCacheCommand[SweepOutcome]):
    kind = Operation.Kind.SWEEP_SEARCH_CACHE

    seconds: float | None
    on_progress: Progress | None

    def preview(self) -> OperationResult:
        plan = sweep.preview(seconds=self.seconds)
        if plan.exact:
            template = ngettext_lazy(
                "Dry run: %(removed)d of %(seen)d result would be removed",
                "Dry run: %(removed)d of %(seen)d results would be removed",
                "seen",
            )
        else:
            template = ngettext_lazy(
                "Dry run: %(removed)d of the first %(seen)d result would be removed",
                "Dry run: %(removed)d of the first %(seen)d results would be removed",
                "seen",
            )
        message = Message(template, removed=plan.removed, seen=plan.seen)
        return OperationResult(message=message, preview=asdict(plan))

    def execute(self) -> SweepOutcome:
        return sweep.sweep_leftovers(on_progress=self.on_progress, seconds=self.seconds)

    def message(self, outcome: SweepOutcome) -> str:
        if outcome.finished:
            template = ngettext_lazy(
                "Search cache swept: %(removed)d of %(seen)d result removed",
                "Search cache swept: %(removed)d of %(seen)d results removed",
                "seen",
            )
        else:
            template = ngettext_lazy(
                "Search cache swept in part: %(removed)d of %(seen)d result removed. "
                "Sweep again for the rest",
                "Search cache swept in part: %(removed)d of %(seen)d results removed. "
                "Sweep again for the rest",
                "seen",
            )
        return Message(template, removed=outcome.removed, seen=outcome.seen)


def receipt_of(operation: Operation) -> str:
    """Return what a clear leaves in the store, by which its loss is found out later."""
    return operation.pk.hex


def clear_search_cache(  # noqa: PLR0913  each by its name
    *,
    actor: Actor,
    mode: str = "hard",
    tags: Sequence[str] | None = None,
    functions: Sequence[str] | None = None,
    keys: Sequence[Any] | None = None,
    reason: str = "",
    dry_run: bool = False,
    on_progress: Progress | None = None,
    operation_id: UUID | None = None,
) -> OperationResult:
    """Clear the search cache: all of it, or the values of some tags, functions or keys.

    ``functions`` are cached functions by module and qualified name, like "shop.search.find".
    ``keys`` are keys as the cache's methods take them; not together with the other two.

    ``mode`` "hard" removes everything; ``on_progress`` is called with the keys removed so far.
    "soft" removes nothing: values may be served as stale while they are computed again, for at most
    ``SEARCH_CACHE_SOFT_CLEAR_GRACE`` seconds, and it can be undone. The operation runs once per
    ``operation_id``, which becomes the key of its row.

    Raises:
        TypeError: an argument has another type; ``tags`` is one str instead of several.
        OperationDenied: the actor lacks the permission. Nothing was done; a "denied" row is left.
        OperationRejected: bad arguments, or switched off. Nothing was done or recorded.
        DuplicateOperation: ``operation_id`` is taken. Nothing was done now.
        OperationFailed: the store or the audit trail failed.
    """
    return perform(
        ClearSearchCache(
            mode=mode,
            tags=_listed(tags),
            functions=_listed(functions),
            keys=_listed(keys),
            on_progress=on_progress,
        ),
        actor=actor,
        reason=reason,
        dry_run=dry_run,
        operation_id=operation_id,
    )


def undo_clear(
    *,
    actor: Actor,
    reason: str = "",
    dry_run: bool = False,
    operation_id: UUID | None = None,
    expected_clear: str | None = None,
    tags: Sequence[str] | None = None,
    functions: Sequence[str] | None = None,
) -> OperationResult:
    """Undo the last soft clear: what it ended counts again, beside what was stored since.

    ``expected_clear`` is the ``clear`` of a preview; no other clear is undone. With ``tags`` or
    ``functions``, undo the last soft clear of each of these; what was stored since goes.

    Raises:
        NothingToUndo: there is no soft clear, or its time is over. Nothing was done.
        AnotherClear: the last soft clear is not ``expected_clear``. Nothing was done.
        OperatorError: as for clear_search_cache.
    """
    undo: Command[Any] = UndoClear(expected_clear=expected_clear)
    if tags is not None or functions is not None:
        undo = UndoTagClear(tags=_listed(tags), functions=_listed(functions))
    return perform(
        undo,
        actor=actor,
        reason=reason,
        dry_run=dry_run,
        operation_id=operation_id,
    )


def sweep_search_cache(
    *,
    actor: Actor,
    reason: str = "",
    dry_run: bool = False,
    on_progress: Progress | None = None,
    operation_id: UUID | None = None,
    seconds: float | None = None,
) -> OperationResult:
    """Remove the values that count no more; ``on_progress`` is called with those examined so far.

    ``seconds`` limits the time that it takes; another sweep removes the rest.

    Raises:
        OperatorError: as for clear_search_cache.
    """
    return perform(
        SweepSearchCache(seconds=seconds, on_progress=on_progress),
        actor=actor,
        reason=reason,
        dry_run=dry_run,
        operation_id=operation_id,
    )


def _listed(given: Sequence[Any] | None) -> Sequence[Any] | None:
    """Return a list of what a command reads more than once; leave what its checks reject."""
    return given if given is None or isinstance(given, str | bytes | dict) else list(given)


def choose_strategy(
    mode: str,
    tags: Sequence[str] | None,
    functions: Sequence[str] | None,
    keys: Sequence[Any] | None,
    on_progress: Progress | None,
) -> ClearStrategy:
    """Return how to clear.

    Raises:
        TypeError: ``mode`` is no str, or ``tags``, ``functions`` or ``keys`` are not several.
        OperationRejected: no such mode; unusable tags, functions or keys.
    """
    if not isinstance(mode, str):
        raise TypeError("mode has to be a str")
    if mode not in CLEAR_MODES:
        template = _("mode: one of %(choices)s")
        raise OperationRejected(Message(template, choices=", ".join(CLEAR_MODES)))
    if keys is not None:
        if tags is not None or functions is not None:
            raise OperationRejected(Message(_("keys: not together with tags or functions")))
        return _keys_strategy(mode, keys)
    if tags is not None or functions is not None:
        return _tags_strategy(mode, tags, functions)
    if mode == "soft":
        return ClearStrategy(
            preview=_preview_soft,
            execute=lambda receipt: soft.clear_softly(receipt=receipt),
            describe=_describe_soft,
        )
    return ClearStrategy(
        preview=_preview_hard,
        execute=lambda receipt: hard.clear(on_progress=on_progress, receipt=receipt),
        describe=lambda outcome: Message(_("Search cache cleared")),
    )


def _tags_strategy(
    mode: str, tags: Sequence[str] | None, functions: Sequence[str] | None
) -> ClearStrategy:
    named = [] if tags is None else _checked("tags", tag_clear.check_tags, tags)
    called = (
        [] if functions is None else _checked("functions", tag_clear.check_functions, functions)
    )
    targets = {"tags": named, **({} if functions is None else {"functions": called})}
    if mode == "soft":
        return ClearStrategy(
            preview=lambda: _preview_tags(named, called),
            execute=lambda receipt: tag_clear.clear_tags_softly(named, called, receipt=receipt),
            describe=_describe_tags_softly,
            targets=targets,
        )
    return ClearStrategy(
        preview=lambda: _preview_tags(named, called),
        execute=lambda receipt: tag_clear.clear_tags(named, called, receipt=receipt),
        describe=_describe_tags if functions is None else _describe_functions,
        targets=targets,
    )


def _checked(
    what: str, check: Callable[[Sequence[Any]], list[str]], given: Sequence[Any]
) -> list[str]:
    try:
        checked = check(given)
    except ValueError as error:
        rejection = Message(_("%(what)s: %(fault)s"), what=what, fault=message_of(error))
        raise OperationRejected(rejection) from error
    if not all(map(is_storable, checked)):
        raise OperationRejected(
            Message(_("%(what)s: contains characters that are not text"), what=what)
        )
    return checked


def _keys_strategy(mode: str, given: Sequence[Any]) -> ClearStrategy:
    names = _checked("keys", key_clear.check_keys, given)
    if mode != "hard":
        raise OperationRejected(Message(ALWAYS_HARD, what="keys"))
    return ClearStrategy(
        preview=lambda: _preview_keys(names),
        execute=lambda receipt: key_clear.clear_keys(names, receipt=receipt),
        describe=_describe_keys,
        targets={"tags": [], "keys": [name.removeprefix("k:") for name in names]},
    )


def _preview_hard() -> OperationResult:
    preview = hard.preview()
    if preview.exact:
        template = ngettext_lazy(
            "Dry run: %(number)d key would be removed",
            "Dry run: %(number)d keys would be removed",
            "number",
        )
    else:
        template = ngettext_lazy(
            "Dry run: about %(number)d key would be removed",
            "Dry run: about %(number)d keys would be removed",
            "number",
        )
    message = Message(template, number=preview.keys)
    return OperationResult(message=message, preview=asdict(preview))


def _preview_soft() -> OperationResult:
    preview = soft.preview()
    if preview.exact:
        template = ngettext_lazy(
            "Dry run: %(number)d key would be stale, for at most %(seconds)s s",
            "Dry run: %(number)d keys would be stale, for at most %(seconds)s s",
            "number",
        )
    else:
        template = ngettext_lazy(
            "Dry run: about %(number)d key would be stale, for at most %(seconds)s s",
            "Dry run: about %(number)d keys would be stale, for at most %(seconds)s s",
            "number",
        )
    message = Message(template, number=preview.keys, seconds=f"{preview.stale_for:g}")
    return OperationResult(message=message, preview=asdict(preview))


def _preview_tags(tags: Sequence[str], functions: Sequence[str]) -> OperationResult:
    preview = tag_clear.preview(tags, functions)
    template = ngettext_lazy(
        "Dry run: the results of %(number)d tag would be cleared",
        "Dry run: the results of %(number)d tags would be cleared",
        "number",
    )
    if functions:
        template = ngettext_lazy(
            "Dry run: the results of %(number)d function or tag would be cleared",
            "Dry run: the results of %(number)d functions and tags would be cleared",
            "number",
        )
    return OperationResult(message=Message(template, number=preview.tags), preview=asdict(preview))


def _preview_keys(names: Sequence[str]) -> OperationResult:
    preview = key_clear.preview(names)
    template = ngettext_lazy(
        "Dry run: the results of %(number)d key would be cleared",
        "Dry run: the results of %(number)d keys would be cleared",
        "number",
    )
    return OperationResult(message=Message(template, number=preview.named), preview=asdict(preview))


def _describe_keys(outcome: Mapping[str, Any]) -> str:
    template = ngettext_lazy(
        "Search cache cleared for %(number)d key",
        "Search cache cleared for %(number)d keys",
        "number",
    )
    return Message(template, number=outcome["named"])


def _describe_tags_softly(outcome: Mapping[str, Any]) -> str:
    template = ngettext_lazy(
        "Search cache cleared softly for %(number)d tag: stale results for at most %(seconds)s s",
        "Search cache cleared softly for %(number)d tags: stale results for at most %(seconds)s s",
        "number",
    )
    return Message(template, number=outcome["tags"], seconds=f"{outcome['stale_for']:g}")


def _describe_functions(outcome: Mapping[str, Any]) -> str:
    template = ngettext_lazy(
        "Search cache cleared for %(number)d function or tag",
        "Search cache cleared for %(number)d functions and tags",
        "number",
    )
    return Message(template, number=outcome["tags"])


def _describe_rest(outcome: Mapping[str, Any]) -> Message:
    """Return what became of the keys of a clear that did not remove all."""
    removed, before, reason = outcome["keys"], outcome["keys_before"], outcome["stopped"]
    if before is None:
        template = ngettext_lazy(
            "Cleared, but only %(number)s key removed: %(reason)s. "
            "What is left counts no more; it expires or goes with sweep_search_cache",
            "Cleared, but only %(number)s keys removed: %(reason)s. "
            "What is left counts no more; it expires or goes with sweep_search_cache",
            "number",
        )
        return Message(template, number=removed, reason=reason)
    template = ngettext_lazy(
        "Cleared, but only %(removed)s of about %(number)s key removed: %(reason)s. "
        "What is left counts no more; it expires or goes with sweep_search_cache",
        "Cleared, but only %(removed)s of about %(number)s keys removed: %(reason)s. "
        "What is left counts no more; it expires or goes with sweep_search_cache",
        "number",
    )
    return Message(template, removed=removed, number=before, reason=reason)


def _describe_soft(outcome: Mapping[str, Any]) -> str:
    template = _("Search cache cleared softly: stale results for at most %(seconds)s s")
    return Message(template, seconds=f"{outcome['stale_for']:g}")


def _describe_tags(outcome: Mapping[str, Any]) -> str:
    template = ngettext_lazy(
        "Search cache cleared for %(number)d tag",
        "Search cache cleared for %(number)d tags",
        "number",
    )
    return Message(template, number=outcome["tags"])
