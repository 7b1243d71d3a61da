"""How times read: in words, and exact on hover; console.js puts them in the viewer's zone.

Each is a ``<time>`` whose ``data-aa-as`` says how it reads, so that pages count on by themselves.
"""

from datetime import UTC, datetime, timedelta

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince, timeuntil
from django.utils.translation import gettext

from analytics_admin.models import with_zone

MAX_COUNTDOWN = timedelta(days=1)


def moment(at: datetime) -> SafeString:
    """Return the day and time, to the second, with its zone."""
    local = timezone.localtime(with_zone(at))
    text = f"{date_format(local, 'DATE_FORMAT')}, {local:%H:%M:%S %Z}"
    return _element(at, "moment", text)


def clock(at: datetime) -> SafeString:
    """Return the time of day, for what is at most hours away."""
    return _element(at, "clock", date_format(timezone.localtime(with_zone(at)), "H:i:s"))


def age(at: datetime) -> SafeString:
    """Return how long ago it was."""
    text = gettext("%(age)s ago") % {"age": timesince(with_zone(at), with_zone(timezone.now()))}
    return _element(at, "age", text)


def countdown(at: datetime, over: str = "") -> SafeString:
    """Return the time until then as h:mm:ss; ``over`` is shown once it has passed."""
    now = with_zone(timezone.now())
    remaining = with_zone(at) - now
    if remaining <= timedelta(0):
        text = over or "0:00"
    elif remaining < MAX_COUNTDOWN:
        text = format_clock(remaining)
    else:
        text = timeuntil(with_zone(at), now)
    return _element(at, "countdown", text, over)


def format_clock(span: timedelta) -> str:
    """Return whole seconds, rounded up, as m:ss or h:mm:ss."""
    seconds = -int(-span.total_seconds() // 1)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    tail = f"{seconds % 60:02}"
    return f"{hours}:{minutes:02}:{tail}" if hours else f"{minutes}:{tail}"


def _element(at: datetime, kind: str, text: str, over: str = "") -> SafeString:
    exact = with_zone(at).astimezone(UTC).isoformat(timespec="milliseconds")[: -len("+00:00")]
    return format_html(
        '<time datetime="{}Z" title="{} UTC" data-aa-as="{}"{}>{}</time>',
        exact,
        exact.replace("T", " "),
        kind,
        format_html(' data-aa-over="{}"', over) if over else "",
        text,
    )
