"""The live list of circuit breakers: ``circuit_breakers --watch``."""

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
"""Seconds between updates."""
LINES_AROUND = 6
"""Terminal lines taken by the frame, the header and the note."""


def watch(
    read: Callable[[int], BreakerPage],
    stream: Any,
    *,
    color: bool,
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Show the page that ``read`` returns for a number of lines, every second, until Ctrl-C.

    During an outage the last list stays, with a note that says how old it is.
    """
    console = Console(file=stream, force_terminal=True, no_color=not color)
    page: BreakerPage | None = None
    note = read_at = ""
    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                lines = max(1, min(console.height - LINES_AROUND, MAX_BREAKERS_PER_PAGE))
                try:
                    page, read_at = read(lines), time.strftime("%H:%M:%S")
                    plural = "" if page.count == 1 else "s"
                    note = f"{page.count} circuit breaker{plural} at {read_at}"
                except StoreUnavailable as error:
                    as_of = f"as of {read_at}" if read_at else "no data yet"
                    note = f"The state is unknown: {error.reason} ({as_of})"
                rows = page.breakers[:lines] if page else []
                hidden = page.count - len(rows) if page else 0
                more = f", {hidden} of them not shown" if hidden else ""
                live.update(render_list(rows, note=f"{note}{more}"), refresh=True)
                pause(INTERVAL)
    except KeyboardInterrupt:
        return
