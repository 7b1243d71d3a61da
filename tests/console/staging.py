"""What the tests of the console's words stage: breakers, results, operations, users, settings.

What operators and programs have named is without letters here, so that any letter is a word.
"""

from datetime import timedelta
from typing import Any
from unittest.mock import patch

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.cache import caches
from django.test import override_settings
from django.utils import timezone

from analytics_admin import services
from analytics_admin.breakers import CircuitBreaker
from analytics_admin.caching import search_cache
from analytics_admin.caching.statistics.counters import Counts
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from analytics_admin.services.breakers import followup
from analytics_admin.services.breakers.followup import BreakerFollowUp, FollowUp, FollowUpReport
from tests.console.search_cache_pages import tell
from tests.support.breakers import another, state_now, trip

SHELL = Actor.system("0", channel="command")
REASON = "42"
SHOWN = ["forced_open", "closed", "open", "half_open", "disabled", "metrics_only"]
AWAY = {
    alias: {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"unix:///nowhere/{alias}"}
    for alias in ("default", "search", "breakers")
}

LIST, BREAKER = "circuitbreaker/", "circuitbreaker/<str:name>/"
CACHE, OPERATIONS = "searchcache/", "operation/"
OPERATION = "operation/<uuid:operation_id>/"


class E1(Exception):
    """What the protected calls fail with."""


def url(path: str) -> str:
    return f"/admin/analytics_admin/{path}"


def breaker_in(shown: str, name: str = "1") -> CircuitBreaker:
    """Return a breaker that is shown in this state."""
    if shown in {"closed", "open", "half_open"}:
        breaker = another(name) if shown == "closed" else trip(name)
        breaker.acquire().succeed() if shown == "closed" else None
        if shown == "half_open":
            services.allow_probe(name=name, actor=SHELL)
    else:
        breaker = another(name)
        breaker.acquire().succeed()
        services.set_breaker_control(name=name, control=shown, actor=SHELL, reason=REASON)
    state_now(breaker)
    return breaker


def all_pages(client: Any, operation: Operation) -> list[Any]:
    pages = [LIST, "circuitbreaker/1/", CACHE, OPERATIONS, f"operation/{operation.pk}/"]
    return [client.get(url(page)) for page in pages]


def changed(**values: Any) -> Any:
    """Change the app's settings for a while."""
    return override_settings(ANALYTICS_ADMIN={**settings.ANALYTICS_ADMIN, **values})


def record(**fields: Any) -> Operation:
    given = {"kind": "clear_search_cache", "channel": "api", "actor": "0", "status": "done"}
    return Operation.objects.create(**given | fields)


def record_every_operation() -> list[Operation]:
    """Have each kind come to each end, and be interrupted, with all that rows can tell."""
    kinds = {
        "clear_search_cache": (
            {"mode": "hard", "tags": ["1"]},
            {"mode": "hard", "alias": "1", "keys": 5, "way": "flush", "dedicated": True},
        ),
        "undo_clear": ({}, {"alias": "1", "seconds_left": 5400.5}),
        "sweep_search_cache": ({}, {"alias": "1", "seen": 9, "removed": 1, "finished": True}),
        "reset_circuit_breakers": ({"names": "all", "only_open": True}, _moved(130)),
        "control_circuit_breakers": (
            {"names": ["1", "2"], "control": "forced_open", "for_seconds": None},
            _moved(2),
        ),
        "forget_circuit_breaker": ({"names": ["1"]}, _moved(1)),
        "allow_probe": ({"names": ["1"]}, _moved(1)),
    }
    channels = [*Operation.Channel.values, *Operation.Channel.values]
    rows = [
        record(
            kind=kind,
            status=status,
            channel=channel,
            targets=targets,
            outcome=outcome if status == "done" else {},
            reason=REASON,
            error="!" if status in {"failed", "unknown"} else "",
            finished_at=None if status == "started" else timezone.now(),
            duration_ms=None if status == "started" else 10.0 ** len(kind) / 1e20,
        )
        for (kind, (targets, outcome)), channel in zip(kinds.items(), channels, strict=False)
        for status in Operation.Status.values
    ]
    soft = {"targets": {"mode": "soft"}, "outcome": {"mode": "soft", "stale_for": 60.0}}
    tags = {"targets": {"tags": ["1", "2"]}, "outcome": {"tags": 2, "in_use": 1}}
    hold = {"names": ["1"], "control": "disabled", "for_seconds": 86_400.0}
    old = timezone.now() - timedelta(minutes=11)
    return [
        *rows,
        record(**soft),
        record(**tags),
        record(kind="control_circuit_breakers", targets=hold, outcome={"names": ["1"]}),
        record(kind="control_circuit_breakers", targets={"names": ["1"], "control": "automatic"}),
        *(record(kind=kind, status="started", started_at=old) for kind in kinds),
    ]


def _moved(number: int) -> dict[str, Any]:
    states = ["open", "half_open", "forced_open", "disabled", "metrics_only", "forgotten"]
    rows = [
        {"name": str(n), "from": states[n % len(states)], "to": "closed"} for n in range(number)
    ]
    return {"count": number, "moved": number, "results": rows[:100]}


def every_follow_up() -> list[FollowUpReport]:
    """Return each outcome of one breaker, of all and of some, and none; more or less left out."""
    each = [
        BreakerFollowUp(
            name=str(number),
            follow_up=follow_up,
            state=SHOWN[number % len(SHOWN)],
            at=timezone.now(),
            after=timedelta(seconds=10**number % 7200) if number % 2 else None,
            cause="consecutive_failures",
            held_until=timezone.now() + timedelta(hours=1),
        )
        for number, follow_up in enumerate(FollowUp)
    ]
    found = [*([it] * times for it in each for times in (1, 2)), each, each * 2, []]
    return [FollowUpReport(breakers=it, omitted=left % 3) for left, it in enumerate(found)]


def pages_of_every_follow_up(client: Any) -> list[Any]:
    page, pages = url(f"operation/{record(kind='reset_circuit_breakers').pk}/"), []
    for report in every_follow_up():
        with patch.object(followup, "follow_up_breakers", return_value=report):
            pages.append(client.get(page))
    return pages


def would_open() -> None:
    breaker = breaker_in("metrics_only")
    for _ in range(9):
        breaker.acquire().fail(E1("!"))
    state_now(breaker)


def by_rates() -> CircuitBreaker:
    return another(
        "1",
        failure_threshold=None,
        failure_rate_threshold=50,
        slow_call_rate_threshold=50,
        sliding_window_type="time_based",
        minimum_number_of_calls=5,
        open_state_backoff_multiplier=2,
        randomized_wait_factor=0.1,
    )


def fill_the_cache() -> None:
    search_cache.set("1", 1, tags=["1", "2"])
    client = caches["search"].client.get_client(write=True)
    for number in range(3):
        client.set(f"{number}:1", "1")
    client.set("7", "1")
    counts = Counts(hits=8000, misses=1000, stale_served=1, bypassed=2, compute_seconds=1234.5)
    tell(*((ago, counts) for ago in (1, 2, 30, 200)))


def sign_in_with(client: Any, *permissions: str) -> None:
    user, _ = get_user_model().objects.get_or_create(username="1", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
