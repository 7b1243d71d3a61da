"""A clear that the store refuses, loses or cannot answer reports it, in time, without secrets."""

import re
import socket
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analytics_admin.caching.clear import hard
from analytics_admin.caching.epochs import ensure_record, new_record, record_key
from analytics_admin.stores.client import OutcomeUnknown, StoreUnavailable
from tests.support.cache_aliases import (
    fill,
    keys_in,
    raw,
    record,
    redis_alias,
    use_caches,
)
from tests.support.proxy import Fault, Proxy
from tests.support.servers import StoreServer, free_port
from tests.support.stopwatch import Stopwatch

BOTH_WAYS = pytest.mark.parametrize("dedicated", [True, False], ids=["flush", "unlink"])
PASSWORD = "s3cret-pass"


@pytest.fixture
def store() -> Iterator[StoreServer]:
    with StoreServer(port=free_port()) as server:
        yield server


def use_store(
    settings: Any, url: str, *, dedicated: bool, options: dict[str, Any] | None = None
) -> None:
    search = redis_alias("search", url=url, db=0, options=options or {})
    use_caches(settings, dedicated=dedicated, search=search)


def as_user(url: str, name: str) -> str:
    return url.replace("://", f"://{name}:{PASSWORD}@")


def assert_fails(reason: str, *, within: float = 1.0) -> None:
    """Both the clear and the preview fail for the reason, soon, and tell no password."""
    for ask in (hard.clear, hard.preview):
        watch = Stopwatch()
        with pytest.raises(StoreUnavailable, match=reason) as caught:
            ask()
        assert watch.seconds < within
        assert_no_secret(caught.value)


def assert_no_secret(error: BaseException) -> None:
    shown = "".join(traceback.format_exception(error)) + repr(error)
    assert PASSWORD not in shown
    assert "s3cret" not in shown


@BOTH_WAYS
@pytest.mark.parametrize("lenient", [False, True])
def test_a_stopped_store_fails_the_clear_even_where_the_alias_ignores_exceptions(
    settings: Any, dedicated: bool, lenient: bool
) -> None:
    options = {"IGNORE_EXCEPTIONS": lenient, "PASSWORD": PASSWORD}
    url = f"redis://127.0.0.1:{free_port()}"
    use_store(settings, url, dedicated=dedicated, options=options)
    assert_fails("^the store cannot be reached$")


@BOTH_WAYS
def test_a_frozen_store_fails_the_clear_within_a_second(
    settings: Any, store: StoreServer, dedicated: bool
) -> None:
    options = {"SOCKET_TIMEOUT": 30, "SOCKET_CONNECT_TIMEOUT": 30}
    use_store(settings, store.url, dedicated=dedicated, options=options)
    fill("search", range(10))
    store.freeze()
    try:
        assert_fails("^the store did not answer in time$")
    finally:
        store.thaw()
    assert len(keys_in()) == 10
    assert record() is None


