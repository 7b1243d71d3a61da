"""A flush takes a database that is proven to be the search cache's; else keys go one by one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from analytics_admin.caching.clear import hard, ownership
from analytics_admin.caching.keyspace import keyspace
from analytics_admin.stores.client import StoreUnavailable
from tests.support.cache_aliases import fill, keys_in, raw, redis_alias, use_caches
from tests.support.servers import StoreServer, free_port

ACL = ("on", ">pw", "+@all", "-@dangerous")


@pytest.fixture
def store() -> Iterator[StoreServer]:
    with StoreServer(port=free_port()) as server:
        yield server


def use(settings: Any, store: StoreServer, *, db: int = 0, **aliases: Any) -> None:
    search = redis_alias("search", url=store.url, db=db)
    use_caches(settings, dedicated=True, **{"search": search, **aliases})


SETTINGS: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "celery": lambda port, db: {"CELERY_BROKER_URL": f"redis://localhost:{port}/{db}"},
    "results": lambda port, db: {"CELERY_RESULT_BACKEND": f"redis://u:p@127.0.0.1:{port}/{db}"},
    "old celery": lambda port, db: {
        "BROKER_URL": f"redis://a:1/0;redis://127.0.0.1:{port}?db={db}"
    },
    "namespace": lambda port, db: {"CELERY": {"broker_url": f"redis://127.0.0.1:{port}/{db}"}},
    "channels": lambda port, db: {
        "CHANNEL_LAYERS": {
            "default": {"CONFIG": {"hosts": [{"address": ("localhost", port), "db": db}]}}
        }
    },
    "channels by url": lambda port, db: {
        "CHANNEL_LAYERS": {"default": {"CONFIG": {"hosts": [f"redis://127.0.0.1:{port}/{db}"]}}}
    },
    "rq": lambda port, db: {
        "RQ_QUEUES": {"default": {"HOST": "127.0.0.1", "PORT": port, "DB": db}}
    },
    "huey": lambda port, db: {
        "HUEY": {"name": "x", "connection": {"host": "localhost", "port": port, "db": db}}
    },
    "sessions": lambda port, db: {"SESSION_REDIS": {"host": "localhost", "port": port, "db": db}},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_database_that_a_queues_setting_names_is_not_flushed(
    settings: Any, store: StoreServer, name: str
) -> None:
    for db, way in ((0, "unlink"), (1, "flush")):
        use(settings, store, db=db)
        for setting, value in SETTINGS[name](store.port, 0).items():
            setattr(settings, setting, value)
        fill("search", range(10))
        raw().set("other", "x")
        preview, outcome = hard.preview(), hard.clear()
        assert (preview.way, outcome.way) == (way, way)
        assert keys_in() == ({b"other"} if way == "unlink" else set())
        if way == "unlink":
            (setting,) = SETTINGS[name](0, 0)
            assert outcome.not_flushed == f"the setting {setting} names the same database"


def test_a_queue_of_the_search_caches_own_alias_is_seen(settings: Any, store: StoreServer) -> None:
    use(settings, store)
    settings.RQ_QUEUES = {"default": {"USE_REDIS_CACHE": "search"}}
    assert hard.clear().way == "unlink"


def test_channels_without_a_database_use_the_first(settings: Any, store: StoreServer) -> None:
    use(settings, store)
    settings.CHANNEL_LAYERS = {"default": {"CONFIG": {"hosts": [("127.0.0.1", store.port)]}}}
    assert hard.clear().way == "unlink"


def test_a_setting_of_the_environment_counts(
    settings: Any, store: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(settings, store)
    monkeypatch.setenv("CELERY_BROKER_URL", store.url)
    assert hard.clear().way == "unlink"


@pytest.mark.parametrize("limited", [False, True])
def test_a_setting_that_leads_there_by_another_address_is_found_by_a_probe(
    settings: Any, store: StoreServer, limited: bool
) -> None:
    use(settings, store)
    if limited:
        store.ask("ACL", "SETUSER", "celery", *ACL, "~celery*")
    user = "celery:pw@" if limited else ""
    settings.CELERY_BROKER_URL = f"redis+socket://{user}{store.socket_path}?virtual_host=0"
    assert hard.clear().way == "unlink"


def test_a_setting_that_leads_nowhere_hinders_no_flush(settings: Any, store: StoreServer) -> None:
    use(settings, store)
    settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{free_port()}/0"
    settings.TASK_URL = "redis://[broken"
    assert hard.clear().way == "flush"


HELD: dict[str, tuple[str, ...]] = {
    "list": ("RPUSH", "reports", "task"),
    "set": ("SADD", "_kombu.binding.reports", "x"),
    "hash": ("HSET", "job", "a", "1"),
    "sorted set": ("ZADD", "delayed", "1", "x"),
    "stream": ("XADD", "events", "*", "a", "1"),
    "of a queue": ("SET", "unacked_index", "x"),
}


@pytest.mark.parametrize("command", HELD.values(), ids=HELD)
@pytest.mark.parametrize("size", [10, 3 * ownership.WALK_COUNT])
def test_a_database_that_holds_what_no_cache_stores_is_not_flushed(
    settings: Any, store: StoreServer, command: tuple[str, ...], size: int
) -> None:
    use(settings, store)
    script = "for i = 1, ARGV[1] do redis.call('SET', 'search:1:' .. i, 'v') end"
    store.ask("EVAL", script, "0", str(size))
    store.ask(*command)
    preview, outcome = hard.preview(), hard.clear()
    assert (preview.way, outcome.way, outcome.keys) == ("unlink", "unlink", size)
    assert outcome.not_flushed == (
        f"the database holds '{command[1]}', which is no value of a cache"
    )
    assert keys_in() == {command[1].encode()}


def test_of_a_huge_database_a_sample_is_examined(
    settings: Any, store: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(settings, store)
    monkeypatch.setattr(ownership, "MAX_WALKED_KEYS", 5)
    fill("search", range(10))
    assert hard.clear().way == "flush"
    fill("search", range(10))
    store.ask("RPUSH", "reports", "task")
    assert hard.clear().way == "unlink"


@pytest.mark.parametrize("theirs", ["~*", "~sess:*"])
@pytest.mark.parametrize("ours", ["~*", "~search:*"])
def test_another_alias_by_another_address_is_found_whatever_the_users_may_touch(
    settings: Any, store: StoreServer, ours: str, theirs: str
) -> None:
    store.ask("ACL", "SETUSER", "ours", *ACL, ours)
    store.ask("ACL", "SETUSER", "theirs", *ACL, theirs)
    search = redis_alias("search", url=store.url.replace("://", "://ours:pw@"), db=0)
    by_socket = f"unix://theirs:pw@{store.socket_path}"
    use(settings, store, search=search, sessions=redis_alias("sess", url=by_socket, db=0))
    fill("search", range(10))
    fill("sessions", ["abc"])
    if "search" in ours and "sess" in theirs:  # neither may look at the other's
        assert hard.preview().way == "unlink"
        assert hard.clear().way == "unlink"
        assert store.ask("KEYS", "search:1:[0-9]") == []
    else:
        for ask in (hard.clear, hard.preview):
            with pytest.raises(StoreUnavailable, match="alias 'sessions' shares the database"):
                ask()
    assert store.ask("EXISTS", "sess:1:abc") == 1
    assert store.ask("KEYS", "*probe*") == []


@pytest.mark.parametrize("dedicated", [True, False])
def test_the_sites_own_cache_is_never_flushed_and_keeps_its_throttles(
    settings: Any, dedicated: bool
) -> None:
    use_caches(settings, default=redis_alias("site"))
    settings.ANALYTICS_ADMIN = {
        "SEARCH_CACHE": "default",
        "SEARCH_CACHE_DEDICATED": dedicated,
    }
    throttles = ["throttle_user_1", "analytics_admin.throttle.login.ab.60"]
    fill("default", ["query", *throttles])
    assert hard.preview().way == "unlink"
    outcome = hard.clear()
    assert (outcome.way, outcome.keys) == ("unlink", 1)
    kept = {key for key in raw("default").keys("*") if not keyspace("default").is_own(key)}
    assert kept == {f"site:1:{name}".encode() for name in throttles}


def test_a_key_that_a_scan_returns_twice_counts_once(
    settings: Any, store: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(settings, store)
    fill("search", range(10))
    pages = ownership._pages
    monkeypatch.setattr(
        ownership, "_pages", lambda client, size: [*pages(client, size), *pages(client, size)]
    )
    assert hard.preview().keys == 10
