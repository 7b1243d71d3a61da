"""Checks of arguments, made before a store is read.

A wrong type is an error in the calling code and raises TypeError. A bad choice of the operator's
raises OperationRejected.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analytics_admin.breakers.state import Control
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.services.errors import OperationRejected

DEFAULT_HOLD_SECONDS = 3600.0
"""How long a hold lasts by default."""
MAX_HOLD_SECONDS = 366 * 86_400.0
"""A longer hold has to be ``math.inf``, which never expires."""

ExpectedGenerations = str | Mapping[str, str] | None
"""The generation that one breaker must be at, or those of several by name."""


def require_names(names: Iterable[Any]) -> None:
    """Raise TypeError unless these are several str. A single str would be split into letters."""
    if (
        isinstance(names, str)
        or not isinstance(names, Iterable)
        or not all(isinstance(name, str) for name in names)
    ):
        raise TypeError("names has to be a sequence of str, like ['catalog']")


def require_bool(what: str, value: Any) -> None:
    """Raise TypeError unless it is True or False: "false" must not count as true."""
    if not isinstance(value, bool):
        raise TypeError(f"{what} has to be True or False, not {value!r}")


def generations_by_name(names: Sequence[str], expected: ExpectedGenerations) -> Mapping[str, str]:
    """Return the generations that the breakers must be at, by name.

    Raises:
        TypeError: neither a generation nor generations by name.
        ValueError: one generation but not one name; a generation of a breaker that is not named.
    """
    if expected is None:
        return {}
    if isinstance(expected, str):
        if len(set(names)) != 1:
            raise ValueError("expected_generation as a str requires exactly one name")
        return {names[0]: expected}
    if not isinstance(expected, Mapping):
        raise TypeError("expected_generation has to be a str, or a mapping by name")
    require_names([*expected, *expected.values()])
    if names and not expected.keys() <= set(names):
        raise ValueError("expected_generation has a breaker that is not in names")
    return expected


def parse_hold(control: str, for_seconds: float | None) -> tuple[Control, float | None]:
    """Return the control and its duration in seconds; None: it never expires.

    Raises:
        OperationRejected: no such control or duration.
    """
    if not isinstance(control, str) or control not in set(Control):
        template = _("control: one of %(choices)s")
        raise OperationRejected(Message(template, choices=", ".join(Control)))
    hold = Control(control)
    if hold is Control.AUTOMATIC:
        if for_seconds is not None:
            raise OperationRejected(Message(_("for_seconds: a release has no duration")))
        return hold, None
    seconds = DEFAULT_HOLD_SECONDS if for_seconds is None else for_seconds
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise OperationRejected(Message(_("for_seconds: has to be a number")))
    if seconds == math.inf:
        return hold, None
    if not 0 < seconds <= MAX_HOLD_SECONDS:  # false for a NaN too
        template = _("for_seconds: more than 0, at most %(most)s")
        raise OperationRejected(Message(template, most=f"{MAX_HOLD_SECONDS:.0f}"))
    return hold, float(seconds)
