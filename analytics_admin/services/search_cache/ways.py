"""The ways to clear the search cache: all of it at once or softly, or the results of some tags.

Knows neither actors nor rows on record: search_cache_acts makes an act of a way.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.utils.translation import ngettext_lazy

from analytics_admin.caching.clear import hard, soft
from analytics_admin.caching.clear import tags as tag_clear
from analytics_admin.conf import app_settings
from analytics_admin.i18n import Message, message_of
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.services import audit
from analytics_admin.services.errors import OperationRejected
from analytics_admin.services.runner import OperationResult

CLEAR_MODES = ("hard", "soft")

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearStrategy:
    """One way to clear: how to look first, do it, and say what was done."""

    look: Callable[[], OperationResult]
    clear: Callable[[], Any]
    say: Callable[[Mapping[str, Any]], str]
    tags: Sequence[str] = ()


def choose_strategy(
    mode: str, tags: Sequence[str] | None, on_progress: Progress | None
) -> ClearStrategy | OperationRejected:
    """Return the way that was asked for, or the refusal, which comes after that of the actor."""
    if not isinstance(mode, str):
        raise TypeError("mode has to be a str")
    if mode not in CLEAR_MODES:
        words = _("mode: one of %(choices)s")
        return OperationRejected(Message(words, choices=", ".join(CLEAR_MODES)), code="invalid")
    if tags is not None:
        return _tags_strategy(mode, tags)
    if mode == "soft":
        return ClearStrategy(look=_preview_soft, clear=soft.clear_softly, say=_say_soft)
    return ClearStrategy(
        look=_preview_hard,
        clear=lambda: hard.clear(on_progress=on_progress),
        say=lambda outcome: Message(_("Search cache cleared")),
    )


def _tags_strategy(mode: str, tags: Sequence[str]) -> ClearStrategy | OperationRejected:
    try:
        named = tag_clear.check_tags(tags)
    except ValueError as error:
        return OperationRejected(
            Message(_("tags: %(fault)s"), fault=message_of(error)), code="invalid"
        )
    if not all(map(audit.is_storable, named)):
        return OperationRejected(
            Message(_("tags: holds characters that are no text")), code="invalid"
        )
    if mode != "hard":
        return OperationRejected(Message(_("tags: a clear by tags is always hard")), code="invalid")
    return ClearStrategy(
        look=lambda: _preview_tags(named),
        clear=lambda: tag_clear.clear_tags(named),
        say=_say_tags,
        tags=named,
    )


def _preview_hard() -> OperationResult:
    preview = hard.preview()
    if preview.exact:
        words = ngettext_lazy(
            "Dry run: %(number)d keys would be removed",
            "Dry run: %(number)d keys would be removed",
            "number",
        )
    else:
        words = ngettext_lazy(
            "Dry run: about %(number)d keys would be removed",
            "Dry run: about %(number)d keys would be removed",
            "number",
        )
    return OperationResult(message=Message(words, number=preview.keys), preview=asdict(preview))


def _preview_soft() -> OperationResult:
    preview, stale_for = hard.preview(), float(app_settings().search_cache_soft_clear_grace)
    if preview.exact:
        words = ngettext_lazy(
            "Dry run: %(number)d keys would be stale, for at most %(seconds)s s",
            "Dry run: %(number)d keys would be stale, for at most %(seconds)s s",
            "number",
        )
    else:
        words = ngettext_lazy(
            "Dry run: about %(number)d keys would be stale, for at most %(seconds)s s",
            "Dry run: about %(number)d keys would be stale, for at most %(seconds)s s",
            "number",
        )
    told = {**asdict(preview), "stale_for": stale_for}
    del told["foreign"]  # it removes nobody's keys
    message = Message(words, number=preview.keys, seconds=f"{stale_for:g}")
    return OperationResult(message=message, preview=told)


def _preview_tags(tags: Sequence[str]) -> OperationResult:
    preview = tag_clear.preview(tags)
    words = ngettext_lazy(
        "Dry run: the results of %(number)d tag would be cleared",
        "Dry run: the results of %(number)d tags would be cleared",
        "number",
    )
    return OperationResult(message=Message(words, number=preview.tags), preview=asdict(preview))


def _say_soft(outcome: Mapping[str, Any]) -> str:
    words = _("Search cache cleared softly: stale results for at most %(seconds)s s")
    return Message(words, seconds=f"{outcome['stale_for']:g}")


def _say_tags(outcome: Mapping[str, Any]) -> str:
    words = ngettext_lazy(
        "Search cache cleared for %(number)d tag",
        "Search cache cleared for %(number)d tags",
        "number",
    )
    return Message(words, number=outcome["tags"])
