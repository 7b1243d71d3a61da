"""A process of a site under any release of the app: does what each line of its input says.

It runs from another release's folder, so it imports the public API alone, and nothing of the tests.
"""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import django

if __name__ == "__main__":
    django.setup()

from django.core.management import call_command

from analytics_admin import services
from analytics_admin.breakers import CircuitOpenError, circuit_breaker
from analytics_admin.caching import search_cache
from analytics_admin.services import Actor

ACTOR = Actor.system("release")
POLICY = {"failure_threshold": 3, "wait_duration_in_open_state": 600.0}


def call(name: str) -> bool:
    """Return whether a call passes."""
    try:
        circuit_breaker(name, **POLICY).call(int)
    except CircuitOpenError:
        return False
    return True


def fail(name: str, times: int) -> None:
    for _ in range(times):
        with suppress(ZeroDivisionError):
            circuit_breaker(name, **POLICY).call(divmod, 1, 0)


def states() -> dict[str, list[str]]:
    """Return the state and the control of each breaker that is listed."""
    return {
        status.name: [str(status.state), str(status.control)] for status in services.list_breakers()
    }


def hold(name: str, control: str) -> str:
    result = services.set_breaker_control(name=name, control=control, actor=ACTOR, reason="mixed")
    return str(result.message)


def reset() -> str:
    return str(services.reset_circuit_breakers(actor=ACTOR, reason="mixed").message)


def search(query: str, value: Any, tags: list[str]) -> Any:
    """Return the result of the query: the value, unless there is one already."""
    return search_cache.get_or_compute(query, lambda: value, tags=tags, timeout=600, stale_for=60)


def clear(**how: Any) -> str:
    return str(services.clear_search_cache(actor=ACTOR, reason="mixed", **how).message)


def history(name: str) -> list[str]:
    """Return the states that the breaker has come to, oldest first."""
    transitions = services.describe_breaker(name).transitions
    return [str(entry.to_state) for entry in transitions]


STEPS: dict[str, Callable[..., Any]] = {
    "call": call,
    "fail": fail,
    "states": states,
    "hold": hold,
    "reset": reset,
    "search": search,
    "clear": clear,
    "history": history,
}


def main() -> None:
    call_command("migrate", verbosity=0)
    _say("ready")
    for line in sys.stdin:
        step, given, options = json.loads(line)
        _say(json.dumps(STEPS[step](*given, **options)))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
