"""A backend's outage and recovery as three processes of one site live through it.

``python -m tests.fleet.incident`` prints it as an operator would read it.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from analytics_admin.breakers import CircuitOpenError, circuit_breaker
from analytics_admin.breakers.runtime import operator_store
from tests.support.crew import Crew, set_up_site
from tests.support.servers import StoreServer

NAME = "search-backend"
PROCESSES = ("web-1", "web-2", "worker-1")
POLICY = {
    "failure_threshold": 5,
    "wait_duration_in_open_state": 1.0,
    "open_state_backoff_multiplier": 2.0,
    "permitted_number_of_calls_in_half_open_state": 2,
    "max_wait_duration_in_half_open_state": 5.0,
}
PACE = 0.1
"""Seconds between two calls of a process."""
PATIENCE = 20.0
"""Seconds for what must happen within three at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What an operator reads of one instant; ``at`` is seconds since the beginning."""

    at: float
    event: str
    states: tuple[str, ...] = ()

    def __str__(self) -> str:
        seen = [f"{name} {state:<9}" for name, state in zip(PROCESSES, self.states, strict=False)]
        return f"{self.at:6.2f} s  {self.event:<45} {'  '.join(seen)}".rstrip()


class Incident:
    """The processes, the backend behind them, and all that was seen; ``say`` gets each line."""

    def __init__(self, crew: Crew, say: Callable[[Line], None]) -> None:
        self.lines: list[Line] = []
        self._crew = crew
        self._say = say
        self._began = time.time()
        self._backend_is_up = True
        self._told: set[str] = set()
        self._seen: tuple[str, ...] = ()

    def unfold(self) -> None:
        """Let the backend fail, be probed in vain, come back, and be probed with success."""
        self._note("BACKEND UP")
        self._call_until(lambda: self._all_see("closed"))
        self._backend_is_up = False
        self._note("BACKEND DOWN")
        self._call_until(lambda: len(self._told) >= 3 and self._all_see("open"))
        self._backend_is_up = True
        self._note("BACKEND UP")
        self._call_until(lambda: len(self._told) >= 5 and self._all_see("closed"))

    def _all_see(self, state: str) -> bool:
        return self._seen == (state,) * len(PROCESSES)

    def _call_until(self, holds: Callable[[], bool]) -> None:
        """Have every process call at its pace; note what changes, in store and processes."""
        deadline = time.monotonic() + PATIENCE
        while True:
            seen = tuple(self._crew.ask_all(call_backend, self._backend_is_up))
            self._note_transitions()
            if seen != self._seen:
                self._seen = seen
                self._note("seen by the processes", seen)
            if holds():
                return
            assert time.monotonic() < deadline, f"nothing more happens; {seen}"
            time.sleep(PACE)

    def _note_transitions(self) -> None:
        """Note what the store recorded since the last look, oldest first."""
        for move in reversed(operator_store().transitions(NAME)):
            if move.attempt not in self._told:
                self._told.add(move.attempt)
                event = f"{move.from_state} -> {move.to_state} ({move.cause})"
                self._add(Line(at=move.at - self._began, event=event))

    def _note(self, event: str, states: tuple[str, ...] = ()) -> None:
        self._add(Line(at=time.time() - self._began, event=event, states=states))

    def _add(self, line: Line) -> None:
        self.lines.append(line)
        self._say(line)


def call_backend(is_up: bool) -> str:
    """Call the backend once, under protection; return the state that this process sees then."""

    def backend() -> None:
        if not is_up:
            raise ConnectionError

    breaker = circuit_breaker(NAME, **POLICY)
    with suppress(ConnectionError, CircuitOpenError):
        breaker.call(backend)
    return breaker.state


def main() -> None:
    with StoreServer() as server:
        os.environ |= {"DEBUG": "on", "REDIS_URL": server.url}
        set_up_site()
        with Crew(len(PROCESSES)) as crew:
            Incident(crew, print).unfold()


if __name__ == "__main__":
    main()
