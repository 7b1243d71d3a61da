"""The breakers of this process: their engine, its store as the settings name it, and their names.

Registered breakers are in the store, declared in this process' code, or named in BREAKERS.
"""

import copyreg
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from contextlib import suppress
from functools import cache
from itertools import islice
from types import FrameType, MethodType
from typing import Any, Unpack

from django.core.signals import setting_changed
from django.dispatch import receiver

from analytics_admin.breakers.breaker import CircuitBreaker
from analytics_admin.breakers.containment import contained_logger as logger
from analytics_admin.breakers.engine import Engine
from analytics_admin.breakers.policy import BreakerPolicy, PolicyOptions, encode_policy
from analytics_admin.breakers.presence import hash_policies
from analytics_admin.breakers.signal_sender import SignalSender
from analytics_admin.breakers.state import StateChange, StoreChange
from analytics_admin.breakers.stores.base import NAME_PATTERN, BreakerStore, Reading
from analytics_admin.breakers.stores.memory import MemoryStore
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.conf import SETTING, app_settings
from analytics_admin.i18n import Message, OperatorError, did_you_mean
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.signals import breaker_state_changed, breaker_store_changed
from analytics_admin.stores.client import is_local_memory
from analytics_admin.stores.threads import start_thread

OPERATOR_TIMEOUT_SECONDS = 0.65
"""How long an operator waits for a reply. A store that takes half a second serves acts too, and a
page whose store is silent is there within a second."""
MAX_NAMES_LISTED = 20
MAX_READ_AT_ONCE = 100
"""Up to this many registered breakers are listed and read in one round trip."""
MAX_NAMED_AT_ONCE = 500
"""Up to this many named breakers are read in the round trip that checks their registration."""
_NAME = re.compile(NAME_PATTERN)

# No lock guards these: each change is one step of the interpreter. A lock could be held by another
# thread at a fork, or by the very thread that a signal's handler interrupts.
_breakers: dict[str, CircuitBreaker] = {}
_options: dict[str, Mapping[str, Any]] = {}
NO_OPTIONS: Mapping[str, Any] = {}
"""One object for all that are declared so."""
_policies: dict[str, BreakerPolicy] = {}
_policies_hash: dict[tuple[int, int], str] = {}
MAX_POLICIES_HASHED = 1000
_DEFAULT_POLICY = BreakerPolicy()
MAX_POLICIES_KEPT = 20_000  # twice MAX_NAMES, since users enter names


@cache
def _memory_store() -> MemoryStore:
    return MemoryStore()


@cache
def _store(alias: str, timeout: float, sends_again: bool) -> BreakerStore:
    """Return the store behind the alias; ``timeout`` (seconds) holds for each reply."""
    if is_local_memory(alias):
        return _memory_store()
    return RedisStore(alias, timeout=timeout, sends_again=sends_again)


def call_store() -> BreakerStore:
    """Return the store for protected calls."""
    settings = app_settings()
    return _store(settings.breaker_cache, settings.store_timeout, sends_again=True)


def operator_store() -> BreakerStore:
    """Return the store for operators: its failures are reported, and nothing is sent again."""
    return _store(app_settings().breaker_cache, OPERATOR_TIMEOUT_SECONDS, sends_again=False)


def keep_for() -> float | None:
    """Return the seconds for which an unused name stays registered; None: for ever."""
    return app_settings().seconds_to_keep_breakers


def announce(event: StateChange | StoreChange) -> None:
    """Log the event and send its signal; receivers that raise do no harm."""
    if isinstance(event, StoreChange):
        breaker_store_changed.send_robust(sender=Engine, reason=event.reason)
        return
    logger.warning(
        "circuit breaker %s: %s to %s (%s)",
        event.name,
        event.from_state,
        event.to_state,
        event.cause,
    )
    breaker_state_changed.send_robust(
        sender=Engine,
        name=event.name,
        from_state=event.from_state,
        to_state=event.to_state,
        cause=event.cause,
    )


def _hash_policies() -> str:
    """Return a hash of the policies that this process declares; of very many, of the first."""
    declared = len(_breakers), len(app_settings().breakers)
    if _policies_hash.get(declared) is None:
        names = [*app_settings().breakers, *islice(list(_breakers), MAX_POLICIES_HASHED)]
        _policies_hash.clear()
        _policies_hash[declared] = hash_policies(
            f"{name} {_policy_text(name)}" for name in dict.fromkeys(names)
        )
    return _policies_hash[declared]


