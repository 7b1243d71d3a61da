"""What a clear of the search cache would do: to its database, and to the backend behind it."""

import time
from dataclasses import dataclass

from analytics_admin.caching.inspection.survey import OtherKeys, Survey
from analytics_admin.caching.statistics.queries import Load, estimate_load, read_figures
from analytics_admin.stores.client import StoreUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearPreview:
    """What a clear would remove now, and what the backend would see then."""

    alias: str
    dedicated: bool
    keys: int
    exact: bool
    """False: ``keys`` is an estimate from a sample."""
    bytes: int | None
    """About the memory that these keys take; None: unknown."""
    foreign: tuple[OtherKeys, ...] | None
    """Keys in the database that are not the search cache's, the ten most frequent kinds. They go
    too if the database is ``dedicated``. None: unknown."""
    load: Load | None
    """None: unknown, for ``load_unknown``."""
    load_unknown: str = ""


def foresee(alias: str, found: Survey, dedicated: bool) -> ClearPreview:
    """Return the preview of a clear of what was found."""
    load, unknown, now = None, "", time.time()
    try:
        load = estimate_load(read_figures(now=now), now=now)
    except StoreUnavailable as error:
        unknown = error.reason
    return ClearPreview(
        alias=alias,
        dedicated=dedicated,
        keys=found.keys,
        exact=found.exact,
        bytes=found.bytes,
        foreign=found.foreign,
        load=load,
        load_unknown=unknown,
    )
