"""How the search cache's figures read; what is not known reads "unknown"."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.template.defaultfilters import filesizeformat
from django.utils.text import Truncator
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from analytics_admin.console.labels import REACHABLE, UNKNOWN, count, share, status_badge, tenths
from analytics_admin.i18n import localized
from analytics_admin.models import Operation
from analytics_admin.services.search_cache.queries import SearchCacheCounts, SearchCacheStatus

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

MAX_TAG_SHOWN = 60
LEAST_SHOWN = 0.05
"""As a tenth, by rounding."""
MODES: Mapping[str, "_StrPromise"] = {
    "hard": _("hard"),
    "soft": _("soft"),
    "tags": _("by tag"),
    "functions": _("by function"),
    "keys": _("by key"),
}
FIGURES: Mapping[str, "_StrPromise"] = {
    "calls": _("Calls"),
    "hits": _("Hits"),
    "hit_ratio": _("Hit ratio"),
    "misses": _("Misses"),
    "stale_served": _("Stale values served"),
    "stale_on_error": _("… because the caller's own search failed"),
    "bypassed": _("Bypassed calls"),
    "fills": _("Values stored"),
    "refused_fills": _("Not stored: cleared or replaced meanwhile"),
    "too_large": _("Not stored: too large"),
    "compute_errors": _("Failed searches"),
    "compute_seconds": _("Time spent searching"),
    "saved_seconds": _("Time saved by hits"),
}


def describe_facts(status: SearchCacheStatus) -> dict[str, Any]:
    """Return the facts of the search cache's page, as plain data."""
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
        "other_keys": _other_keys(
            [
                {"prefix": kind.prefix, "keys": kind.keys, "share": kind.share}
                for kind in status.foreign or ()
            ]
        ),
    }


def describe_verdict(status: SearchCacheStatus) -> tuple[str, str]:
    """Return the verdict's tone and sentence."""
    if not status.reachable:
        return "quiet", gettext("Unknown: %(reason)s") % {"reason": localized(status.unavailable)}
    recent = status.last_5_minutes
    if recent is None:
        return "warn", gettext("The search cache is reachable. Its statistics are unknown.")
    if recent.bypassed:
        return "warn", gettext(
            "The search cache is reachable. Some calls bypassed it in the last five minutes."
        )
    return "good", gettext("The search cache is reachable.")


def describe_clears(rows: Sequence[Operation]) -> list[dict[str, Any]]:
    """Return the rows about clears, whatever their status."""
    return [
        {
            "id": str(row.pk),
            "at": row.started_at,
            "status": status_badge(row),
            "mode": format_mode(row.clear_mode),
            "tags": row.tags,
            "actor": row.actor,
            "reason": row.reason,
            "error": row.error,
        }
        for row in rows
    ]


def format_mode(mode: str) -> str:
    """Return the mode of a clear; an unknown mode keeps its name."""
    return str(MODES.get(mode, mode))


def describe_tags(status: SearchCacheStatus, address: str) -> list[dict[str, str]]:
    """Return the tags in use, each with the URL that puts it into the form.

    A tag with a comma has no URL, as the form separates tags by commas.
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


def describe_load(load: Mapping[str, Any]) -> dict[str, str]:
    """Return the load per second now, and after a clear."""
    texts = {
        name: _format_at_once(value) if name.startswith("compute_seconds") else tenths(value)
        for name, value in load.items()
        if value is not None
    }
    if load["hit_ratio"] is not None:
        texts["hit_ratio"] = share(load["hit_ratio"])
    return texts


def _format_at_once(number: float) -> str:
    """Return how many searches run at once, on average; few are not called none."""
    if 0 < number < LEAST_SHOWN:
        return gettext("less than %(number)s") % {"number": tenths(0.1)}
    return tenths(number)


def describe_impact(preview: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a clear means for the backend, and for other keys.

    A preview may hold neither, as that of a clear by tags.
    """
    load, size = preview.get("load"), preview.get("bytes")
    return {
        "bytes": "" if size is None else filesizeformat(size),
        "load": describe_load(load) if load else {},
        "other_keys": _other_keys(preview.get("foreign") or ()),
        "is_flush": preview.get("way") == "flush",
    }


def _rows(periods: Sequence[SearchCacheCounts]) -> Iterator[dict[str, Any]]:
    if not periods:
        return
    for figure, label in FIGURES.items():
        yield {
            "figure": figure,
            "label": label,
            "values": [_format_figure(figure, getattr(period, figure)) for period in periods],
        }


def _format_figure(figure: str, value: float | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    if figure == "hit_ratio":
        return share(value)
    if figure.endswith("seconds"):
        return gettext("%(seconds)s s") % {"seconds": tenths(value)}
    return count(int(value))


def _other_keys(others: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "prefix": kind["prefix"] or gettext("(no prefix)"),
            "keys": count(kind["keys"]),
            "share": share(kind["share"]),
        }
        for kind in others
    ]


def format_ratio(ratio: float | None) -> str:
    return gettext("none") if ratio is None else share(ratio)


def format_period(hours: int) -> str:
    text = ngettext("the last hour", "the last %(hours)d hours", hours)
    return text % {"hours": hours}
