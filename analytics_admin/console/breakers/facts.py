"""What pages say of a breaker that goes by the clock, as instants: pages count on by themselves."""

from dataclasses import replace
from datetime import datetime, timedelta

from django.utils.safestring import SafeString
from django.utils.translation import gettext

from analytics_admin.console.times import left
from analytics_admin.services import BreakerStatus

PROBING = ("open", "half_open")


def probes(status: BreakerStatus) -> bool:
    """Say whether a probe decides when calls pass again, and not an operator's hold."""
    return status.state in PROBING and status.control == "automatic"


def next_probe_at(status: BreakerStatus, read_at: datetime) -> datetime | None:
    """Return when the next probe may pass; None when one may now, or none is awaited.

    It is the same at each look, which a difference of two clocks' readings would not be.
    """
    if not probes(status) or not status.retry_after:
        return None
    at = read_at + timedelta(seconds=status.retry_after)
    return at.replace(microsecond=0) + timedelta(seconds=round(at.microsecond / 1e6, 1))


def format_next_probe(status: BreakerStatus, read_at: datetime) -> SafeString | str:
    """Return the countdown to the next probe, or that one may pass now; "" if none is awaited."""
    if not probes(status):
        return ""
    ready, at = gettext("ready to probe"), next_probe_at(status, read_at)
    return ready if at is None else left(at, ready)


def as_etag_source(
    status: BreakerStatus, read_at: datetime
) -> tuple[BreakerStatus, datetime | None]:
    """Return what a page tells of the breaker, which stays the same while only time goes on."""
    return replace(status, retry_after=None), next_probe_at(status, read_at)
