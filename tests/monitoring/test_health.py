"""Probes: open to a load balancer by address, quick whatever hangs, and silent about secrets."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connections
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import include, path

from analytics_admin.monitoring import health
from tests.docs.pages import ROOT
from tests.support.servers import StoreServer, free_port
from tests.support.stopwatch import Stopwatch

BY_ADDRESS = {"host": "10.1.2.3:8000"}
PASSWORD = "hunter2-of-the-store"
ALL = ["database", "breakers", "search_cache"]


def answer(query: str = "") -> tuple[int, dict[str, Any]]:
    response = Client().get(f"/readyz{query}")
    return response.status_code, response.json()


@pytest.fixture
def strict(settings: Any) -> None:
    """The site serves one host, over HTTPS alone."""
    settings.ALLOWED_HOSTS = ["console.example.org"]
    settings.SECURE_SSL_REDIRECT = True


@pytest.fixture
def store(settings: Any) -> Iterator[StoreServer]:
    """A store of the test's own, for both aliases."""
    with StoreServer(port=free_port(), requirepass=PASSWORD) as server:
        settings.CACHES = deepcopy(settings.CACHES)
        for number, alias in enumerate(["search", "breakers"]):
            settings.CACHES[alias]["LOCATION"] = f"redis://127.0.0.1:{server.port}/{number}"
            settings.CACHES[alias]["OPTIONS"]["PASSWORD"] = PASSWORD
        yield server


@pytest.mark.django_db
@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("where", ["/healthz", "/readyz"])
@pytest.mark.parametrize("method", ["get", "head"])
def test_a_load_balancer_may_ask_by_address_over_plain_http(where: str, method: str) -> None:
    response = getattr(Client(), method)(where, headers=BY_ADDRESS)
    assert (response.status_code, response["Cache-Control"]) == (200, "no-store")
    assert "Set-Cookie" not in response.headers


@pytest.mark.django_db
@pytest.mark.usefixtures("strict")
def test_it_may_under_an_asgi_server_too() -> None:
    async def ask() -> list[int]:
        client = AsyncClient()
        paths = "/healthz", "/readyz"
        return [(await client.get(where, headers=BY_ADDRESS)).status_code for where in paths]

    assert asyncio.run(ask()) == [200, 200]


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("where", ["/", "/admin/healthz", "/api/v1/readyz", "/elsewhere/healthz"])
def test_every_other_path_goes_by_the_sites_own_rules(where: str) -> None:
    assert Client().get(where, headers=BY_ADDRESS, secure=True).status_code == 400


def another(request: Any) -> HttpResponse:
    return HttpResponse("the site's own")


urlpatterns = [
    path("healthz", another),
    path("internal/", include("analytics_admin.monitoring.urls")),
]


