"""How the search cache's figures read: numbers with words, and "unknown" for what is not known."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.template.defaultfilters import filesizeformat
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from analytics_admin import services
from analytics_admin.console.labels import REACHABLE, UNKNOWN, count, share, status_badge, tenths
from analytics_admin.i18n import localized
from analytics_admin.models import Operation
from analytics_admin.services import SearchCacheCounts, SearchCacheStatus, SearchCacheSweep

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

MAX_TAG_SHOWN = 60
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
    """Return the words of the search cache's page, as plain data."""
    periods = (status.last_5_minutes, status.last_hour, status.last_day)
    tone, verdict = describe_verdict(status)
    return {
        "tone": tone,
        "verdict": verdict,
        "store": REACHABLE if status.reachable else UNKNOWN,
        "keys": "" if status.keys is None else count(status.keys),
        "bytes": "" if status.bytes is None else filesizeformat(status.bytes),
        "server_bytes": filesizeformat(status.server_bytes) if status.server_bytes else "",
        "server_limit": filesizeformat(status.server_bytes_limit)
        if status.server_bytes_limit
        else "",
        "mode": format_mode(status.last_clear.mode) if status.last_clear else "",
        "figures": list(_rows([period for period in periods if period is not None])),
        "looked_at": count(status.looked_at or 0),
        "foreign": _foreign_rows(
            [
                {"prefix": kind.prefix, "keys": kind.keys, "share": kind.share}
                for kind in status.foreign or ()
            ]
        ),
    }


def describe_verdict(status: SearchCacheStatus) -> tuple[str, str]:
    """Return the tone, and the sentence that says how the search cache is."""
    if not status.reachable:
        return "quiet", gettext("Unknown: %(reason)s") % {"reason": localized(status.unavailable)}
    recent = status.last_5_minutes
    if recent is None:
        return "warn", gettext("The search cache answers. How it is used is unknown.")
    if recent.bypassed:
        return "warn", gettext(
            "The search cache answers. In the last five minutes some calls went without it."
        )
    return "good", gettext("The search cache answers.")


def describe_clears(rows: Sequence[Operation]) -> list[dict[str, Any]]:
    """Return the words about clears, whatever became of them."""
    return [
        {
            "id": str(row.pk),
            "at": row.started_at,
            "status": status_badge(row),
            "mode": format_mode(services.clear_mode_of(row)),
            "tags": services.clear_tags_of(row),
            "actor": row.actor,
            "reason": row.reason,
            "error": row.error,
        }
        for row in rows
    ]


def format_mode(mode: str) -> str:
    """Return how a clear was done; a way this version does not know keeps its own name."""
    return str(MODES.get(mode, mode))


def describe_tags(status: SearchCacheStatus, address: str) -> list[dict[str, str]]:
    """Return the tags in use, each with the address that puts it into the form.

    One with a comma has none: between tags a comma parts them.
    """
    sign = "&" if "?" in address else "?"
    return [
        {
            "name": tag,
            "shown": Truncator(tag).chars(MAX_TAG_SHOWN),
            "url": ""
            if "," in tag or tag != tag.strip()
            else f"{address}{sign}{urlencode({'tag': tag})}#aa-clear",
        }
        for tag in status.tags or ()
    ]


def describe_sweep(sweep: SearchCacheSweep | None) -> dict[str, Any] | None:
    """Return the words about a sweep that is not over."""
    if sweep is None:
        return None
    return {
        "percent": int(100 * sweep.progress),
        "seen": count(sweep.seen),
        "removed": count(sweep.removed),
        "under_way": sweep.under_way,
        "stopped_at": sweep.last_step_at,
        "until": sweep.resumable_until,
    }


def describe_load(load: Mapping[str, Any]) -> dict[str, str]:
    """Return the words about what comes per second, and what would after a clear."""
    told = {name: tenths(value) for name, value in load.items() if value is not None}
    if load["hit_ratio"] is not None:
        told["hit_ratio"] = share(load["hit_ratio"])
    return told


def describe_impact(preview: Mapping[str, Any]) -> dict[str, Any]:
    """Return the words about what a clear means for the backend, and for other keys.

    A preview may say nothing of either, as that of a clear by tags.
    """
    load, size = preview.get("load"), preview.get("bytes")
    return {
        "bytes": "" if size is None else filesizeformat(size),
        "load": describe_load(load) if load else {},
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
        return share(value)
    if figure.endswith("seconds"):
        return gettext("%(seconds)s s") % {"seconds": tenths(value)}
    return count(int(value))


def _foreign_rows(foreign: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "prefix": kind["prefix"] or gettext("(no colon)"),
            "keys": count(kind["keys"]),
            "share": share(kind["share"]),
        }
        for kind in foreign
    ]
