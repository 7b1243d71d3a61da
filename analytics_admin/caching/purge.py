"""Clear the search cache (being written)."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearPreview:
    alias: str
    dedicated: bool
    keys: int
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearOutcome:
    alias: str
    dedicated: bool
    keys: int


def preview(*, exact: bool = False) -> ClearPreview:
    return ClearPreview(alias="search", dedicated=False, keys=0, exact=True)


def clear(*, on_progress: Callable[[int], None] | None = None) -> ClearOutcome:
    return ClearOutcome(alias="search", dedicated=False, keys=0)
