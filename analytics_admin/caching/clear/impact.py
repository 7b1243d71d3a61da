"""What a clear means for the backend."""

import time
from typing import Any

from analytics_admin.caching.statistics.queries import estimate_load, read_figures
from analytics_admin.stores.client import StoreUnavailable


def foresee_load() -> dict[str, Any]:
    """Return ``load`` and ``load_unknown`` of a preview."""
    now = time.time()
    try:
        return {"load": estimate_load(read_figures(now=now), now=now)}
    except StoreUnavailable as error:
        return {"load": None, "load_unknown": error.reason}
