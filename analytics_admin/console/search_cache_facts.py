"""How the search cache's figures read: numbers with words, and "unknown" for what is not known."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.template.defaultfilters import filesizeformat
from django.utils.formats import number_format
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from analytics_admin.console.wording import REACHABLE, UNKNOWN, count
from analytics_admin.services import SearchCacheCounts, SearchCacheStatus

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

MODES: Mapping[str, "_StrPromise"] = {"hard": _("hard"), "soft": _("soft"), "tags": _("by tag")}
FIGURES: Mapping[str, "_StrPromise"] = {
    "calls": _("Calls"),
    "hits": _("Hits"),
    "hit_ratio": _("Hit ratio"),
    "misses": _("Misses"),
    "stale_served": _("Stale values served"),
    "stale_on_error": _("… because the search failed"),
    "bypassed": _("Calls with the store away"),
    "fills": _("Values stored"),
    "refused_fills": _("Refused: cleared or set meanwhile"),
    "too_large": _("Refused: too large"),
    "compute_errors": _("Searches that failed"),
    "compute_seconds": _("Time spent on searches"),
    "saved_seconds": _("Time that hits have saved"),
}


def describe_facts(status: SearchCacheStatus) -> dict[str, Any]:
    """Return the words of the search cache's page."""
    periods = (status.last_5_minutes, status.last_hour, status.last_day)
    return {
        "store": REACHABLE if status.reachable else UNKNOWN,
        "keys": "" if status.keys is None else count(status.keys),
        "bytes": "" if status.bytes is None else filesizeformat(status.bytes),
        "server_bytes": filesizeformat(status.server_bytes) if status.server_bytes else "",
        "server_limit": filesizeformat(status.server_bytes_limit)
        if status.server_bytes_limit
        else "",
        "mode": MODES.get(status.last_clear.mode, status.last_clear.mode)
        if status.last_clear
        else "",
        "figures": list(_rows([period for period in periods if period is not None])),
        "foreign": _foreign_rows(
            [
                {"prefix": kind.prefix, "keys": kind.keys, "share": kind.share}
                for kind in status.foreign or ()
            ]
        ),
    }


def describe_radius(preview: Mapping[str, Any]) -> dict[str, Any]:
    """Return the words about what a clear means for the backend, and for other keys.

    A preview may say nothing of either, as that of a clear by tags.
    """
    load, size = preview.get("load"), preview.get("bytes")
    told = {}
    if load:
        told = {
            name: number_format(value, 1, use_l10n=True)
            for name, value in load.items()
            if value is not None
        }
        if load["hit_ratio"] is not None:
            told["hit_ratio"] = _share(load["hit_ratio"])
    return {
        "bytes": "" if size is None else filesizeformat(size),
        "load": told,
        "foreign": _foreign_rows(preview.get("foreign") or ()),
    }


def _rows(periods: Sequence[SearchCacheCounts]) -> Iterator[dict[str, Any]]:
    if not periods:
        return
    for figure, words in FIGURES.items():
        yield {
            "figure": figure,
            "words": words,
            "values": [_shown(figure, getattr(period, figure)) for period in periods],
        }


def _shown(figure: str, value: float | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    if figure == "hit_ratio":
        return _share(value)
    if figure.endswith("seconds"):
        return gettext("%(seconds)s s") % {"seconds": number_format(value, 1, use_l10n=True)}
    return count(int(value))


def _foreign_rows(foreign: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "prefix": kind["prefix"] or gettext("(no colon)"),
            "keys": count(kind["keys"]),
            "share": _share(kind["share"]),
        }
        for kind in foreign
    ]


def _share(part: float) -> str:
    return gettext("%(number)s %%") % {"number": number_format(100 * part, 1, use_l10n=True)}