def test_a_store_that_accepts_nobody_is_a_plain_failure(settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        use_store(settings, url, dedicated=True)
        assert_fails("^the store did not answer in time$")


@BOTH_WAYS
def test_a_wrong_password_is_said_without_it(
    settings: Any, store: StoreServer, dedicated: bool
) -> None:
    use_store(settings, as_user(store.url, "default"), dedicated=dedicated)
    with socket.create_connection(("127.0.0.1", store.port)) as admin:
        admin.sendall(b"CONFIG SET requirepass another\r\n")
        assert admin.recv(64) == b"+OK\r\n"
    assert_fails("^the store refused the user name or password$")


@BOTH_WAYS
@pytest.mark.parametrize(
    "location",
    [
        f"redis://:{PASSWORD}@127.0.0.1:port/0",
        f"redis://127.0.0.1:{PASSWORD}/0",
        f"redis://:s3cret#{PASSWORD}@127.0.0.1:6379/0",
        f"redis//:{PASSWORD}@127.0.0.1",
        f"redis://[:{PASSWORD}@127.0.0.1",
    ],
)
def test_a_malformed_url_does_not_tell_its_password(
    settings: Any, location: str, dedicated: bool
) -> None:
    search = redis_alias("search") | {"LOCATION": location}
    use_caches(settings, dedicated=dedicated, search=search)
    assert_fails("^the store's settings are not usable$")


@BOTH_WAYS
def test_a_user_without_permission_fails_the_clear_even_where_the_alias_ignores_exceptions(
    settings: Any, store: StoreServer, dedicated: bool
) -> None:
    use_store(settings, store.url, dedicated=dedicated)
    fill("search", range(10))
    raw().acl_setuser("reader", enabled=True, passwords=[f"+{PASSWORD}"], categories=["+@all"])
    raw().execute_command("ACL", "SETUSER", "reader", "~*", "-@write")
    url = as_user(store.url, "reader")
    use_store(settings, url, dedicated=dedicated, options={"IGNORE_EXCEPTIONS": True})
    with pytest.raises(StoreUnavailable, match="lacks a permission") as caught:
        hard.clear()
    assert_no_secret(caught.value)
    assert len(keys_in()) == 10
    with pytest.raises(StoreUnavailable, match="lacks a permission"):
        hard.preview()


@BOTH_WAYS
def test_a_user_without_dangerous_commands_clears_key_by_key(
    settings: Any, store: StoreServer, dedicated: bool
) -> None:
    use_store(settings, store.url, dedicated=dedicated)
    fill("search", range(300))
    raw().set("foreign", "x")
    raw().execute_command(
        "ACL", "SETUSER", "app", "on", f">{PASSWORD}", "~*", "+@all", "-@dangerous", "-randomkey"
    )
    use_store(settings, as_user(store.url, "app"), dedicated=dedicated)
    before = record()
    assert hard.preview().way == "unlink"
    outcome = hard.clear()
    assert (outcome.way, outcome.keys) == ("unlink", 300)
    if dedicated:
        assert outcome.not_flushed == "the store's user may not flush the database"
    assert record() not in (None, before)
    use_store(settings, store.url, dedicated=dedicated)
    assert keys_in() == {b"foreign"}


def test_a_store_whose_flush_is_renamed_is_cleared_key_by_key(
    settings: Any, tmp_path: Path
) -> None:
    (tmp_path / "renamed.conf").write_text("rename-command FLUSHDB hidden\n")
    with StoreServer(port=free_port(), include=str(tmp_path / "renamed.conf")) as store:
        use_store(settings, store.url, dedicated=True)
        fill("search", range(30))
        assert hard.preview().way == "unlink"
        outcome = hard.clear()
        assert (outcome.way, outcome.keys) == ("unlink", 30)
        assert keys_in() == set()


def test_a_preview_without_randomkey_counts(settings: Any, store: StoreServer) -> None:
    use_store(settings, store.url, dedicated=False)
    raw().eval("for i = 1, 12000 do redis.call('SET', ARGV[1] .. i, 'v') end", 0, "search:1:")
    raw().execute_command(
        "ACL", "SETUSER", "app", "on", f">{PASSWORD}", "~*", "+@all", "-randomkey"
    )
    use_store(settings, as_user(store.url, "app"), dedicated=False)
    preview = hard.preview()
    assert (preview.keys, preview.exact) == (12000, True)


@BOTH_WAYS
@pytest.mark.parametrize("drawn", [True, False], ids=["record", "no record"])
def test_a_store_out_of_memory_fails_the_clear_and_keeps_its_keys(
    settings: Any, store: StoreServer, dedicated: bool, drawn: bool
) -> None:
    use_store(settings, store.url, dedicated=dedicated)
    fill("search", range(10))
    if drawn:
        raw().set(record_key("search"), new_record().encode())
    before = record()
    raw().config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailable, match=r"^the store is out of memory$"):
        hard.clear()
    assert len(keys_in()) == 10
    assert record() == before


@BOTH_WAYS
def test_a_read_only_replica_fails_the_clear(
    settings: Any, store: StoreServer, dedicated: bool
) -> None:
    use_store(settings, store.url, dedicated=dedicated)
    fill("search", range(10))
    raw().set(record_key("search"), new_record().encode())
    raw().config_set("replica-serve-stale-data", "yes")
    raw().execute_command("REPLICAOF", "127.0.0.1", free_port())
    with pytest.raises(StoreUnavailable, match=r"^the store is a read-only replica$"):
        hard.clear()
    assert len(keys_in()) == 10


