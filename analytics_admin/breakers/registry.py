"""Breakers by name: those declared in this process, in BREAKERS, and in the shared store."""

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.core.signals import setting_changed
from django.dispatch import receiver

from analytics_admin.breakers.breaker import CircuitBreaker
from analytics_admin.breakers.fleet import act_store
from analytics_admin.breakers.machine import Snapshot, State, retry_after
from analytics_admin.breakers.machine import reset as reset_snapshot
from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.store import Move
from analytics_admin.conf import SETTING, app_settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")

_lock = threading.Lock()
_breakers: dict[str, CircuitBreaker] = {}
_options: dict[str, dict[str, Any]] = {}


class UnknownBreakers(LookupError):
    """No breaker is registered under these names."""

    code = "unknown_breaker"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = sorted(names)
        super().__init__("Unknown circuit breakers: " + ", ".join(self.names))


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerStatus:
    """A breaker for an operator's eyes; ``retry_after`` in seconds, None when calls pass."""

    name: str
    state: str
    consecutive_failures: int
    retry_after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerReset:
    """What a reset did, or would do, to one breaker."""

    name: str
    from_state: str
    to_state: str


def circuit_breaker(name: str, **policy: Any) -> CircuitBreaker:
    """Declare the breaker of this name, or return it if it is declared alike already.

    ``policy`` takes the fields of BreakerPolicy; ``BREAKERS[name]`` in the settings wins over it.

    Raises:
        TypeError, ValueError: an unusable name or policy; or one declared otherwise before.
    """
    validate_name(name)
    given = BreakerPolicy.from_options(policy)
    options = {option: getattr(given, option) for option in policy}
    with _lock:
        if _options.setdefault(name, options) != options:
            raise ValueError(f"circuit breaker {name!r} is declared already, with another policy")
        return _known(name)


def get_breaker(name: str) -> CircuitBreaker:
    """Return the breaker declared in this process or in the settings.

    Raises:
        LookupError: there is none of this name.
    """
    with _lock:
        if name not in _breakers and name not in app_settings().breakers:
            raise UnknownBreakers([name])
        return _known(name)


def _known(name: str) -> CircuitBreaker:
    """Return the one object of this name; its policy is looked up anew."""
    effective_policy.cache_clear()
    if name not in _breakers:
        _breakers[name] = CircuitBreaker(name, lambda: effective_policy(name))
    return _breakers[name]


def validate_name(name: str) -> None:
    """Refuse a name that is not 1 to 100 of ``A-Z a-z 0-9 . _ : -``, the first alphanumeric.

    Raises:
        TypeError, ValueError
    """
    if not isinstance(name, str):
        raise TypeError(f"a circuit breaker's name must be a string, not {name!r}")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"a circuit breaker's name must be 1 to 100 letters, digits, '.', '_', ':' or '-', "
            f"the first a letter or digit, not {name[:120]!r}"
        )


@cache
def effective_policy(name: str) -> BreakerPolicy:
    """Return the policy in force: BREAKER_DEFAULTS, then the code's, then BREAKERS[name]."""
    settings = app_settings()
    merged: Mapping[str, Any] = {
        **settings.breaker_defaults,
        **_options.get(name, {}),
        **settings.breakers.get(name, {}),
    }
    return BreakerPolicy.from_options(merged)


@receiver(setting_changed)
def _forget_policies(*, setting: str, **_: object) -> None:
    if setting == SETTING:
        effective_policy.cache_clear()


def registered_names() -> list[str]:
    """Return every name known to the store, this process or the settings, sorted.

    Raises:
        StoreUnavailable
    """
    return sorted({*act_store().list_names(), *_breakers, *app_settings().breakers})


def require_known(names: Sequence[str]) -> None:
    """Raise UnknownBreakers unless every name is registered (StoreUnavailable if none can say)."""
    unknown = set(names) - set(registered_names())
    if unknown:
        raise UnknownBreakers(list(unknown))


def statuses() -> list[BreakerStatus]:
    """Return every registered breaker, by name.

    Raises:
        StoreUnavailable
    """
    names = registered_names()
    reading = act_store().load_many(names)
    return [_status(name, reading.snapshots[name], reading.now) for name in names]


def plan_reset(names: Sequence[str] | None, *, only_open: bool) -> list[BreakerReset]:
    """Return what ``reset`` would do now, without doing it.

    Raises:
        UnknownBreakers, StoreUnavailable
    """
    return [_reset_of(name, snapshot) for name, snapshot in _selected(names, only_open)]


def reset(names: Sequence[str] | None, *, only_open: bool) -> list[BreakerReset]:
    """Return breakers to closed with zero counts in a new generation: all, or those named.

    ``only_open`` passes over the closed ones. One that moves meanwhile is reset as it is then.

    Raises:
        UnknownBreakers: nothing was reset or created.
        StoreUnavailable: some may have been reset.
    """
    selected = dict(_selected(names, only_open))
    resets = {name: _reset_of(name, snapshot) for name, snapshot in selected.items()}
    waiting = {name: snapshot for name, snapshot in selected.items() if snapshot is not None}
    while waiting:
        moves = [
            Move(name=name, expected=snapshot, new=reset_snapshot(snapshot))
            for name, snapshot in waiting.items()
        ]
        outcomes = act_store().compare_and_set(moves)
        waiting = {
            move.name: outcome.snapshot
            for move, outcome in zip(moves, outcomes, strict=True)
            if not outcome.won and outcome.snapshot is not None
        }
        resets |= {name: _reset_of(name, snapshot) for name, snapshot in waiting.items()}
    for name in selected:
        if name in _breakers:
            _breakers[name].view.expire()
    return list(resets.values())


def _selected(names: Sequence[str] | None, only_open: bool) -> list[tuple[str, Snapshot | None]]:
    registered = registered_names()
    if names is not None:
        unknown = set(names) - set(registered)
        if unknown:
            raise UnknownBreakers(list(unknown))
        registered = sorted(set(names))
    snapshots = act_store().load_many(registered).snapshots
    return [
        (name, snapshots[name])
        for name in registered
        if not only_open or _state_of(snapshots[name]) is not State.CLOSED
    ]


def _state_of(snapshot: Snapshot | None) -> State:
    """A breaker that nobody has used yet has no record, and is closed."""
    return State.CLOSED if snapshot is None else snapshot.state


def _reset_of(name: str, snapshot: Snapshot | None) -> BreakerReset:
    return BreakerReset(
        name=name, from_state=_state_of(snapshot).value, to_state=State.CLOSED.value
    )


def _status(name: str, snapshot: Snapshot | None, now: float) -> BreakerStatus:
    if snapshot is None or snapshot.state is State.CLOSED:
        wait = None
    else:
        wait = retry_after(snapshot, effective_policy(name), now)
    return BreakerStatus(
        name=name,
        state=_state_of(snapshot).value,
        consecutive_failures=0 if snapshot is None else snapshot.consecutive_failures,
        retry_after=wait,
    )
