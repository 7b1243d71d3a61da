"""What is stored of breakers, as tests damage it or move it in time."""

import json
from typing import Any

from django.core.cache import caches

from analytics_admin.breakers.runtime import operator_store

PARTS = (
    *("generation", "state", "entered_at", "wait", "attempts", "permits", "run", "last_failure_at"),
    *("calls", "failures", "slow", "control", "run_times"),
)
"""Of a record, in the order in which they are stored."""


def raw_client() -> Any:
    return caches["breakers"].client.get_client(write=True)


def key_of(name: str, kind: str = "record") -> Any:
    return operator_store()._key(name, kind)


def key_of_site(kind: str) -> str:
    """Return a key that all breakers share."""
    return f"{operator_store()._base}:{kind}"


def change_record(name: str, **parts: object) -> None:
    """Overwrite parts of the breaker's record."""
    change_record_at(key_of(name), **parts)


def change_record_at(key: Any, **parts: object) -> None:
    client = raw_client()
    record = dict(zip(PARTS, client.hget(key, "record").decode().split(" "), strict=True))
    client.hset(key, "record", " ".join(str(part) for part in {**record, **parts}.values()))


def age_record(key: Any, seconds: float) -> None:
    """Make what the record tells so much older."""
    client = raw_client()
    record = client.hget(key, "record").decode().split(" ")
    change_record_at(key, entered_at=float(record[PARTS.index("entered_at")]) - seconds)
    if (text := client.hget(key, "hold")) is not None:
        hold = json.loads(text)
        hold["until"] = hold["until"] and hold["until"] - seconds
        client.hset(key, "hold", json.dumps(hold))
