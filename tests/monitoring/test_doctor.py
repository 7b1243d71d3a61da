"""The doctor: what is wrong with a site, on real servers, and what to do about it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from django.db.migrations.executor import MigrationExecutor

from analytics_admin.breakers.presence import Process
from analytics_admin.breakers.runtime import operator_store
from analytics_admin.checks import servers
from analytics_admin.monitoring import doctor
from analytics_admin.stores.examination import examine
from tests.support.servers import StoreServer, free_port
from tests.support.stopwatch import Stopwatch

PASSWORD = "hunter2-of-the-store"


@contextmanager
def site_on(server: StoreServer, settings: Any, **options: Any) -> Iterator[None]:
    settings.CACHES = deepcopy(settings.CACHES)
    for number, alias in enumerate(["search", "breakers"], start=1):
        settings.CACHES[alias]["LOCATION"] = f"redis://127.0.0.1:{server.port}/{number}"
        settings.CACHES[alias]["OPTIONS"] |= options
    yield


@pytest.fixture
def server(settings: Any) -> Iterator[StoreServer]:
    """A server as it should be, on which the site is."""
    with StoreServer(port=free_port(), appendonly="yes") as server, site_on(server, settings):
        yield server


def found(level: str = "") -> dict[str, str]:
    """Return what to do by id of each finding."""
    findings = doctor.examine_site().findings
    return {it.id.removeprefix("analytics_admin."): it.hint for it in findings if level in it.level}


def deployed() -> set[str]:
    messages = run_checks(tags=["analytics_admin"], include_deployment_checks=True)
    return {str(message.id).removeprefix("analytics_admin.") for message in messages}


def run(*options: str) -> tuple[int, str]:
    """Return the exit code and what the command prints."""
    from io import StringIO

    printed, code = StringIO(), 0
    try:
        call_command("doctor", *options, stdout=printed)
    except CommandError as error:
        code = error.returncode
    return code, printed.getvalue()


@pytest.mark.django_db
def test_a_healthy_site_has_nothing_to_do(server: StoreServer) -> None:
    code, text = run()
    assert code == 0, text
    assert text.endswith("Nothing to do\n")
    code, text = run("--json")
    report = json.loads(text)
    assert (code, report["status"], report["processes"]) == (0, "ok", 0)
    assert [store["store"] for store in report["stores"]] == ["breakers", "search_cache"]
    for store in report["stores"]:
        assert store["reachable"]
        assert 0 < store["latency_median_ms"] <= store["latency_p99_ms"] < 1000
        assert store["server"].startswith(("Valkey ", "Redis "))
        assert (store["role"], store["replicas"]) == ("master", 0)
        assert (store["eviction"], store["persistence"]) == ("unlimited", "appendonly")
        assert abs(store["clock_ahead_seconds"]) < 1


@pytest.mark.django_db
@pytest.mark.parametrize("fault", ["stopped", "frozen", "password"])
def test_a_store_that_does_not_answer_is_an_error_here_and_an_info_to_the_checks(
    settings: Any, fault: str
) -> None:
    with (
        StoreServer(port=free_port(), requirepass=PASSWORD) as server,
        site_on(server, settings, PASSWORD=PASSWORD),
    ):
        if fault == "password":
            server.ask("CONFIG", "SET", "requirepass", "another")
        else:
            (server.stop if fault == "stopped" else server.freeze)()
        watch = Stopwatch()
        code, text = run()
        assert watch.seconds < 10
        assert code == 1
        assert text.count("(store_unreachable)") == 2
        assert "I001" not in text
        assert PASSWORD not in text
        if fault != "frozen":  # for which each check would wait
            found_by_checks = deployed()
            assert "I001" in found_by_checks
            assert not {it for it in found_by_checks if it.startswith("E")}


@pytest.mark.django_db
def test_warnings_alone_exit_with_3(server: StoreServer) -> None:
    server.ask("CONFIG", "SET", "maxmemory", "100mb")
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    code, text = run()
    assert code == 3
    assert "noeviction" in text
    assert {"W006", "W010"} <= found("warning").keys()
    assert run("--json")[0] == 3


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("alias", "key"),
    [
        *(("breakers", "celery"), ("breakers", "asgi:group:chat"), ("breakers", "rq:queues")),
        *(("search", "_kombu.binding.celery"), ("search", "rq:queue:mails")),
    ],
)
def test_what_queues_and_channels_keep_beside_it_is_found(
    server: StoreServer, alias: str, key: str
) -> None:
    assert "W017" not in found()
    with operator_client(server, {"search": 1, "breakers": 2}[alias]) as client:
        client.rpush(key, "task")
    messages = {message.id: message.msg for message in servers.check_servers()}
    assert key in messages["analytics_admin.W017"]
    assert f"'{alias}'" in messages["analytics_admin.W017"]
    assert "number of its own" in found()["W017"]


@contextmanager
def operator_client(server: StoreServer, database: int) -> Iterator[Any]:
    import redis

    with redis.Redis(port=server.port, db=database) as client:
        yield client


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("CELERY_BROKER_URL", "redis://127.0.0.1:{port}/2"),
        ("RQ_QUEUES", {"default": {"HOST": "127.0.0.1", "PORT": "{port}", "DB": 2}}),
        ("CHANNEL_LAYERS", {"default": {"CONFIG": {"hosts": ["redis://127.0.0.1:{port}/2"]}}}),
    ],
)
def test_another_program_whose_setting_names_the_database_is_found(
    server: StoreServer, settings: Any, setting: str, value: Any
) -> None:
    filled = json.loads(json.dumps(value).replace("{port}", str(server.port)))
    setattr(settings, setting, filled)
    assert "W017" in found("warning")


@pytest.mark.django_db
def test_an_alias_whose_clear_would_take_the_breakers_along_is_found(
    server: StoreServer, settings: Any
) -> None:
    settings.CACHES["default"] = deepcopy(settings.CACHES["breakers"])
    assert "W017" in found("warning")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "finding", "level"),
    [
        ({"kind": "Redis", "version": "6.0.16"}, "E020", "error"),
        ({"kind": "Valkey", "version": "7.2.4"}, "E020", "error"),
        ({"kind": "Redis", "version": "6.2.0"}, "", ""),
        ({"kind": "", "version": ""}, "", ""),
        ({"role": "slave"}, "E021", "error"),
        ({"replicas": 2, "confirmed": 1}, "W015", "warning"),
        ({"replicas": 2, "confirmed": None}, "W015", "warning"),
        ({"replicas": 2, "confirmed": 2}, "", ""),
        ({"clock_ahead": 90.0}, "W016", "warning"),
        ({"clock_ahead": -90.0}, "W016", "warning"),
        ({"clock_ahead": 1.5, "clock_uncertainty": 0.6}, "", ""),
    ],
)
def test_what_a_server_says_of_itself_is_judged(
    server: StoreServer,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    finding: str,
    level: str,
) -> None:
    examined = replace(examine("breakers"), **change)
    monkeypatch.setattr(servers, "examine", lambda alias, **options: examined)
    new = found().keys() & {"E020", "E021", "W015", "W016"}
    assert new == ({finding} if finding else set())
    assert not finding or found(level)[finding]


@pytest.mark.django_db
def test_replicas_and_whether_they_confirm_are_seen(server: StoreServer) -> None:
    with StoreServer(port=free_port(), repl_diskless_sync="yes") as replica:
        replica.follow(server)
        examined = examine("breakers")
        assert (examined.replicas, examined.confirmed) == (1, 1)
        replica.freeze()
        assert examine("breakers").confirmed == 0
        replica.thaw()


@pytest.mark.django_db
def test_a_user_with_few_rights_is_told_which_it_lacks(server: StoreServer, settings: Any) -> None:
    rights = ["on", f">{PASSWORD}", "~*", "+@all", "-@dangerous", "-info", "-wait", "-zadd"]
    server.ask("ACL", "SETUSER", "app", *rights)
    with site_on(server, settings, USERNAME="app", PASSWORD=PASSWORD):
        report = doctor.examine_site()
    lacks = [it for it in report.findings if it.id == "analytics_admin.E018"]
    assert "zadd" in lacks[0].text
    assert "reach-the-store" in lacks[0].hint
    assert report.stores[0].server is None
    assert PASSWORD not in str(report)


@pytest.mark.django_db
def test_a_slow_store_is_found(server: StoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    examined = replace(examine("breakers"), latencies=[0.001] * 19 + [0.5])
    monkeypatch.setattr(doctor, "examine", lambda alias: examined)
    assert "nearer" in found("warning")["store_slow"]
    assert (examined.median, examined.p99) == (0.001, 0.5)


@pytest.mark.django_db
def test_a_frozen_time_out_is_found(server: StoreServer, settings: Any) -> None:
    del settings.CACHES["breakers"]["OPTIONS"]["SOCKET_TIMEOUT"]
    assert "0.5" in found("warning")["W003"]


@pytest.mark.django_db
def test_pending_migrations_are_an_error(
    server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        MigrationExecutor, "migration_plan", lambda self, targets: [("analytics_admin.0001", False)]
    )
    assert "migrate" in found("error")["migrations_pending"]


@pytest.mark.django_db
def test_a_database_that_does_not_answer_is_an_error(
    server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: Any) -> None:
        raise DatabaseError("could not connect to hunter2")

    monkeypatch.setattr(doctor, "MigrationExecutor", fail)
    code, text = run()
    assert (code, "hunter2" in text) == (1, False)
    assert "(database_unavailable)" in text


@pytest.mark.django_db
def test_processes_that_are_silent_or_hear_of_nothing_are_named(
    server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = operator_store()
    told = Process(process_id="p", host="web-1", pid=4711, release="0.0.9", policies="")
    store.present(told)
    store.present(replace(told, process_id="q", pid=4712, release="0.1.0", gets_pushes=True))
    texts = {it.id: it.text for it in doctor.examine_site().findings}
    assert "1 of 2" in texts["processes_without_pushes"]
    assert "web-1/4711" in texts["processes_without_pushes"]
    assert "0.0.9, 0.1.0" in texts["releases_differ"]
    assert "processes_silent" not in texts
    key = f"{store._base}:processes"
    with operator_client(server, 2) as client:
        entry = client.hget(key, "p").decode().split(" ", 1)
        client.hset(key, "p", f"{time.time() - 10:.6f} {entry[1]}")
    texts = {it.id: it.text for it in doctor.examine_site().findings}
    assert "web-1/4711" in texts["processes_silent"]


@pytest.mark.django_db
def test_a_site_in_local_memory_is_told_that_it_is_one_process(settings: Any) -> None:
    local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    settings.CACHES = {"default": local, "search": local, "breakers": local}
    report = doctor.examine_site()
    assert [store.server for store in report.stores] == ["local memory"] * 2
    assert "analytics_admin.W001" in {it.id for it in report.findings}


@pytest.mark.django_db
def test_settings_that_cannot_be_used_are_said_and_nothing_else_breaks(settings: Any) -> None:
    settings.ANALYTICS_ADMIN = {"BREAKER_CACHE": "nowhere", "SEARCH_CACH": 1}
    code, text = run()
    assert code == 1
    assert "analytics_admin.E002" in text
    assert "store_unreachable" in text


@pytest.mark.django_db
def test_every_finding_says_what_to_do(server: StoreServer, settings: Any) -> None:
    settings.ANALYTICS_ADMIN = {"METRICS_TOKEN": "x", "SEARCH_CACHE_BACKGROUND": True}
    server.ask("CONFIG", "SET", "appendonly", "no")
    report = doctor.examine_site()
    assert len(report.findings) > 3
    assert [it.id for it in report.findings if not it.hint.endswith((".", "?"))] == []
    levels = [it.level for it in report.findings]
    assert levels == sorted(levels, key=["error", "warning", "info"].index)
