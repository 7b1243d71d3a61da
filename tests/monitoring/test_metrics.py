"""Metrics: what a real parser reads on the page is what has happened in the fleet."""

import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from importlib.util import find_spec
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import DatabaseError
from django.test import Client
from prometheus_client import generate_latest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from analytics_admin import services
from analytics_admin.breakers import CircuitOpenError
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.breakers.state_machine import new_record
from analytics_admin.breakers.stores.base import Move
from analytics_admin.caching import search_cache
from analytics_admin.models import Operation
from analytics_admin.monitoring import figures, metrics
from analytics_admin.services import Actor
from tests.support.breakers import another, rest, round_trips, trip
from tests.support.servers import StoreServer, free_port
from tests.support.stopwatch import Stopwatch
from tests.support.stored_breakers import raw_client

TOKEN = "a-token-of-the-tests-only-0123456789"
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(autouse=True)
def token(settings: Any) -> None:
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "METRICS_TOKEN": TOKEN}


def scrape(**headers: str) -> Any:
    return Client().get("/metrics", headers={"authorization": f"Bearer {TOKEN}", **headers})


def series(page: str | None = None) -> Values:
    """Return the value of each series by name, without prefix, and labels."""
    parsed = parse_text(scrape().text if page is None else page)
    return {
        (it.name.removeprefix("analytics_admin_"), frozenset(it.labels.items())): it.value
        for family in parsed
        for it in family.samples
    }


def value(name: str, values: Values | None = None, /, **labels: str) -> float | None:
    return (series() if values is None else values).get((name, frozenset(labels.items())))


# Who may read them


def test_there_are_none_without_a_token_of_the_sites(settings: Any) -> None:
    settings.ANALYTICS_ADMIN = {}
    assert scrape().status_code == 404


@pytest.mark.parametrize(
    "header",
    [
        *("", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}"),
        *(TOKEN, f"Bearer  {TOKEN}", "Bearer \xff\xfe", "Bearer ☃", "Bearer \x00", "é" * 5000),
    ],
)
def test_whoever_lacks_the_token_is_told_to_send_it(header: str) -> None:
    response = Client().get("/metrics", headers={"authorization": header})
    assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")
    assert response["Cache-Control"] == "no-store"
    assert TOKEN not in response.text


@pytest.mark.django_db
def test_prometheus_may_ask_by_address_and_any_scheme_of_case(settings: Any) -> None:
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["console.example.org"], True
    response = scrape(host="10.1.2.3:8000", authorization=f"bearer {TOKEN}")
    assert (response.status_code, response["Cache-Control"]) == (200, "no-store")


@pytest.mark.parametrize(
    ("token", "found"), [("x", "W014"), ("with space" * 3, "E003"), (7, "E003"), ("é" * 20, "E003")]
)
def test_an_unusable_token_is_found(settings: Any, token: Any, found: str) -> None:
    settings.ANALYTICS_ADMIN = {"METRICS_TOKEN": token}
    messages = run_checks(tags=["analytics_admin"])
    assert f"analytics_admin.{found}" in {message.id for message in messages}


def test_a_host_without_the_library_is_told_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "analytics_admin.monitoring.metrics", None)
    monkeypatch.setattr(
        "analytics_admin.checks.monitoring.find_spec",
        lambda name: None if name == "prometheus_client" else find_spec(name),
    )
    response = scrape()
    assert (response.status_code, response.json()["code"]) == (501, "not_installed")
    messages = run_checks(tags=["analytics_admin"])
    assert "analytics_admin.E019" in {message.id for message in messages}


# What they say


def known_run() -> None:
    actor = Actor.system("test")
    shop = another("shop", failure_threshold=3)
    for _ in range(7):
        shop.call(int)
    for _ in range(3):
        with suppress(ZeroDivisionError):
            shop.call(lambda: 1 / 0)
    for _ in range(4):
        with pytest.raises(CircuitOpenError):
            shop.call(int)
    rest(shop.engine)
    services.reset_circuit_breakers(actor=actor, names=["shop"])
    services.set_breaker_control(actor=actor, name="shop", control="forced_open", for_seconds=60)
    for _ in range(2):
        search_cache.get_or_compute("lamp", lambda: "found", timeout=60)
    with suppress(ZeroDivisionError):
        search_cache.get_or_compute("chair", lambda: 1 / 0, timeout=60)
    search_cache.flush()
    services.clear_search_cache(actor=actor)
    with suppress(services.OperatorError):
        services.set_breaker_control(actor=actor, name="none", control="disabled")


