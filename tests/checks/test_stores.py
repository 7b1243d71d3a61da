"""Checks of the breakers' store, on real servers."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from types import SimpleNamespace

from django.conf import settings
from django.core.checks import run_checks
from django.test import override_settings

from analytics_admin.breakers import circuit_breaker
from analytics_admin.checks.settings import check_policies, check_settings
from tests.support.servers import StoreServer, free_port


def found(*, deploy: bool = True) -> dict[str, str]:
    """Return hint by id of what the app's own checks say."""
    messages = run_checks(tags=["analytics_admin"], include_deployment_checks=deploy)
    return {str(message.id).partition(".")[2]: str(message.hint) for message in messages}


@contextmanager
def breakers_on(server: StoreServer) -> Iterator[None]:
    caches = deepcopy(settings.CACHES)
    caches["breakers"]["LOCATION"] = f"redis://127.0.0.1:{server.port}/2"
    with override_settings(CACHES=caches):
        yield


def test_a_store_that_evicts_and_forgets_is_found():
    options = {"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"}
    with StoreServer(port=free_port(), **options) as server, breakers_on(server):
        messages = found()
    assert "noeviction" in messages["W006"]
    assert "appendonly" in messages["W007"]


@contextmanager
def search_on(server: StoreServer, *, user: str = "") -> Iterator[None]:
    caches = deepcopy(settings.CACHES)
    caches["search"]["LOCATION"] = f"redis://{user}127.0.0.1:{server.port}/1"
    with override_settings(CACHES=caches):
        yield


def test_what_a_restart_and_a_full_memory_do_to_the_search_cache_is_said():
    options = {"maxmemory": "64mb", "maxmemory-policy": "allkeys-random"}
    with StoreServer(port=free_port(), **options) as server, search_on(server):
        assert "volatile" in found()["W010"]
        assert "I003" in found()
        server.ask("CONFIG", "SET", "maxmemory-policy", "volatile-lru", "save", "3600 1")
        assert not {"W010", "I003"} & found().keys()
        assert "appendonly" in found()["I004"]
        server.ask("CONFIG", "SET", "appendonly", "yes")
        assert not {"W009", "W010", "I001", "I003", "I004"} & found().keys()


def test_a_search_store_that_does_not_say_which_server_it_is_is_found():
    with StoreServer(port=free_port()) as server:
        server.ask("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-@dangerous")
        with search_on(server, user="app:pw@"):
            assert "INFO" in found()["W009"]


def test_uwsgi_without_threads_is_found(monkeypatch):
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(opt={b"http": b":8000"}))
    assert "enable-threads" in found(deploy=False)["W008"]
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(opt={b"enable-threads": True}))
    assert not {"W008", "W012"} & found(deploy=False).keys()


def test_uwsgi_without_hooks_at_the_end_of_its_processes_is_found(monkeypatch):
    options = {b"enable-threads": True, b"skip-atexit": True}
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(opt=options))
    assert "--skip-atexit" in found(deploy=False)["W012"]
    assert "W008" not in found(deploy=False)


def test_a_durable_store_is_left_in_peace():
    options = {"appendonly": "yes", "maxmemory": "64mb", "maxmemory-policy": "volatile-lru"}
    with StoreServer(port=free_port(), **options) as server, breakers_on(server):
        assert not {"W006", "W007", "I001"} & set(found())


def test_snapshots_are_persistence_too():
    with StoreServer(port=free_port(), save="3600 1") as server, breakers_on(server):
        assert "W007" not in found()


def test_a_store_that_does_not_answer_is_no_reason_to_fail():
    with StoreServer(port=free_port()) as server, breakers_on(server):
        server.freeze()
        assert "I001" in found()
        server.thaw()
    with StoreServer(port=free_port()) as server, search_on(server):
        server.freeze()
        assert "I001" in found()
        server.thaw()


def test_the_store_is_asked_for_a_deployment_only():
    assert not {"W006", "W007", "I001"} & set(found(deploy=False))


def test_a_policy_that_code_and_settings_give_differently_is_pointed_out():
    circuit_breaker("checked.twice", failure_threshold=4, wait_duration_in_open_state=10)
    policies = {"checked.twice": {"failure_threshold": 9, "wait_duration_in_open_state": 10}}
    with override_settings(ANALYTICS_ADMIN={"BREAKERS": policies}):
        (message,) = check_policies()
    assert "checked.twice" in message.msg
    assert "failure_threshold" in message.msg
    assert "wait_duration" not in message.msg
    assert check_policies() == []


def test_settings_are_judged_together_with_the_code():
    circuit_breaker("checked.rate", failure_rate_threshold=50, wait_duration_in_open_state=90)
    circuit_breaker("checked.run", failure_threshold=3)
    both = {"BREAKERS": {"checked.rate": {"failure_threshold": None}}}
    with override_settings(ANALYTICS_ADMIN=both):
        assert "E004" not in found(deploy=False)
    unusable = [
        {"BREAKERS": {"checked.run": {"failure_threshold": None}}},
        {"BREAKERS": {"checked.rate": {"max_wait_duration_in_open_state": 80}}},
        {"BREAKER_DEFAULTS": {"max_wait_duration_in_open_state": 80}},
    ]
    for site in unusable:
        with override_settings(ANALYTICS_ADMIN=site):
            messages = [it.msg for it in check_settings() if it.id == "analytics_admin.E004"]
            assert any("checked.r" in message for message in messages), messages
            assert "I002" not in found(deploy=False)