@pytest.mark.urls(__name__)
def test_a_site_mounts_them_where_it_likes_and_keeps_its_own() -> None:
    assert Client().get("/healthz").content == b"the site's own"
    assert Client().get("/internal/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize("where", ["/healthz", "/readyz"])
def test_a_probe_changes_nothing(where: str) -> None:
    response = Client(enforce_csrf_checks=True).post(where)
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")
    assert response["Cache-Control"] == "no-store"


def test_a_process_is_healthy_without_database_and_stores(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    assert Client().get("/healthz").json() == {"status": "ok"}  # pytest-django bars the database


@pytest.mark.django_db
def test_a_site_is_ready_once_all_that_it_needs_answers() -> None:
    assert answer() == (200, {"status": "ready", "checks": dict.fromkeys(ALL, "ok")})


@pytest.mark.django_db
def test_a_store_in_local_memory_is_always_there(settings: Any) -> None:
    local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    settings.CACHES = {"default": local, "search": local, "breakers": local}
    assert answer()[0] == 200


@pytest.mark.django_db
@pytest.mark.parametrize("fault", ["stopped", "frozen", "wrong password", "not configured"])
def test_a_site_is_not_ready_without_its_stores(
    store: StoreServer, settings: Any, fault: str
) -> None:
    if fault == "stopped":
        store.stop()
    elif fault == "frozen":
        store.freeze()
    elif fault == "wrong password":
        store.ask("CONFIG", "SET", "requirepass", "another")
    else:
        del settings.CACHES["search"], settings.CACHES["breakers"]
    watch = Stopwatch()
    response = Client().get("/readyz")
    assert watch.seconds < 1
    assert response.status_code == 503
    assert response["Cache-Control"] == "no-store"
    expected = {"database": "ok", "breakers": "unavailable", "search_cache": "unavailable"}
    assert response.json() == {"status": "unavailable", "checks": expected}
    assert PASSWORD not in str(response.headers) + response.content.decode()


def test_a_site_is_not_ready_without_its_database(monkeypatch: pytest.MonkeyPatch) -> None:
    databases = deepcopy(connections.settings)
    databases["default"] |= {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "/nowhere/hunter2.sqlite3",
        "TEST": {},
    }
    monkeypatch.setattr(connections, "_settings", databases)
    monkeypatch.setattr(connections, "settings", databases)
    status, body = answer()
    assert (status, body["checks"]["database"]) == (503, "unavailable")
    assert "hunter2" not in str(body)


def test_what_hangs_holds_up_one_thread_however_often_somebody_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released, begun = threading.Event(), []

    def hang() -> None:
        begun.append(threading.current_thread())
        released.wait(60)

    dependencies = {"database": hang, "breakers": bool, "search_cache": bool}
    monkeypatch.setattr(health, "DEPENDENCIES", dependencies)
    monkeypatch.setattr(health, "MAX_SECONDS", 0.05)
    try:
        for _ in range(5):
            assert health.ask_dependencies(dependencies) == {
                "database": "no answer",
                "breakers": "ok",
                "search_cache": "ok",
            }
        assert len(begun) == 1
    finally:
        released.set()
    begun[0].join(10)
    monkeypatch.setattr(health, "MAX_SECONDS", 10)
    assert health.ask_dependencies(["database"]) == {"database": "ok"}


@pytest.mark.django_db
def test_a_site_that_goes_on_without_a_store_may_leave_it_out(store: StoreServer) -> None:
    store.stop()
    status, body = answer("?exclude=breakers&exclude=search_cache")
    assert (status, body) == (200, {"status": "ready", "checks": {"database": "ok"}})
    assert answer("?exclude=breakers")[0] == 503


def test_a_misspelt_exclusion_is_refused() -> None:
    status, body = answer("?exclude=redis")
    assert (status, body["code"]) == (400, "invalid")
    assert all(name in body["detail"] for name in ALL)


@pytest.mark.django_db
def test_what_stops_answering_is_logged_once_and_its_return_too(
    store: StoreServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_last", {})
    for frozen in (True, True, False, False):
        (store.freeze if frozen else store.thaw)()
        answer()
    logged = [record.getMessage() for record in caplog.records]
    assert sorted(logged) == sorted(
        f"readyz: {name}{state}"
        for name in ("breakers", "search_cache")
        for state in (": unavailable", " answers again")
    )


def found() -> set[str]:
    return {str(message.id).partition(".")[2] for message in run_checks(tags=["analytics_admin"])}


@pytest.mark.parametrize("change", ["missing", "second"])
def test_a_middleware_that_does_not_stand_first_is_found(settings: Any, change: str) -> None:
    assert "W013" not in found()
    first, *rest = settings.MIDDLEWARE
    settings.MIDDLEWARE = rest if change == "missing" else [rest[0], first, *rest[1:]]
    assert "W013" in found()


@pytest.mark.urls("tests.console.bare_urls")
def test_a_site_that_mounts_no_monitoring_needs_no_middleware(settings: Any) -> None:
    settings.MIDDLEWARE = settings.MIDDLEWARE[1:]
    assert "W013" not in found()


def test_an_asgi_server_imports_the_middleware_before_there_are_models() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", "import analytics_admin.middleware"],
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0
