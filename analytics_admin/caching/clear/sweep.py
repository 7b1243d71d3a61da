"""The sweep: removing, step by step, values in the search cache's store that count no more."""

from dataclasses import dataclass

from redis.exceptions import RedisError

from analytics_admin.caching.clear.outcome import (
    TIMEOUT,
    Progress,
    interrupted,
)
from analytics_admin.caching.clear.rehearsal import rehearse
from analytics_admin.caching.clear.scan import scan_leftovers
from analytics_admin.caching.keyspace import keyspace
from analytics_admin.caching.stores import memory
from analytics_admin.conf import app_settings
from analytics_admin.stores.client import is_local_memory, operation_client


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOutcome:
    """What a sweep did."""

    alias: str
    seen: int
    """Values that it examined."""
    removed: int
    finished: bool = True
    """False: its time was over before it had examined everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPreview:
    """What a sweep would do now."""

    alias: str
    seen: int
    """Values that it would examine."""
    removed: int
    exact: bool = True
    """False: the preview's time was over; there may be more of both."""


def sweep_leftovers(
    *, on_progress: Progress | None = None, seconds: float | None = None
) -> SweepOutcome:
    """Remove the values that count no more; ``on_progress`` gets the number examined so far.

    ``seconds`` limits the time that it takes.

    Raises:
        StoreUnavailable: the store refused or did not answer; what was removed stays removed.
    """
    alias = app_settings().search_cache
    own = keyspace(alias)
    if is_local_memory(alias):
        seen, removed = memory.find_leftovers(alias, own, remove=True)
        return SweepOutcome(alias=alias, seen=seen, removed=removed)
    seen, removed, finished = 0, 0, False
    with operation_client(alias, timeout=TIMEOUT) as client:
        try:
            for step in scan_leftovers(client, own, remove=True, seconds=seconds):
                seen, removed = seen + step.examined, removed + step.outdated
                finished = step.is_last
                if on_progress is not None:
                    on_progress(seen)
        except RedisError as error:
            raise interrupted(error, removed) from None
    return SweepOutcome(alias=alias, seen=seen, removed=removed, finished=finished)


def preview(*, seconds: float | None = None) -> SweepPreview:
    """Return what a sweep would do; change nothing. ``seconds`` limits the time that it takes.

    Raises:
        StoreUnavailable: the store does not answer, or would refuse.
    """
    alias = app_settings().search_cache
    own = keyspace(alias)
    if is_local_memory(alias):
        seen, outdated = memory.find_leftovers(alias, own, remove=False)
        return SweepPreview(alias=alias, seen=seen, removed=outdated)
    with operation_client(alias, timeout=TIMEOUT) as client:
        steps = list(scan_leftovers(client, own, remove=False, seconds=seconds))
        if any(step.outdated for step in steps):
            rehearse(client, ("UNLINK", own.record))
    return SweepPreview(
        alias=alias,
        seen=sum(step.examined for step in steps),
        removed=sum(step.outdated for step in steps),
        exact=steps[-1].is_last,
    )
