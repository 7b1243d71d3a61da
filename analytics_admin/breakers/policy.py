"""The options of a breaker, by which ``state_machine`` opens and closes it."""

import difflib
import json
import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Literal, NamedTuple, TypedDict

from analytics_admin.breakers.predicates import check_predicate, dotted_name, is_instance

RATE_OPTIONS = ("failure_rate_threshold", "slow_call_rate_threshold")
IGNORE, FAILURE, SLOW = "ignore", "failure", "slow"
"""Values of ``record_cancelled``."""
COUNT_BASED = "count_based"
TIME_BASED = "time_based"
MAX_WINDOW_CALLS = 10_000
MAX_WINDOW_SECONDS = 900
_ExceptionClasses = type[BaseException] | Sequence[type[BaseException]] | Set[type[BaseException]]
MAX_POLICY_CHARS = 600
"""A longer encoded policy, with very many exceptions, is not stored."""


class PolicyOptions(TypedDict, total=False):
    """The options of BreakerPolicy as keyword arguments and as dicts in the settings."""

    failure_threshold: int | None
    failure_rate_threshold: float | None
    slow_call_rate_threshold: float | None
    slow_call_duration_threshold: float | timedelta
    sliding_window_type: Literal["count_based", "time_based"]
    sliding_window_size: int
    minimum_number_of_calls: int
    wait_duration_in_open_state: float | timedelta
    open_state_backoff_multiplier: float
    max_wait_duration_in_open_state: float | timedelta | None
    randomized_wait_factor: float
    permitted_number_of_calls_in_half_open_state: int
    max_wait_duration_in_half_open_state: float | timedelta
    record_exceptions: _ExceptionClasses
    ignore_exceptions: _ExceptionClasses
    record_result: Callable[[Any], bool] | None
    record_cancelled: Literal["ignore", "failure", "slow"] | None


class _DefaultThreshold(int):
    """A default that can be told from the same number given by a caller."""