@pytest.mark.django_db(transaction=True)
def test_the_counters_are_those_of_a_known_run() -> None:
    before = time.time()
    known_run()
    found = series()
    shop = {"name": "shop"}
    expected = {
        ("circuit_breaker_state", "", ""): 4,
        ("circuit_breaker_calls_total", "outcome", "success"): 7,
        ("circuit_breaker_calls_total", "outcome", "failure"): 3,
        ("circuit_breaker_slow_calls_total", "", ""): 0,
        ("circuit_breaker_not_permitted_calls_total", "", ""): 4,
        ("circuit_breaker_transitions_total", "to", "open"): 1,
        ("circuit_breaker_transitions_total", "to", "half_open"): 0,
        ("circuit_breaker_transitions_total", "to", "closed"): 1,
        ("circuit_breaker_transitions_total", "to", "held"): 1,
    }
    for (name, label, target), number in expected.items():
        labels = {**shop, label: target} if label else shop
        assert value(name, found, **labels) == number, (name, target)
    held = value("circuit_breaker_hold_expires_timestamp_seconds", found, **shop)
    assert held == pytest.approx(before + 60, abs=30)
    assert value("circuit_breakers", found, state="forced_open") == 1
    assert [value("search_cache_calls_total", found, result=it) for it in ("hit", "miss")] == [1, 2]
    assert value("search_cache_fills_total", found) == 1
    assert value("search_cache_computations_total", found) == 2
    assert value("search_cache_compute_errors_total", found) == 1
    assert value("search_cache_compute_seconds_total", found) > 0
    clear = value("search_cache_last_clear_timestamp_seconds", found)
    assert clear == pytest.approx(before, abs=30)
    done = {"status": "done", "channel": "code"}
    for kind in ("reset_circuit_breakers", "control_circuit_breakers", "clear_search_cache"):
        assert value("operations_total", found, kind=kind, **done) == 1
    assert value("database_up", found) == 1
    for store in ("breakers", "search_cache"):
        assert value("store_up", found, store=store) == 1
        assert 0 < value("store_latency_seconds", found, store=store) < 1


@pytest.mark.django_db(transaction=True)
def test_counters_do_not_depend_on_what_is_kept_for_a_while() -> None:
    known_run()
    before = {key: it for key, it in series().items() if key[0].endswith("_total")}
    client = raw_client()
    for key in client.keys("*"):
        if b":periods:" in key or b":m:" in key or b":h:" in key:
            client.delete(key)
    Operation.objects.all().delete()
    after = {key: it for key, it in series().items() if key[0].endswith("_total")}
    assert after == before


@pytest.mark.django_db(transaction=True)
def test_in_an_emptied_store_they_begin_at_zero() -> None:
    known_run()
    raw_client().flushdb()
    found = series()
    assert value("search_cache_fills_total", found) == 0
    assert not [key for key in found if ("name", "shop") in key[1] and key[0].endswith("_total")]


@pytest.mark.django_db
@pytest.mark.parametrize("control", ["disabled", "metrics_only", "forced_open"])
def test_a_hold_for_ever_expires_never(control: str) -> None:
    trip("shop")
    services.set_breaker_control(
        actor=Actor.system("test"), name="shop", control=control, for_seconds=math.inf
    )
    found = series()
    assert value("circuit_breaker_hold_expires_timestamp_seconds", found, name="shop") == math.inf
    number = metrics.STATE_NUMBERS[control]
    assert value("circuit_breaker_state", found, name="shop") == number


@pytest.mark.django_db
def test_an_operation_that_was_denied_is_counted(django_user_model: Any, settings: Any) -> None:
    staff = django_user_model.objects.create_user("sam", is_staff=True)
    settings.ANALYTICS_ADMIN |= {"REQUIRE_MODEL_PERMISSIONS": True}
    with pytest.raises(services.OperationDenied):
        services.clear_search_cache(actor=Actor.from_user(staff, channel="api"))
    labels = {"kind": "clear_search_cache", "status": "denied", "channel": "api"}
    assert value("operations_total", **labels) == 1


@pytest.mark.django_db
def test_an_operation_is_done_even_if_it_cannot_be_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise DatabaseError("no such table: analytics_admin_operationcount")

    monkeypatch.setattr("django.db.models.query.QuerySet.get_or_create", fail)
    services.clear_search_cache(actor=Actor.system("test"))
    assert Operation.objects.get().status == "done"
    assert "is not counted: the database is not migrated" in caplog.text


# How they are read