def _policy_text(name: str) -> str:
    try:
        return encode_policy(effective_policy(name))
    except Exception:  # the site's settings spoil it, which calls of this breaker log
        return "spoilt"


signal_sender = SignalSender(announce)
_reconcile: Callable[[], None] | None = None


def register_reconciliation(reconcile: Callable[[], None]) -> None:
    """Have ``reconcile`` called in a thread of its own when the store's server is another.

    It compares what the store holds with the audit trail, and raises nothing.
    """
    global _reconcile  # noqa: PLW0603  the site's one audit trail
    _reconcile = reconcile


def _compare() -> None:
    if _reconcile is not None:
        with suppress(RuntimeError):  # no thread to be had: another process is asked later
            start_thread(_reconcile, name="circuit breaker reconciliation")


engine = Engine(call_store, signal_sender, policies=_hash_policies, compare=_compare)


class UnknownBreakers(OperatorError, LookupError):
    """No breaker is registered under these names; the message lists the first twenty."""

    code = "unknown_breaker"

    def __init__(self, names: Sequence[str], known: Collection[str] = ()) -> None:
        """``known`` are the names among which there may be the right one."""
        self.names = sorted(names)
        listed = ", ".join(self.names[:MAX_NAMES_LISTED])
        omitted = len(self.names) - MAX_NAMES_LISTED
        template = _("Unknown circuit breakers: %(names)s")
        if omitted > 0:
            template = _("Unknown circuit breakers: %(names)s and %(number)s more")
        message = Message(template, names=listed, number=omitted)
        if near := did_you_mean(self.names[0], known, cutoff=0.91):
            message = Message(_("%(error)s. Did you mean '%(name)s'?"), error=message, name=near)
        super().__init__(message)


def circuit_breaker(name: str, **policy: Unpack[PolicyOptions]) -> CircuitBreaker:
    """Declare the breaker of this name, or return it if it is declared with the same policy.

    BreakerPolicy says what the options mean; ``BREAKERS[name]`` in the settings overrides them.

    Raises:
        TypeError, ValueError: the name or policy is not valid, or differs from an earlier one.
    """
    validate_name(name)
    declared = BreakerPolicy.from_options(policy)
    options = {option: getattr(declared, option) for option in policy}
    earlier = _options.get(name)
    if earlier is None:
        earlier = _options.setdefault(name, options)
    if earlier is options:  # the first, but the breaker may be in use already, by its name
        _policies.pop(name, None)
        _policies_hash.clear()
        if (breaker := _breakers.get(name)) is not None:
            breaker.forget_local_state()
        if not options:
            _options[name] = NO_OPTIONS
    elif earlier != options:
        raise ValueError(f"circuit breaker {name!r} is declared already, with another policy")
    return _get_or_create(name)


def get_breaker(name: str) -> CircuitBreaker:
    """Return the breaker declared in this process or in the settings.

    Raises:
        LookupError: there is none of this name.
    """
    if name not in _breakers and name not in app_settings().breakers:
        raise UnknownBreakers([name])
    return _get_or_create(name)


def unpickled_breaker(name: str) -> CircuitBreaker:
    """Return the breaker of this name, declared or not.

    Where no code has declared it yet, the settings alone make its policy, until code does.
    """
    validate_name(name)
    return _get_or_create(name)


copyreg.pickle(CircuitBreaker, lambda breaker: (unpickled_breaker, (breaker.name,)))


def _get_or_create(name: str) -> CircuitBreaker:
    """Return the one object of this name."""
    breaker = _breakers.get(name)
    if breaker is None:
        # A bound method takes a third of what a partial does.
        new = CircuitBreaker(name, engine, MethodType(effective_policy, name))
        breaker = _breakers.setdefault(name, new)
    if breaker.engine is not engine:  # replaced by another thread meanwhile
        breaker.use_engine(engine)
    return breaker


def _after_fork() -> None:
    frame: FrameType | None = sys._getframe()
    running = set()
    while frame is not None:
        running.add(frame)
        frame = frame.f_back
    for breaker in _breakers.values():
        breaker.after_fork(running)


os.register_at_fork(after_in_child=_after_fork)


def validate_name(name: str) -> None:
    """Check that a name is 1 to 100 of ``A-Z a-z 0-9 . _ : -``, the first alphanumeric.

    Raises:
        TypeError, ValueError
    """
    if not isinstance(name, str):
        raise TypeError(f"a circuit breaker's name must be a string, not {name!r}")
    if not is_valid_name(name):
        raise ValueError(
            f"a circuit breaker's name must be 1 to 100 letters, digits, '.', '_', ':' or '-', "
            f"the first a letter or digit, not {name[:120]!r}"
        )


