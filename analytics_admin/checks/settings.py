"""System checks of the ``ANALYTICS_ADMIN`` setting and of breaker policies."""

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning, register
from django.utils.module_loading import import_string

from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.runtime import (
    declared_names,
    merged_options,
    overridden_options,
    validate_name,
)
from analytics_admin.conf import (
    DEFAULT_THROTTLE_RATES,
    ENVIRONMENT_COLORS,
    KEYS,
    MAX_ENVIRONMENT_NAME_LENGTH,
    SETTING,
    AppSettings,
    app_settings,
    parse_rate,
)
from analytics_admin.i18n import did_you_mean

TAG = "analytics_admin"
POLICY_HINT = "analytics_admin.breakers.policy lists the options with their units and bounds."

Problem = str | None
"""What is wrong with a value, as the end of a sentence; None if nothing is."""


@register(TAG)
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Report unknown keys of ``ANALYTICS_ADMIN`` and unusable values."""
    given = getattr(settings, SETTING, {})
    if not isinstance(given, Mapping):
        text = f"{SETTING} must be a dict, not {describe_type(given)}"
        return [error("E001", text, f"Write {SETTING} = {{}} or leave it out.")]
    messages: list[CheckMessage] = []
    for key, value in given.items():
        if key not in KEYS:
            messages.append(_unknown_key(key))
        elif problem := RULES[key](value):
            hint = f"Correct {SETTING}['{key}'], or leave it out for its default."
            messages.append(error("E003", f"{SETTING}['{key}'] {problem}", hint))
    if messages:
        return messages
    site = app_settings()
    return [*_environment(site), *_policies(site), *_background(site)]


@register(TAG)
def check_policies(**kwargs: Any) -> list[CheckMessage]:
    """Report breakers whose policies differ between code and settings."""
    if are_unusable(check_settings()):
        return []
    return [
        Info(
            f"BREAKERS['{name}'] overrides what the code says of {', '.join(options)}.",
            hint="The settings win. If that is not meant, take the option out of one of them.",
            id=f"{TAG}.I002",
        )
        for name, options in overridden_options().items()
    ]


def are_unusable(messages: list[CheckMessage]) -> bool:
    """Return whether an error among the messages makes further checks pointless."""
    return any(message.is_serious() for message in messages)


def error(number: str, text: str, hint: str) -> Error:
    return Error(f"{text}.", hint=hint, id=f"{TAG}.{number}")


def warning(number: str, text: str, hint: str) -> Warning:
    return Warning(f"{text}.", hint=hint, id=f"{TAG}.{number}")


def _unknown_key(key: object) -> Error:
    near = did_you_mean(str(key), KEYS)
    hint = f"Did you mean '{near}'?" if near else f"There are: {', '.join(sorted(KEYS))}."
    return error("E002", f"{SETTING} has no setting {str(key)!r}", hint)


def _background(site: AppSettings) -> Iterator[Warning]:
    """Report that searches run in threads of which the site may not know."""
    if site.search_cache_background and site.search_cache_background_context is None:
        text = f"{SETTING}['SEARCH_CACHE_BACKGROUND'] is on: searches run in other threads"
        hint = (
            "They have neither the caller's connection nor its thread-local variables. Set "
            "SEARCH_CACHE_BACKGROUND_CONTEXT, or pass background=True where this is fine."
        )
        yield warning("W011", text, hint)


def _environment(site: AppSettings) -> Iterator[Error]:
    """Report that operators would have to type an empty name, which blocks every operation."""
    if site.require_environment_name and not site.environment_name.strip():
        text = f"{SETTING}['REQUIRE_ENVIRONMENT_NAME'] is on, and ENVIRONMENT_NAME is empty"
        hint = "Say in ENVIRONMENT_NAME which site this is, or leave REQUIRE_ENVIRONMENT_NAME out."
        yield error("E011", text, hint)


def _policies(site: AppSettings) -> Iterator[Error]:
    """Check each policy as it is merged, with what loaded code declares; faulty defaults once."""
    if problem := _policy(site.breaker_defaults):
        yield error("E004", f"{SETTING}['BREAKER_DEFAULTS']: {problem}", POLICY_HINT)
        return
    for name in sorted(declared_names(), key=str):
        if problem := _policy(merged_options(name), name=name):
            layer = f"['BREAKERS'][{name!r}]" if name in site.breakers else "['BREAKER_DEFAULTS']"
            beside = "" if name in site.breakers else f", beside the code of {name!r}"
            yield error("E004", f"{SETTING}{layer}{beside}: {problem}", POLICY_HINT)


def _policy(options: Mapping[str, Any], *, name: str = "any") -> Problem:
    try:
        validate_name(name)
        BreakerPolicy.from_options(options)
    except (TypeError, ValueError) as invalid:
        return str(invalid)
    return None


def describe_type(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _alias(value: object) -> Problem:
    if isinstance(value, str) and value:
        return None
    return f"must be the name of a cache alias, not {describe_type(value)}"


def _boolean(value: object) -> Problem:
    return None if isinstance(value, bool) else f"must be True or False, not {describe_type(value)}"


def _seconds(value: object, least: float = 0.0, most: float = math.inf) -> Problem:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number of seconds, not {describe_type(value)}"
    if not math.isfinite(value) or value <= 0:
        return "must be more than 0 seconds"
    return None if least <= value <= most else f"must be {least:g} to {most:g} seconds"


def _seconds_or_0(value: object, most: float) -> Problem:
    if type(value) in {int, float} and value == 0:
        return None
    return _seconds(value, least=0.01, most=most)


def _bytes(value: object) -> Problem:
    if isinstance(value, bool) or not isinstance(value, int):
        return f"must be a whole number of bytes, not {describe_type(value)}"
    return None if value > 0 else "must be more than 0 bytes"


def _hook(value: object) -> Problem:
    if value is None or callable(value):
        return None
    if not isinstance(value, str):
        return f"must be a callable or its dotted path, not {describe_type(value)}"
    try:
        hook = import_string(value)
    except ImportError:
        return f"cannot be imported: {value!r}"
    return None if callable(hook) else f"is not callable: {value!r}"


def _number(value: object) -> Problem:
    if isinstance(value, bool) or not isinstance(value, int):
        return f"must be a whole number, not {describe_type(value)}"
    return None if value >= 0 else "must be at least 0"


def _lifetime(value: object) -> Problem:
    if value is None:
        return None
    return _seconds(value.total_seconds() if isinstance(value, timedelta) else value)


def _mapping(value: object) -> Problem:
    return None if isinstance(value, Mapping) else f"must be a dict, not {describe_type(value)}"


def _breakers(value: object) -> Problem:
    if not isinstance(value, Mapping):
        return _mapping(value)
    wrong = [name for name, options in value.items() if not isinstance(options, Mapping)]
    return f"must map each name to a dict of options; {wrong[0]!r} does not" if wrong else None


def _rates(value: object) -> Problem:
    if not isinstance(value, Mapping):
        return _mapping(value)
    for scope, rate in value.items():
        if scope not in DEFAULT_THROTTLE_RATES:
            return f"has no scope {scope!r}; there are: {', '.join(DEFAULT_THROTTLE_RATES)}"
        try:
            parse_rate(rate)
        except ValueError:
            return f"['{scope}'] must be None or like '30/min' (s, min, hour, day), at least 1"
    return None


def _refresh(value: object) -> Problem:
    return None if value is None else _seconds(value, least=1, most=3600)


def _label(value: object) -> Problem:
    if not isinstance(value, str):
        return f"must be a text, not {describe_type(value)}"
    fits = len(value) <= MAX_ENVIRONMENT_NAME_LENGTH
    return None if fits else f"must have at most {MAX_ENVIRONMENT_NAME_LENGTH} characters"


def _token(value: object) -> Problem:
    if not isinstance(value, str):
        return f"must be a text, not {describe_type(value)}"
    fits = value.isascii() and value.isprintable() and " " not in value
    return None if fits else "must be of printable ASCII characters without spaces"


def _color(value: object) -> Problem:
    if isinstance(value, str) and value in ENVIRONMENT_COLORS:
        return None
    return f"must be one of {', '.join(ENVIRONMENT_COLORS)}"


RULES: dict[str, Callable[[object], Problem]] = {
    "SEARCH_CACHE": _alias,
    "BREAKER_CACHE": _alias,
    "BREAKERS": _breakers,
    "BREAKER_DEFAULTS": _mapping,
    "SYNC_INTERVAL": _seconds,
    "STORE_TIMEOUT": partial(_seconds, least=0.05, most=60),
    "STORE_RETRY_INTERVAL": _seconds,
    "RETIRE_BREAKERS_AFTER": _lifetime,
    "KEEP_EXCEPTION_TEXTS": _boolean,
    "SEARCH_CACHE_DEDICATED": _boolean,
    "SEARCH_CACHE_LEASE": partial(_seconds, least=0.01, most=3600),
    "SEARCH_CACHE_SOFT_CLEAR_GRACE": partial(_seconds, least=0.01, most=86400),
    "SEARCH_CACHE_BACKGROUND": _boolean,
    "SEARCH_CACHE_BACKGROUND_CONTEXT": _hook,
    "SEARCH_CACHE_BACKGROUND_REFRESHES": _number,
    "SEARCH_CACHE_NEAR": partial(_seconds_or_0, most=60),
    "SEARCH_CACHE_NEAR_BYTES": _bytes,
    "SEARCH_CACHE_MAX_VALUE_BYTES": _bytes,
    "REQUIRE_MODEL_PERMISSIONS": _boolean,
    "REQUIRE_REASON": _boolean,
    "REQUIRE_ENVIRONMENT_NAME": _boolean,
    "READ_ONLY": _boolean,
    "TOKEN_ENDPOINT": _boolean,
    "TOKEN_LEEWAY": partial(_seconds_or_0, most=300),
    "AUDIT_CLIENT_ADDRESS": _boolean,
    "AUDIT_USER_AGENT": _boolean,
    "EXTERNAL_TOKEN_MAX_LIFETIME": _lifetime,
    "THROTTLE_RATES": _rates,
    "METRICS_TOKEN": _token,
    "CONSOLE_REFRESH_SECONDS": _refresh,
    "ENVIRONMENT_NAME": _label,
    "ENVIRONMENT_COLOR": _color,
}
