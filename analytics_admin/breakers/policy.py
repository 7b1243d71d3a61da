"""When a breaker opens, how long it stays open, how it probes. Knows no store, no settings."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """Every knob of a circuit breaker; names and meaning follow resilience4j.

    Durations are seconds; a timedelta is taken too and kept as seconds.

    Raises:
        TypeError: a value is of the wrong type.
        ValueError: a value is out of bounds; the text names the field and the bound.
    """

    failure_threshold: int = 5
    """Consecutive failures that open the breaker; at least 1."""
    wait_duration_in_open_state: float = 60.0
    """How long calls are rejected before a probe may pass; more than 0."""
    permitted_number_of_calls_in_half_open_state: int = 1
    """Probes let through by the whole fleet in one half-open round; at least 1."""
    max_wait_duration_in_half_open_state: float = 60.0
    """When a round's probes have not reported by then, a new round starts; more than 0."""
    record_exceptions: tuple[type[BaseException], ...] = (Exception,)
    """Exceptions that count as failures; all others that are raised count as successes."""
    ignore_exceptions: tuple[type[BaseException], ...] = ()
    """Exceptions that count as nothing; they win over ``record_exceptions``."""

    def __post_init__(self) -> None:
        _whole_number(self, "failure_threshold")
        _whole_number(self, "permitted_number_of_calls_in_half_open_state")
        _duration(self, "wait_duration_in_open_state")
        _duration(self, "max_wait_duration_in_half_open_state")
        _exceptions(self, "record_exceptions")
        _exceptions(self, "ignore_exceptions")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "BreakerPolicy":
        """Build a policy from keyword options, defaults for those not given.

        Raises:
            TypeError, ValueError: as the class does, and for an option that does not exist.
        """
        known = [item.name for item in fields(cls)]
        for option in options:
            if option not in known:
                near = difflib.get_close_matches(str(option), known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"BreakerPolicy has no option {option!r}{hint}")
        return cls(**options)

    def counts_as_failure(self, error: BaseException) -> bool:
        """Say whether a raised exception counts against the breaker."""
        return isinstance(error, self.record_exceptions) and not self.ignores(error)

    def ignores(self, error: BaseException) -> bool:
        """Say whether a raised exception counts as nothing at all."""
        return isinstance(error, self.ignore_exceptions)


def _whole_number(policy: BreakerPolicy, name: str, *, least: int = 1) -> None:
    value = getattr(policy, name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")


def _duration(policy: BreakerPolicy, name: str) -> None:
    value = getattr(policy, name)
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be seconds or a timedelta, not {value!r}")
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {value}")
    object.__setattr__(policy, name, float(value))


def _exceptions(policy: BreakerPolicy, name: str) -> None:
    given = getattr(policy, name)
    classes = (given,) if isinstance(given, type) else given
    if isinstance(classes, str) or not isinstance(classes, tuple | list | set | frozenset):
        raise TypeError(f"{name} must be exception classes, not {given!r}")
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise TypeError(f"{name} must hold exception classes only, not {cls!r}")
    object.__setattr__(policy, name, tuple(classes))