def is_valid_name(name: str) -> bool:
    """Return whether a breaker can have this name."""
    return _NAME.fullmatch(name) is not None


def effective_policy(name: str) -> BreakerPolicy:
    """Return the policy in force: BREAKER_DEFAULTS, then the code's, then BREAKERS[name]."""
    if (policy := _policies.get(name)) is not None:
        return policy
    declared = _options.get(name)
    policy = BreakerPolicy.from_options(options := merged_options(name))
    if not options:
        policy = _DEFAULT_POLICY  # one for all takes less memory
    if len(_policies) >= MAX_POLICIES_KEPT:
        _policies.clear()
    _policies[name] = policy
    if _options.get(name) is not declared:  # by another thread, meanwhile
        _policies.pop(name, None)
    return policy


def merged_options(name: str) -> dict[str, Any]:
    """Return the options that the layers of ``effective_policy`` set, unchecked."""
    settings = app_settings()
    return {
        **settings.breaker_defaults,
        **_options.get(name, {}),
        **settings.breakers.get(name, {}),
    }


def use_engine(new: Engine) -> None:
    """Make every breaker, also those declared later, use this engine."""
    global engine  # noqa: PLW0603  one per process
    engine = new
    for breaker in list(_breakers.values()):
        breaker.use_engine(new)


def declared_names() -> set[str]:
    """Return the names that this process' code or the settings declare."""
    return {*_breakers, *app_settings().breakers}


def registered_names() -> list[str]:
    """Return the names of all registered breakers, sorted.

    Raises:
        StoreUnavailable
    """
    stored = operator_store().survey([], keep_for=keep_for()).names
    return sorted(stored | declared_names())


def require_known(names: Sequence[str]) -> None:
    """Raise UnknownBreakers unless every name is registered (StoreUnavailable without a store)."""
    _reject_unknown(set(names), set(registered_names()))


def read_registered(names: Sequence[str] | None = None) -> Reading:
    """Return all registered breakers, or those named, sorted by name; usually in one round trip.

    Raises:
        UnknownBreakers: some of the names are not registered.
        StoreUnavailable
    """
    declared = declared_names()
    named = declared if names is None else set(names)
    survey = operator_store().survey(
        sorted(filter(is_valid_name, named))[:MAX_NAMED_AT_ONCE],
        keep_for=keep_for(),
        all_up_to=MAX_READ_AT_ONCE if names is None else 0,
    )
    registered, reading = survey.names | declared, survey.reading
    _reject_unknown(named, registered)
    wanted = sorted(registered if names is None else named)
    if unread := [name for name in wanted if name not in reading.snapshots]:
        reading = reading.joined(operator_store().load_many(unread))
    return Reading(now=reading.now, snapshots={name: reading.snapshots[name] for name in wanted})


def _reject_unknown(names: Set[str], registered: Set[str]) -> None:
    if unknown := names - registered:
        raise UnknownBreakers(list(unknown), registered)


def policy_layers(name: str) -> dict[str, str]:
    """Return the layer that sets each option: "BREAKER_DEFAULTS", "code" (of this process) or
    "BREAKERS". Options that no layer sets are left out."""
    settings = app_settings()
    layers: dict[str, Mapping[str, Any]] = {
        "BREAKER_DEFAULTS": settings.breaker_defaults,
        "code": _options.get(name, {}),
        "BREAKERS": settings.breakers.get(name, {}),
    }
    return {option: layer for layer, options in layers.items() for option in options}


def overridden_options() -> dict[str, list[str]]:
    """Return by name the options of the code that BREAKERS overrides with other values."""
    overridden = {}
    for name, options in app_settings().breakers.items():
        declared = _options.get(name, {})
        effective = effective_policy(name)
        changed = [
            key for key in options if key in declared and getattr(effective, key) != declared[key]
        ]
        if changed:
            overridden[name] = sorted(changed)
    return overridden


@receiver(setting_changed)
def _forget_settings(*, setting: str, **_: object) -> None:
    if setting == "CACHES":
        _store.cache_clear()
    if setting in (SETTING, "CACHES"):
        _policies.clear()
        _policies_hash.clear()
        engine.reconnect()
        for breaker in list(_breakers.values()):
            breaker.forget_local_state()
