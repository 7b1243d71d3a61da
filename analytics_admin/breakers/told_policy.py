"""Policies as processes tell them to the fleet, for operators whose process has not the code.

A shell knows neither the code's policies nor the exceptions' classes: they go by their names.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from analytics_admin.breakers.policy import BreakerPolicy

_NAMED = ("record_exceptions", "ignore_exceptions", "record_result")
MAX_POLICY_CHARS = 600
"""Characters of a policy that are told; a longer one, with very many exceptions, is not."""


def plain_policy(policy: BreakerPolicy) -> dict[str, Any]:
    """Return every option as JSON says it; exception classes and functions go by their names."""
    options = {item.name: getattr(policy, item.name) for item in fields(policy)}
    for option in ("record_exceptions", "ignore_exceptions"):
        options[option] = [_dotted(cls) for cls in options[option]]
    judge = policy.record_result
    return {**options, "record_result": None if judge is None else _dotted(judge)}


def encode_policy(policy: BreakerPolicy) -> str:
    """Return the policy as it is told: what differs from the defaults."""
    default = plain_policy(BreakerPolicy())
    plain = plain_policy(policy).items()
    text = json.dumps({option: value for option, value in plain if value != default[option]})
    return text if len(text) <= MAX_POLICY_CHARS else ""


def decode_policy(text: str) -> tuple[BreakerPolicy, dict[str, Any]] | None:
    """Return the policy to judge by, and all its options as JSON says them.

    None for one that this release does not understand.
    """
    try:
        options = json.loads(text)
        if not isinstance(options, Mapping):
            return None
        judged = BreakerPolicy.from_options(
            {option: value for option, value in options.items() if option not in _NAMED}
        )
    except (ValueError, TypeError):
        return None
    names = {option: options[option] for option in _NAMED if option in options}
    return judged, {**plain_policy(judged), **names}


def _dotted(thing: Any) -> str:
    """A callable object may have no name of its own; its class has."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"