_DEFAULT_THRESHOLD = _DefaultThreshold(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What rates cover: the last ``size`` seconds if ``timed``, else the last ``size`` calls."""

    timed: bool
    size: int


class Rates(NamedTuple):
    """At what percentages of a window's calls a breaker opens; 0: not by this rate."""

    failures: float = 0
    slow_calls: float = 0
    calls_needed: int = 0


NO_RATES = Rates()


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """The options of a circuit breaker; names and meaning follow resilience4j.

    Durations are in seconds; a timedelta is converted.

    Raises:
        TypeError: a value is of the wrong type.
        ValueError: a value is out of bounds; the message names the field and the bound.
    """

    failure_threshold: int | None = _DEFAULT_THRESHOLD
    """Consecutive failures that open the breaker: at least 1, or None for no such rule. The default
    beside a rate threshold is None."""
    failure_rate_threshold: float | None = None
    """Percentage of failed calls in the window that opens it: over 0, at most 100."""
    slow_call_rate_threshold: float | None = None
    """Percentage of slow calls in the window that opens it: over 0, at most 100."""
    slow_call_duration_threshold: float = 60.0
    """A call that takes longer (seconds) is slow: more than 0."""
    sliding_window_type: str = COUNT_BASED
    """Rates cover the last calls ("count_based") or the last seconds ("time_based")."""
    sliding_window_size: int = 100
    """Calls (at most 10,000) or seconds (at most 900)."""
    minimum_number_of_calls: int = 100
    """Calls in the window before a rate counts; a smaller count window lowers it."""
    wait_duration_in_open_state: float = 60.0
    """Seconds for which calls are rejected before a probe may pass: more than 0."""
    open_state_backoff_multiplier: float = 1.0
    """Each opening that follows without a close waits this many times longer: at least 1."""
    max_wait_duration_in_open_state: float | None = None
    """Longest wait of the back-off: at least ``wait_duration_in_open_state``."""
    randomized_wait_factor: float = 0.0
    """Jitter of each wait, as a share of it, up and down: 0 to below 1."""
    permitted_number_of_calls_in_half_open_state: int = 1
    """Probes of the whole fleet in one half-open round: 1 to 10,000."""
    max_wait_duration_in_half_open_state: float = 60.0
    """Seconds after which a round has failed if probes have not reported: more than 0."""
    record_exceptions: tuple[type[BaseException], ...] = (Exception,)
    """Exceptions that count as failures; all others count as successes."""
    ignore_exceptions: tuple[type[BaseException], ...] = ()
    """Exceptions that are not counted; they override ``record_exceptions``."""
    record_result: Callable[[Any], bool] | None = None
    """Returns whether a returned value counts as a failure."""
    record_cancelled: Literal["ignore", "failure", "slow"] | None = None
    """How a call counts that is cancelled or timed out from outside: not at all ("ignore"), as a
    "failure" or as "slow", which only a slow call rate counts; None: as slow if it is over
    ``slow_call_duration_threshold``."""

    def __post_init__(self) -> None:
        if self.failure_threshold is _DEFAULT_THRESHOLD:
            threshold = int(_DEFAULT_THRESHOLD) if self.window is None else None
            object.__setattr__(self, "failure_threshold", threshold)
        _check_rules(self)
        _check_window(self)
        _check_waits(self)
        _whole_number(self, "permitted_number_of_calls_in_half_open_state", maximum=10_000)
        _exceptions(self, "record_exceptions")
        _exceptions(self, "ignore_exceptions")
        check_predicate("record_result", self.record_result)
        if self.record_cancelled not in (None, IGNORE, FAILURE, SLOW):
            raise ValueError(
                "record_cancelled must be 'ignore', 'failure', 'slow' or None, "
                f"not {self.record_cancelled!r}"
            )

    @property
    def window(self) -> Window | None:
        """The window of the rate rules; None without such rules."""
        if self.failure_rate_threshold is None and self.slow_call_rate_threshold is None:
            return None
        return Window(timed=self.sliding_window_type == TIME_BASED, size=self.sliding_window_size)

    @property
    def rates(self) -> Rates:
        """The rate rules."""
        return Rates(
            failures=self.failure_rate_threshold or 0,
            slow_calls=self.slow_call_rate_threshold or 0,
            calls_needed=self.calls_needed,
        )

    @property
    def calls_needed(self) -> int:
        """Calls that must be in the window before its rates count."""
        if self.sliding_window_type == TIME_BASED:
            return self.minimum_number_of_calls
        return min(self.minimum_number_of_calls, self.sliding_window_size)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "BreakerPolicy":
        """Build a policy from keyword options and the defaults.

        Raises:
            TypeError, ValueError: as for the class; TypeError for an unknown option.
        """
        names = [item.name for item in fields(cls)]
        for option in options:
            if option not in names:
                near = difflib.get_close_matches(str(option), names, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"BreakerPolicy has no option {option!r}{hint}")
        return cls(**options)

    def counts_as_failure(self, error: BaseException) -> bool:
        """Return whether an exception counts as a failure."""
        return is_instance(error, self.record_exceptions) and not self.ignores(error)

    def ignores(self, error: BaseException) -> bool:
        """Return whether an exception is not counted."""
        return is_instance(error, self.ignore_exceptions)


def _check_rules(policy: BreakerPolicy) -> None:
    if policy.failure_threshold is not None:
        _whole_number(policy, "failure_threshold")
    for name in RATE_OPTIONS:
        if getattr(policy, name) is not None:
            _number(policy, name, "more than 0 and at most 100 per cent", lambda v: 0 < v <= 100)
    if policy.failure_threshold is None and policy.window is None:
        raise ValueError("failure_threshold may be None only beside a rate threshold")


def _check_window(policy: BreakerPolicy) -> None:
    if policy.sliding_window_type not in (COUNT_BASED, TIME_BASED):
        raise ValueError(
            f"sliding_window_type must be {COUNT_BASED!r} or {TIME_BASED!r}, "
            f"not {policy.sliding_window_type!r}"
        )
    maximum = MAX_WINDOW_SECONDS if policy.sliding_window_type == TIME_BASED else MAX_WINDOW_CALLS
    _whole_number(policy, "sliding_window_size", maximum=maximum)
    _whole_number(policy, "minimum_number_of_calls")


def _check_waits(policy: BreakerPolicy) -> None:
    _duration(policy, "slow_call_duration_threshold")
    _duration(policy, "wait_duration_in_open_state")
    _duration(policy, "max_wait_duration_in_half_open_state")
    _number(policy, "open_state_backoff_multiplier", "at least 1", lambda v: v >= 1)
    _number(policy, "randomized_wait_factor", "0 to below 1", lambda v: 0 <= v < 1)
    if policy.max_wait_duration_in_open_state is None:
        return
    _duration(policy, "max_wait_duration_in_open_state")
    if policy.max_wait_duration_in_open_state < policy.wait_duration_in_open_state:
        raise ValueError(
            "max_wait_duration_in_open_state must be at least wait_duration_in_open_state "
            f"({policy.wait_duration_in_open_state}), not {policy.max_wait_duration_in_open_state}"
        )


def _whole_number(policy: BreakerPolicy, name: str, *, maximum: int | None = None) -> None:
    value = getattr(policy, name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    if maximum is not None and value > maximum:
        raise ValueError(f"{name} must be at most {maximum}, not {value}")


def _number(
    policy: BreakerPolicy,
    name: str,
    bounds: str,
    is_within: Callable[[float], bool],
    kind: str = "a number",
) -> None:
    value = getattr(policy, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be {kind}, not {value!r}")
    if not _is_finite(value) or not is_within(value):
        raise ValueError(f"{name} must be {bounds}, not {value}")
    object.__setattr__(policy, name, float(value))


def _duration(policy: BreakerPolicy, name: str) -> None:
    value = getattr(policy, name)
    if isinstance(value, timedelta):
        object.__setattr__(policy, name, value.total_seconds())
    _number(policy, name, "more than 0 seconds", lambda v: v > 0, "seconds or a timedelta")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _exceptions(policy: BreakerPolicy, name: str) -> None:
    value = getattr(policy, name)
    classes = (value,) if isinstance(value, type) else value
    if isinstance(classes, str) or not isinstance(classes, tuple | list | set | frozenset):
        raise TypeError(f"{name} must be exception classes, not {value!r}")
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise TypeError(f"{name} must hold exception classes only, not {cls!r}")
    object.__setattr__(policy, name, tuple(classes))


_NAMED_OPTIONS = ("record_exceptions", "ignore_exceptions", "record_result")


def plain_policy(policy: BreakerPolicy) -> dict[str, Any]:
    """Return all options as JSON values; exception classes and functions by their names."""
    options = {item.name: getattr(policy, item.name) for item in fields(policy)}
    for option in ("record_exceptions", "ignore_exceptions"):
        options[option] = [dotted_name(cls) for cls in options[option]]
    is_failure = policy.record_result
    options["record_result"] = None if is_failure is None else dotted_name(is_failure)
    return options


def default_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what each of all ``options`` would be if it alone were not set, as JSON values."""
    defaults = plain_policy(BreakerPolicy())
    if any(options[rate] is not None for rate in RATE_OPTIONS):
        defaults["failure_threshold"] = None
    return defaults


def encode_policy(policy: BreakerPolicy) -> str:
    """Return the options that differ from their defaults, as JSON; "" where they are too long.

    Operators' processes read it: they have neither the code's policies nor its exception classes.
    """
    options = plain_policy(policy)
    defaults = default_options(options)
    text = json.dumps(
        {option: value for option, value in options.items() if value != defaults[option]}
    )
    return text if len(text) <= MAX_POLICY_CHARS else ""


def decode_policy(text: str) -> tuple[BreakerPolicy, dict[str, Any]] | None:
    """Return the policy, without its exceptions and functions, and all options as JSON values.

    None for a text that this release cannot read.
    """
    if len(text) > MAX_POLICY_CHARS:  # not written by encode_policy, and nested who knows how deep
        return None
    try:
        options = json.loads(text)
        if not isinstance(options, Mapping):
            return None
        policy = BreakerPolicy.from_options(
            {option: value for option, value in options.items() if option not in _NAMED_OPTIONS}
        )
    except (ValueError, TypeError, RecursionError):
        return None
    names = {option: options[option] for option in _NAMED_OPTIONS if option in options}
    return policy, {**plain_policy(policy), **names}
