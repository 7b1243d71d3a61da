"""Declared breakers by name (being written)."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerReset:
    name: str
    from_state: str
    to_state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerStatus:
    name: str
    state: str
    consecutive_failures: int = 0
    retry_after: float | None = None


class UnknownBreakers(LookupError):
    code = "unknown_breaker"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = sorted(names)
        super().__init__("Unknown circuit breakers: " + ", ".join(self.names))


def plan_reset(names: Sequence[str] | None, *, only_open: bool) -> list[BreakerReset]:
    return []


def reset(names: Sequence[str] | None, *, only_open: bool) -> list[BreakerReset]:
    return []


def require_known(names: Sequence[str]) -> None: ...


def statuses() -> list[BreakerStatus]:
    return []
