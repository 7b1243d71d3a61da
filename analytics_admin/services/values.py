"""What queries share: checks of their arguments, and a store's times as datetimes."""

from collections.abc import Sequence
from datetime import UTC, datetime

from analytics_admin.i18n import did_you_mean


def as_time(at: float) -> datetime:
    """Return a store's time, in seconds, as a datetime."""
    return datetime.fromtimestamp(at, UTC)


def require_choice(what: str, value: str | None, choices: Sequence[str | None]) -> None:
    """Raise ValueError for what is not one of the choices; None may be one."""
    if value not in choices:
        known = list(filter(None, choices))
        near = did_you_mean(value, known) if isinstance(value, str) else ""
        guess = f": did you mean '{near}'?" if near else ""
        raise ValueError(f"{what} must be one of {', '.join(known)}{guess}")


def require_page(page: int, page_size: int, *, max_size: int, of: str) -> None:
    """Raise TypeError or ValueError for an unusable page of a list."""
    if not all(type(number) is int for number in (page, page_size)):
        raise TypeError("page and page_size have to be whole numbers")
    if page < 1 or not 1 <= page_size <= max_size:
        raise ValueError(f"pages count from 1 and have 1 to {max_size} {of}")
