"""Users of a store with few rights: nothing is done in passing, and what is missing is named."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.cache import caches
from django.core.checks import run_checks
from django.test import override_settings

from analytics_admin.caching.clear import hard
from analytics_admin.checks.rights import BREAKERS, SEARCH_CACHE, check_rights
from analytics_admin.stores.client import dedicated_client
from analytics_admin.stores.rights import MissingRights, find_missing
from tests.support.servers import StoreServer, free_port
from tests.support.ways import ROOT, minimal_rule

RIGHTS = ["on", ">pw", "resetchannels", "~*", "&*", "+@all", "-client|setinfo"]


@pytest.fixture(scope="module")
def server() -> Iterator[StoreServer]:
    with StoreServer(port=free_port()) as server:
        yield server


@contextmanager
def rights(server: StoreServer, *changes: str, dedicated: bool = True) -> Iterator[Any]:
    """Have the aliases' user these rights; yields a client with all rights."""
    server.ask("FLUSHALL")
    server.ask("ACL", "SETUSER", "few", "reset", *RIGHTS, *changes)
    url = f"redis://few:pw@127.0.0.1:{server.port}"
    aliases = {
        alias: {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"{url}/{number}",
            "KEY_PREFIX": alias,
            "OPTIONS": {"SOCKET_TIMEOUT": 1, "SOCKET_CONNECT_TIMEOUT": 1},
        }
        for number, alias in enumerate(("default", "search", "breakers"))
    }
    site = {"SEARCH_CACHE_DEDICATED": dedicated}
    with override_settings(CACHES=aliases, ANALYTICS_ADMIN=site):
        yield dedicated_client("search", timeout=1)


def lacking(server: StoreServer, *changes: str) -> dict[str, str]:
    """Return by alias what the check of a deployment says that the user lacks."""
    with rights(server, *changes):
        messages = run_checks(tags=["analytics_admin"], include_deployment_checks=True)
    texts = [str(message.msg) for message in messages if message.id == "analytics_admin.E018"]
    return {text.split("'")[1]: text for text in texts}


def test_what_a_user_may_not_do_is_named(server: StoreServer) -> None:
    assert lacking(server) == {}
    missing = lacking(server, "-zadd", "-hset", "-script|load", "-getrange")
    assert " run hset, script|load, zadd," in missing["breakers"]
    assert " run getrange," in missing["search"]
    missing = lacking(server, "resetkeys", "~search:*", "resetchannels")
    assert "keys of its prefix and not publish on channels of its prefix" in missing["breakers"]
    assert "search" not in missing


def test_to_try_what_a_user_may_do_leaves_nothing(server: StoreServer) -> None:
    with rights(server):
        for alias in ("search", "breakers"):
            assert find_missing(alias, SEARCH_CACHE.split()) == MissingRights()
            assert dedicated_client(alias, timeout=1).keys("*") == []


@pytest.mark.parametrize(("alias", "needed"), [("breakers", BREAKERS), ("search", SEARCH_CACHE)])
def test_each_command_that_a_user_lacks_is_named(
    server: StoreServer, alias: str, needed: str
) -> None:
    """Given word by word, as the docs do: Redis 6.2 takes no single command of many away."""
    permitted = [word for word in minimal_rule() if word.startswith("+")]
    with rights(server):
        for name in needed.split():
            rule = [word for word in permitted if word != f"+{name}"]
            server.ask("ACL", "SETUSER", "few", "-@all", *rule)
            texts = [str(message.msg) for message in check_rights()]
            named = [text for text in texts if f"CACHES['{alias}'] may not run {name}, as" in text]
            assert len(named) == 1, (name, texts)


def commands_of(folder: str) -> set[str]:
    """Return the commands that the scripts run, directly or by a function of their own."""
    found = set()
    for file in (ROOT / "analytics_admin" / folder).rglob("*.lua"):
        text = re.sub(r"--.*", "", file.read_text())
        for called in re.findall(r"redis\.p?call\(([^,)]*)", text):
            assert called in {"...", "command"} or re.search("'[A-Z]+'", called), (file, called)
        for argument in re.findall(r"\b[\w.]+\(([^,()]*'[A-Z]{2,}'[^,()]*)", text):
            found |= {name.lower() for name in re.findall("'([A-Z]{2,})'", argument)}
    assert found
    return found


def test_the_check_tries_all_that_the_scripts_run_and_the_docs_permit_it() -> None:
    permitted = {word[1:] for word in minimal_rule() if word.startswith("+")}
    assert {*BREAKERS.split(), *SEARCH_CACHE.split()} <= permitted
    # Scripts do without INFO, and the cache's counts are in the breakers' alias.
    assert commands_of("breakers") - {"info"} <= {*BREAKERS.split()} >= {"evalsha", "script|load"}
    assert commands_of("caching/stores") - {"hincrby"} <= {*SEARCH_CACHE.split()}
    assert "hincrby" in BREAKERS.split()


def test_what_may_flush_but_not_in_a_transaction_unlinks(server: StoreServer) -> None:
    with rights(server, "-multi") as client:
        client.mset({f"search:1:{number}": 1 for number in range(6)})
        before = sorted(client.keys("*"))
        preview = hard.preview()
        assert sorted(client.keys("*")) == before  # a rehearsal does nothing
        assert (preview.way, preview.keys) == ("unlink", 6)
        assert "may not flush" in preview.not_flushed
        outcome = hard.clear()
        assert (outcome.way, outcome.keys) == ("unlink", 6)
    with rights(server, "-flushdb") as client:
        caches["search"].set("a", 1)
        assert hard.preview().way == hard.clear().way == "unlink"
    with rights(server) as client:
        caches["search"].set("a", 1)
        assert hard.preview().way == hard.clear().way == "flush"