class TestLostReplies:
    @pytest.fixture(autouse=True)
    def _filled(self, settings: Any, store: StoreServer) -> None:
        use_store(settings, store.url, dedicated=True)
        fill("search", range(10))

    def test_a_flush_slower_than_the_time_out_is_done_when_the_data_is_gone(
        self, settings: Any, store: StoreServer
    ) -> None:
        with Proxy(store.socket_path, fault=Fault(word=b"EXEC")) as proxy:
            use_store(settings, proxy.url, dedicated=True)
            outcome = hard.clear()
            assert (outcome.keys, outcome.way) == (10, "flush")
            assert keys_in() == set()
            assert record() is not None

    def test_a_flush_that_never_arrived_is_unknown_not_done(
        self, settings: Any, store: StoreServer
    ) -> None:
        with Proxy(store.socket_path, fault=Fault(word=b"EXEC", deliver=False)) as proxy:
            use_store(settings, proxy.url, dedicated=True)
            with pytest.raises(OutcomeUnknown, match="did not answer during"):
                hard.clear()
            assert len(keys_in()) == 10

    def test_a_store_that_stays_silent_is_unknown_within_two_seconds(
        self, settings: Any, store: StoreServer
    ) -> None:
        silent = Fault(word=b"EXEC", deaf_afterwards=True)
        with Proxy(store.socket_path, fault=silent) as proxy:
            use_store(settings, proxy.url, dedicated=True)
            watch = Stopwatch()
            with pytest.raises(OutcomeUnknown):
                hard.clear()
            assert watch.seconds < 2
        use_store(settings, store.url, dedicated=True)
        assert keys_in() == set()

    def test_a_sweep_goes_on_when_its_epoch_arrived_and_the_reply_did_not(
        self, settings: Any, store: StoreServer
    ) -> None:
        raw().set(record_key("search"), new_record().encode())
        with Proxy(store.socket_path, fault=Fault(word=b"SET\r\n")) as proxy:
            use_store(settings, proxy.url, dedicated=False)
            outcome = hard.clear()
            assert (outcome.keys, outcome.way) == (10, "unlink")
            assert keys_in() == set()

    def test_a_sweep_whose_epoch_is_unknown_removes_nothing(
        self, settings: Any, store: StoreServer
    ) -> None:
        raw().set(record_key("search"), new_record().encode())
        with Proxy(store.socket_path, fault=Fault(word=b"SET\r\n", deliver=False)) as proxy:
            use_store(settings, proxy.url, dedicated=False)
            with pytest.raises(OutcomeUnknown):
                hard.clear()
            assert len(keys_in()) == 10


@BOTH_WAYS
def test_a_store_that_says_yes_but_keeps_the_old_epoch_fails_the_clear(
    settings: Any, store: StoreServer, dedicated: bool
) -> None:
    use_store(settings, store.url, dedicated=dedicated)
    old = replace(new_record(server="x" * 33), moved_at=1e9)  # as long as the one that is sent
    raw().set(record_key("search"), old.encode())

    def keep_old(sent: bytes) -> bytes:
        return re.sub(rb'{"accepted":.*?}}', old.encode(), sent)

    with Proxy(store.socket_path, rewrite=keep_old) as proxy:
        use_store(settings, proxy.url, dedicated=dedicated)
        with pytest.raises(StoreUnavailable, match="did not keep the new epoch"):
            hard.clear()


def test_a_removal_that_is_cut_off_leaves_the_clear_done_and_says_how_far_it_came(
    settings: Any, store: StoreServer
) -> None:
    use_store(settings, store.url, dedicated=False)
    fill("search", range(5000))
    before = ensure_record(raw(), record_key("search"))
    gone = 0

    def cut_off(removed: int) -> None:
        nonlocal gone
        gone = removed
        store.freeze()

    try:
        outcome = hard.clear(on_progress=cut_off)
    finally:
        store.thaw()
    assert (outcome.keys, outcome.finished) == (gone, False)
    assert outcome.stopped == "the store did not answer in time"
    assert 0 < gone < 5000
    assert abs((outcome.keys_before or 0) - 5000) < 2500
    after = record()
    assert after is not None
    assert after.replaces(before)
    again = hard.clear()
    assert (again.keys <= 5000 - gone, again.finished) == (True, True)
    assert keys_in() == set()


def test_a_removal_ends_when_its_time_is_over_and_the_next_clear_goes_on(
    settings: Any, store: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_store(settings, store.url, dedicated=False)
    fill("search", range(3000))
    with monkeypatch.context() as patch:
        patch.setattr(hard, "REMOVAL_SECONDS", 0.0)
        outcome = hard.clear()
    assert (outcome.finished, outcome.stopped) == (False, "its time was over")
    assert 0 < outcome.keys < 3000
    assert hard.clear().keys == 3000 - outcome.keys
    assert keys_in() == set()


def test_ctrl_c_ends_the_removal_and_not_the_clear(settings: Any, store: StoreServer) -> None:
    use_store(settings, store.url, dedicated=False)
    fill("search", range(3000))

    def interrupt(removed: int) -> None:
        raise KeyboardInterrupt

    outcome = hard.clear(on_progress=interrupt)
    assert (outcome.finished, outcome.stopped) == (False, "the removal was interrupted")
