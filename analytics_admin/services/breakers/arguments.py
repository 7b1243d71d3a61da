"""What the acts on breakers take, checked before anything is asked of a store or done.

A wrong type is a mistake in the caller's code, and a TypeError; a choice that an operator can get
wrong is an OperationRejected.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analytics_admin.breakers.state import Control
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.services.errors import OperationRejected

DEFAULT_HOLD_SECONDS = 3600.0
"""Seconds that a hold lasts unless its operator says otherwise."""
MAX_HOLD_SECONDS = 366 * 86_400.0
"""Seconds; a longer hold has to be said to be for ever."""

ExpectedGenerations = str | Mapping[str, str] | None
"""The generation that the one breaker has to be at, or those of several by name."""


def require_names(names: Iterable[Any]) -> None:
    """Raise TypeError unless these are several texts; one text would be read letter by letter."""
    if (
        isinstance(names, str)
        or not isinstance(names, Iterable)
        or not all(isinstance(name, str) for name in names)
    ):
        raise TypeError("names has to be a sequence of str, like ['catalog']")


def require_bool(what: str, given: Any) -> None:
    """Raise TypeError unless it is True or False: "false" must not become an act."""
    if not isinstance(given, bool):
        raise TypeError(f"{what} has to be True or False, not {given!r}")


def generations_by_name(names: Sequence[str], expected: ExpectedGenerations) -> Mapping[str, str]:
    """Return by name the generations that the breakers have to be at.

    Raises:
        TypeError: it is neither a generation nor generations by name.
        ValueError: it is one generation, but not of one name; or one of a breaker not named.
    """
    if expected is None:
        return {}
    if isinstance(expected, str):
        if len(set(names)) != 1:
            raise ValueError("expected_generation is that of one name")
        return {names[0]: expected}
    if not isinstance(expected, Mapping):
        raise TypeError("expected_generation has to be a str, or a mapping by name")
    require_names([*expected, *expected.values()])
    if names and not expected.keys() <= set(names):
        raise ValueError("expected_generation is that of a breaker that is not named")
    return expected


def parse_hold(control: str, for_seconds: float | None) -> tuple[Control, float | None]:
    """Return the control, and the seconds that it is to hold: None for ever.

    Raises:
        OperationRejected: there is no such control, or it does not hold for so long.
    """
    if not isinstance(control, str) or control not in set(Control):
        words = _("control: one of %(choices)s")
        raise OperationRejected(Message(words, choices=", ".join(Control)), code="invalid")
    wanted = Control(control)
    if wanted is Control.AUTOMATIC:
        if for_seconds is not None:
            words = _("for_seconds: a release has no end")
            raise OperationRejected(Message(words), code="invalid")
        return wanted, None
    seconds = DEFAULT_HOLD_SECONDS if for_seconds is None else for_seconds
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise OperationRejected(Message(_("for_seconds: has to be a number")), code="invalid")
    if seconds == math.inf:
        return wanted, None
    if not 0 < seconds <= MAX_HOLD_SECONDS:  # false for a NaN too
        words = _("for_seconds: more than 0, at most %(most)s")
        raise OperationRejected(Message(words, most=f"{MAX_HOLD_SECONDS:.0f}"), code="invalid")
    return wanted, float(seconds)
