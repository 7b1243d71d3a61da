"""How far a sweep has come: kept in the store step by step, for the next sweep and for who watches.

Knows nothing of how a sweep walks, nor how its position is read and written.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

POSITION_NAME = "analytics_admin:sweep"
POSITION_LIFE = 3600
"""Seconds for which a sweep that was cut off can be gone on with; then one begins anew."""
PAUSE = 5.0
"""Seconds without a step after which a sweep counts as cut off."""
_MOST = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPosition:
    """Where the next step begins, and what the steps before it came to."""

    cursor: int
    seen: int = 0
    removed: int = 0
    moving: bool = False
    """False once the sweep has stopped of its own accord."""

    def encode(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepProgress:
    """A sweep that has begun and is not over, be it of this process or of another."""

    progress: float
    """The share of the key table that it has walked, from 0 to 1."""
    seen: int
    removed: int
    last_step_at: float
    """Unix time of the store."""
    under_way: bool
    """False: it was cut off; the next sweep goes on from there until ``resumable_until``."""

    @property
    def resumable_until(self) -> float:
        return self.last_step_at + POSITION_LIFE


def decode_position(raw: object) -> SweepPosition | None:
    """Return the position, or None for a missing or damaged one."""
    try:
        found = json.loads(raw) if isinstance(raw, bytes) else None
    except ValueError:  # covers bytes that are no UTF-8
        return None
    told = found if isinstance(found, dict) else {"cursor": found}  # the cursor alone: as of old
    numbers: list[Any] = [told.get(name, 0) for name in ("cursor", "seen", "removed")]
    if not all(type(number) is int and 0 <= number < _MOST for number in numbers):
        return None
    cursor, seen, removed = numbers
    moving = told.get("moving") is True
    return SweepPosition(cursor=cursor, seen=seen, removed=removed, moving=moving)


def progress_of(raw: object, *, milliseconds_left: object, now: float) -> SweepProgress | None:
    """Return what a position says, of whose life so much is left at ``now``; None for no sweep."""
    position = decode_position(raw)
    if (
        position is None
        or not position.cursor
        or not isinstance(milliseconds_left, int)
        or milliseconds_left < 0
    ):
        return None
    age = max(0.0, POSITION_LIFE - milliseconds_left / 1000)
    return SweepProgress(
        progress=share_walked(position.cursor),
        seen=position.seen,
        removed=position.removed,
        last_step_at=float(round(now - age)),
        under_way=position.moving and age < PAUSE,
    )


def share_walked(cursor: int) -> float:
    """Return the share of a key table that lies behind a SCAN's cursor; 1 for the end, which is 0.

    SCAN counts with the bits in reverse order, so that they are a binary fraction, whatever the
    size of the table. (https://redis.io/docs/latest/commands/scan/, "dictScan" in dict.c)
    """
    if not cursor:
        return 1.0
    return sum(2.0 ** -(place + 1) for place in range(64) if cursor >> place & 1)
