"""A list of circuit breakers that stays on the terminal and keeps up with the fleet."""

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live

from analytics_admin.management.breakers import render_list
from analytics_admin.services.breakers.queries import MAX_BREAKERS_PER_PAGE
from analytics_admin.services.breakers.types import BreakerPage
from analytics_admin.services.errors import StoreUnavailable

INTERVAL = 1.0
"""Seconds between looks."""
LINES_AROUND = 6
"""Lines of a terminal that the frame, the header and the note take."""


def watch(
    look: Callable[[int], BreakerPage],
    stream: Any,
    *,
    colour: bool,
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Show the page that ``look`` returns of so many lines, again and again, until Ctrl-C.

    While the store does not answer, the last list stays, with a note that says how old it is.
    """
    console = Console(file=stream, force_terminal=True, no_color=not colour)
    seen: BreakerPage | None = None
    note = seen_at = ""
    try:
        with Live(console=console, auto_refresh=False) as shown:
            while True:
                lines = max(1, min(console.height - LINES_AROUND, MAX_BREAKERS_PER_PAGE))
                try:
                    seen, seen_at = look(lines), time.strftime("%H:%M:%S")
                    plural = "" if seen.count == 1 else "s"
                    note = f"{seen.count} circuit breaker{plural} at {seen_at}"
                except StoreUnavailable as error:
                    as_of = f"as of {seen_at}" if seen_at else "nothing seen yet"
                    note = f"The state is unknown: {error.reason} ({as_of})"
                rows = seen.breakers[:lines] if seen else []
                hidden = seen.count - len(rows) if seen else 0
                more = f", {hidden} of them not shown" if hidden else ""
                shown.update(render_list(rows, note=f"{note}{more}"), refresh=True)
                pause(INTERVAL)
    except KeyboardInterrupt:
        return
