"""Every page of the console in every state that it has words for, by route of its address.

What operators and programs have named is without letters here, so that any letter is a word.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.cache import caches
from django.test import override_settings
from django.utils import timezone

from analytics_admin import services
from analytics_admin.breakers import CircuitBreaker, engine
from analytics_admin.caching import search_cache
from analytics_admin.caching.statistics import Counts
from analytics_admin.caching.sweep_progress import POSITION_NAME, SweepPosition
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from tests.breakers import another, state_now, trip
from tests.interfaces.search_cache_pages import leave_behind, tell

SHELL = Actor.system("0", channel="command")
REASON = "42"
SHOWN = ["forced_open", "closed", "open", "half_open", "disabled", "metrics_only"]
AWAY = {
    alias: {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"unix:///nowhere/{alias}"}
    for alias in ("default", "search", "breakers")
}

State = Callable[[Any], Any]
STATES: dict[str, dict[str, State]] = defaultdict(dict)
"""By route and name: what stages a state and returns the page, asked for by the client given."""

LIST, BREAKER = "circuitbreaker/", "circuitbreaker/<str:name>/"
CACHE, OPERATIONS = "searchcache/", "operation/"
OPERATION = "operation/<uuid:operation_id>/"


class E1(Exception):
    """What the protected calls fail with."""


def state(*routes: str) -> Callable[[State], State]:
    def add(stage: State) -> State:
        for route in routes:
            STATES[route][stage.__name__] = stage
        return stage

    return add


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


# The list of circuit breakers


@state(LIST)
def empty(client: Any) -> Any:
    return client.get(url(LIST))


@state(LIST)
def in_all_states(client: Any) -> Any:
    for number, shown in enumerate(SHOWN):
        breaker_in(shown, str(number))
    services.set_breaker_control(name="0", control="forced_open", actor=SHELL, for_seconds=math.inf)
    for _ in range(3):
        breaker_in("closed", "1:1").acquire().fail(E1("!"))
    return client.get(url(LIST))


@state(LIST)
def would_have_opened(client: Any) -> Any:
    _would_open()
    return client.get(url(LIST))


@state(LIST)
def none_matches(client: Any) -> Any:
    breaker_in("closed")
    return client.get(url(LIST), {"search": "2", "state": "open", "sort": "name"})


@state(LIST)
def filter_that_is_none(client: Any) -> Any:
    breaker_in("closed")
    return client.get(url(LIST), {"state": "8"})


@state(LIST)
def many_pages(client: Any) -> Any:
    engine.act_store().register([str(number) for number in range(205)], keep_for=None)
    return client.get(url(LIST), {"page": "2"})


# One circuit breaker


@state(BREAKER)
def closed(client: Any) -> Any:
    breaker_in("closed")
    return client.get(url("circuitbreaker/1/"))


@state(BREAKER)
def opened(client: Any) -> Any:
    breaker_in("open")
    return client.get(url("circuitbreaker/1/"))


@state(BREAKER)
def half_open(client: Any) -> Any:
    breaker_in("half_open")
    return client.get(url("circuitbreaker/1/"))


@state(BREAKER)
def forced_open_for_a_time(client: Any) -> Any:
    breaker_in("forced_open")
    return client.get(url("circuitbreaker/1/"))


@state(BREAKER)
def disabled_for_ever(client: Any) -> Any:
    breaker_in("closed")
    services.set_breaker_control(
        name="1", control="disabled", actor=SHELL, for_seconds=math.inf, reason=REASON
    )
    return client.get(url("circuitbreaker/1/"))


@state(BREAKER)
def metrics_only_that_would_open(client: Any) -> Any:
    _would_open()
    return client.get(url("circuitbreaker/1/"))


@state(BREAKER)
def by_rates_with_failures_and_a_past(client: Any) -> Any:
    breaker = by_rates()
    for _ in range(8):
        breaker.acquire().fail(E1("!"))
    state_now(breaker)
    services.reset_circuit_breakers(actor=SHELL)
    services.reset_circuit_breakers(actor=SHELL, names=["1"], reason=REASON)
    services.set_breaker_control(name="1", control="disabled", actor=SHELL)
    services.set_breaker_control(name="1", control="automatic", actor=SHELL)
    for status in Operation.Status:
        record(kind="control_circuit_breakers", status=status, targets={"names": ["1"]})
    return client.get(url("circuitbreaker/1/"))


@state(BREAKER)
def too_few_calls_for_rates_and_two_policies(client: Any) -> Any:
    by_rates().acquire().fail(E1("!"))
    other = another("1", failure_threshold=9, sliding_window_type="time_based")
    other.acquire().succeed()
    state_now(other)
    return client.get(url("circuitbreaker/1/"))


# The search cache


@state(CACHE)
def never_cleared(client: Any) -> Any:
    return client.get(url(CACHE))


@state(CACHE)
def with_figures_tags_and_others_keys(client: Any) -> Any:
    fill_the_cache()
    return client.get(url(CACHE))


@state(CACHE)
def over_hours(client: Any) -> Any:
    fill_the_cache()
    return client.get(url(CACHE), {"hours": "24", "tag": "1"})


@state(CACHE)
def over_hours_that_are_none(client: Any) -> Any:
    return client.get(url(CACHE), {"hours": "5"})


@state(CACHE)
def undoable(client: Any) -> Any:
    services.clear_search_cache(actor=SHELL, mode="soft", reason=REASON)
    return client.get(url(CACHE))


@state(CACHE)
def after_clears_of_all_kinds(client: Any) -> Any:
    services.clear_search_cache(actor=SHELL, mode="hard")
    services.clear_search_cache(actor=SHELL, tags=["1", "2"], reason=REASON)
    for status in ("failed", "denied", "unknown"):
        record(status=status, error="!" if status == "failed" else "")
    return client.get(url(CACHE))


@state(CACHE)
def sweep_under_way(client: Any) -> Any:
    leave_a_sweep(moving=True)
    return client.get(url(CACHE))


@state(CACHE)
def sweep_that_was_cut_off(client: Any) -> Any:
    leave_a_sweep(moving=False)
    return client.get(url(CACHE))


@state(CACHE)
def with_others_in_its_database(client: Any) -> Any:
    fill_the_cache()
    with changed(SEARCH_CACHE_DEDICATED=False):
        return client.get(url(CACHE))


# The audit trail


@state(OPERATIONS)
def no_operation(client: Any) -> Any:
    return client.get(url(OPERATIONS))


@state(OPERATIONS)
def of_every_kind_and_status(client: Any) -> Any:
    record_every_operation()
    return client.get(url(OPERATIONS))


@state(OPERATIONS)
def searched_and_filtered(client: Any) -> Any:
    record_every_operation()
    chosen = {"q": "1", "status": "done", "actor": "0", "kind__exact": "clear_search_cache"}
    return client.get(url(OPERATIONS), chosen)


@state(OPERATIONS)
def over_many_pages(client: Any) -> Any:
    Operation.objects.bulk_create(
        Operation(kind="undo_clear", status="done", channel="api", actor="0") for _ in range(120)
    )
    return client.get(url(OPERATIONS), {"p": "2", "o": "1.-2"})


@state(OPERATIONS, "operation/export/")
def filter_that_was_never_one(client: Any) -> Any:
    route = "operation/export/"
    return client.get(url(route), {"status": "8"}, follow=True)


@state("operation/<uuid:operation_id>/change/")
def at_djangos_own_address(client: Any) -> Any:
    return client.get(url(f"operation/{record().pk}/change/"), follow=True)


@state(OPERATION)
def each_of_every_kind_and_status(client: Any) -> Any:
    return [client.get(url(f"operation/{row.pk}/")) for row in record_every_operation()]


@state(OPERATION)
def whose_account_is_deleted_and_whose_kind_is_unknown(client: Any) -> Any:
    row = record(kind="9", channel="api", user=None, actor="", outcome={"8": True, "7": "6"})
    return client.get(url(f"operation/{row.pk}/"))


# What all of them share


@state(CACHE, LIST, BREAKER, OPERATIONS, OPERATION)
def with_the_store_down(client: Any) -> Any:
    breaker_in("closed")
    services.set_breaker_control(name="1", control="disabled", actor=SHELL)
    row = record()
    with override_settings(CACHES=AWAY):
        return all_pages(client, row)


@state(CACHE, LIST, BREAKER, OPERATIONS)
def on_a_site_that_is_read_only(client: Any) -> Any:
    breaker_in("closed")
    with changed(READ_ONLY=True):
        return all_pages(client, record())


@state(CACHE, LIST, BREAKER)
def without_permissions(client: Any) -> Any:
    breaker_in("closed")
    sign_in_with(client, "view_console")
    with changed(REQUIRE_MODEL_PERMISSIONS=True):
        return all_pages(client, record())


@state(CACHE, LIST, BREAKER, OPERATIONS, OPERATION)
def refused_altogether(client: Any) -> Any:
    sign_in_with(client)
    with changed(REQUIRE_MODEL_PERMISSIONS=True):
        return all_pages(client, record())


@state(CACHE, LIST, BREAKER, OPERATIONS, OPERATION)
def with_its_environment(client: Any) -> Any:
    breaker_in("closed")
    with changed(ENVIRONMENT_NAME="1", CONSOLE_REFRESH_SECONDS=None):
        return all_pages(client, record())


@state("the pages of the admin that the section is on")
def with_recent_actions(client: Any) -> Any:
    sent = {"confirmed": "yes", "mode": "hard", "reason": REASON}
    client.post(url("searchcache/clear/"), sent)
    return [client.get("/admin/"), client.get(url(""))]


# What stages them


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
        "sweep_search_cache": ({}, {"alias": "1", "seen": 9, "removed": 1, "resumed": False}),
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


def _would_open() -> None:
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


def leave_a_sweep(*, moving: bool) -> None:
    leave_behind(3)
    client = caches["search"].client.get_client(write=True)
    position = SweepPosition(cursor=1 << 20, seen=1234, removed=5, moving=moving)
    client.set(caches["search"].make_key(POSITION_NAME), position.encode(), ex=60)


def sign_in_with(client: Any, *permissions: str) -> None:
    user, _ = get_user_model().objects.get_or_create(username="1", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