@pytest.mark.django_db
def test_real_parsers_read_both_forms() -> None:
    known_run()
    plain, modern = scrape(), scrape(accept=OPENMETRICS)
    assert plain["Content-Type"].startswith("text/plain; version=0.0.4")
    assert modern["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.text.endswith("# EOF\n")
    kinds = [
        {family.name: family.type for family in parse(page.text)}
        for parse, page in ((parse_text, plain), (parse_openmetrics, modern))
    ]
    told = {f"analytics_admin_{it.name}": it.kind for it in metrics.FAMILIES.values()}
    assert kinds == [told, told]


@pytest.mark.django_db
@pytest.mark.parametrize("accept", ["", "*/*", "application/openmetrics-text; version=x", "\xff"])
def test_any_accept_header_gets_a_page(accept: str) -> None:
    assert scrape(accept=accept).status_code == 200


@pytest.mark.django_db
def test_no_name_breaks_the_page() -> None:
    index = f"{operator_store()._base}:index"
    raw_client().zadd(index, {b'a"\n\\{}': 4e9, b"\xff": 4e9, b"": 4e9})
    page = scrape(accept=OPENMETRICS).text
    assert sum(family.name.endswith("breaker_state") for family in parse_openmetrics(page)) == 1


def breakers(number: int) -> list[str]:
    names = [f"n{it:05}" for it in range(number)]
    store = operator_store()
    store.register(names, keep_for=None)
    store.compare_and_set([Move(name=name, expected=None, new=new_record()) for name in names])
    return names


@pytest.mark.django_db
def test_a_breaker_has_few_series_and_those_beyond_the_maximum_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known_run()
    breakers(4)
    monkeypatch.setattr(figures, "MAX_BREAKERS", 3)
    found = series()
    assert value("circuit_breakers_left_out", found) == 2
    monkeypatch.setattr(figures, "MAX_BREAKERS", 10_000)
    by_name = Counter(dict(labels)["name"] for _, labels in series() if "name" in dict(labels))
    assert by_name["shop"] == metrics.MAX_SERIES_PER_BREAKER
    assert max(by_name.values()) <= metrics.MAX_SERIES_PER_BREAKER


@pytest.mark.django_db
def test_a_scrape_is_one_round_trip_to_each_store(django_assert_num_queries: Any) -> None:
    breakers(250)
    scrape()
    with round_trips() as sent, django_assert_num_queries(2):
        scrape()
    assert sent["questions"] == 2


@pytest.mark.django_db
def test_a_thousand_breakers_take_little_longer_than_their_rendering() -> None:
    breakers(1000)
    figures.read_figures()
    own = [math.inf]
    while own[-1] >= 0.05 and len(own) < 20:  # a busy machine takes longer now and then
        watch = Stopwatch()
        list(metrics.families_of(figures.read_figures()))
        own.append(watch.seconds)
    assert min(own) < 0.05
    assert generate_latest(metrics._Page(figures.read_figures()))


@pytest.fixture
def store(settings: Any) -> Iterator[StoreServer]:
    with StoreServer(port=free_port()) as server:
        settings.CACHES = deepcopy(settings.CACHES)
        for number, alias in enumerate(["search", "breakers"]):
            settings.CACHES[alias]["LOCATION"] = f"redis://127.0.0.1:{server.port}/{number}"
        yield server


@pytest.mark.django_db
@pytest.mark.parametrize("fault", ["stopped", "frozen", "not configured"])
def test_without_a_store_the_rest_is_there_in_time(
    store: StoreServer, settings: Any, fault: str
) -> None:
    services.clear_search_cache(actor=Actor.system("test"))
    if fault == "not configured":
        settings.CACHES = {"default": settings.CACHES["default"]}
    else:
        (store.stop if fault == "stopped" else store.freeze)()
    watch = Stopwatch()
    found = series()
    assert watch.seconds < 2.5
    assert [value("store_up", found, store=it) for it in metrics.STORES] == [0, 0]
    assert value("database_up", found) == 1
    assert [key for key in found if key[0] == "operations_total"]
    assert not [key for key in found if key[0].startswith(("circuit", "processes"))]


@pytest.mark.django_db
def test_without_the_database_the_rest_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise DatabaseError

    monkeypatch.setattr(figures, "find_last_clear", fail)
    found = series()
    assert value("database_up", found) == 0
    assert value("store_up", found, store="breakers") == 1


@pytest.mark.django_db
def test_a_site_in_local_memory_has_metrics_too(settings: Any) -> None:
    local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    settings.CACHES = {
        name: local | {"LOCATION": f"metrics-{name}"} for name in ("default", "search", "breakers")
    }
    known_run()
    found = series()
    assert value("circuit_breaker_calls_total", found, name="shop", outcome="success") == 7
    assert value("search_cache_fills_total", found) >= 1
    assert value("store_up", found, store="search_cache") == 1
