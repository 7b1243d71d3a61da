"""Reads and validates environment variables; no message shows a value.

``settings`` is built from what these functions return.
"""

import logging
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured
from redis import ConnectionPool
from redis.exceptions import RedisError

from analytics_admin.stores.cluster import SlotPool
from analytics_admin.stores.sentinel import ServicePool
from project.files import make_private_file, make_private_folder

STORE_SCHEMES = ("redis", "rediss", "unix")
KINDS = {"sentinel": 26379, "cluster": 6379}
"""What may follow the scheme after a plus sign, and the usual port there."""
_SCHEME_ADVICE = (
    "REDIS_URL must begin with redis://, rediss:// or unix://, or with redis+sentinel:// or "
    "redis+cluster:// (rediss+ with TLS)"
)
DATABASE_SCHEMES = ("sqlite", "postgres", "postgresql")
TRUE_WORDS = frozenset(environ.Env.BOOLEAN_TRUE_STRINGS)
FALSE_WORDS = frozenset({"false", "off", "n", "no", "0"})
_URL_ADVICE = "characters such as @ : / ? # in a user name or password must be percent-encoded"
_STORE_ADVICE = f"{_URL_ADVICE}, and the client must know each option after the ?"


def read(name: str) -> str:
    """Return a variable unchanged; an empty one counts as unset.

    For secrets and URLs: django-environ would treat a leading ``$`` as a reference.
    """
    return os.environ.get(name, "")


def flag(name: str, *, default: bool) -> bool:
    """Return a boolean variable; an empty one counts as unset.

    Raises:
        ImproperlyConfigured: the value is not a boolean; a guess could disable a protection.
    """
    word = read(name).strip().lower()
    if word and word not in TRUE_WORDS | FALSE_WORDS:
        raise ImproperlyConfigured(f"{name} takes on or off (also yes, no, true, false, 1, 0)")
    return word in TRUE_WORDS if word else default


def number(name: str, *, default: int) -> int:
    """Return an integer variable; an empty one counts as unset.

    Raises:
        ImproperlyConfigured: the value is not a whole number, or is negative.
    """
    digits = read(name).strip()
    if not re.fullmatch(r"[0-9]{0,9}", digits):
        raise ImproperlyConfigured(f"{name} takes a whole number from 0 to 999999999")
    return int(digits) if digits else default


def is_development() -> bool:
    """Return whether manage.py or pytest runs, without a SECRET_KEY."""
    program = Path(sys.argv[0]).name
    return not read("SECRET_KEY") and (program == "manage.py" or "pytest" in sys.modules)


def is_logged(record: logging.LogRecord) -> bool:
    """Return whether stderr shows the record: a command says itself what it has done."""
    program, command = Path(sys.argv[0]).name, sys.argv[1:2]
    is_command = program == "manage.py" and command not in (["runserver"], ["quickstart"])
    of_audit = record.name == "analytics_admin.audit" and record.levelno <= logging.INFO
    return not (is_command and of_audit)


def stored_secret(path: Path) -> str:
    """Return the secret in the file; the first process creates it with mode 0600.

    Raises:
        ImproperlyConfigured: the file cannot be written or read.
    """
    try:
        make_private_folder(path.parent)
        if not path.exists():
            handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_urlsafe(48))
            # A link is atomic and never replaces the secret of a faster process.
            with suppress(FileExistsError):
                os.link(draft, path)
            os.unlink(draft)
        return path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"cannot keep a secret in {path}: {error.strerror}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAddress:
    """The address of the store. ``location()`` has no credentials and may be shown.

    ``others`` are further Sentinels of the ``service``, or nodes of the cluster.
    """

    base: str
    database: int
    options: Mapping[str, str]
    username: str
    password: str
    is_cluster: bool = False
    service: str = ""
    others: tuple[str, ...] = ()
    sentinel_username: str = ""
    sentinel_password: str = ""

    def location(self, offset: int, *, tag: str = "") -> str:
        """Return the URL of the database ``offset`` numbers above the first.

        In a cluster, which has one database, it is that of the keys with this hash tag.
        """
        place = {"tag": tag} if self.is_cluster else {"db": self.database + offset}
        service = {"service": self.service} if self.service else {}
        return f"{self.base}?{urlencode({**place, **service, **self.options})}"

    def pool(self) -> dict[str, Any]:
        """Return the options of a cache alias that find the server among several."""
        if self.is_cluster:
            name, kwargs = "cluster.SlotPool", {"nodes": list(self.others)}
        elif self.service:
            name, kwargs = "sentinel.ServicePool", {"sentinels": list(self.others)}
        else:
            return {}
        secrets = {
            "sentinel_username": self.sentinel_username,
            "sentinel_password": self.sentinel_password,
        }
        return {
            "CONNECTION_POOL_CLASS": f"analytics_admin.stores.{name}",
            "CONNECTION_POOL_KWARGS": kwargs | {key: it for key, it in secrets.items() if it},
        }


def unix_store(path: Path) -> StoreAddress:
    """Return the address of a store on a Unix socket, without credentials."""
    return store_address(f"unix://{quote(str(path))}")


def store_address(url: str) -> StoreAddress:
    """Parse a REDIS_URL: of one server, of Sentinels, or of a cluster.

    Raises:
        ImproperlyConfigured: the scheme is another one, the URL is malformed, or the client does
            not know one of its options.
    """
    try:
        parts, hosts = _split(url)
        scheme, _, kind = parts.scheme.partition("+")
        if scheme not in STORE_SCHEMES or (kind and (scheme == "unix" or kind not in KINDS)):
            raise ImproperlyConfigured(_SCHEME_ADVICE)
        if scheme == "unix":
            return _unix_address(parts)
        if kind:
            return _several_addresses(parts, hosts, scheme, kind)
        return _network_address(urlsplit(url))
    except ValueError:  # its message may contain part of the password
        raise ImproperlyConfigured(f"REDIS_URL is malformed; {_STORE_ADVICE}") from None


def _split(url: str) -> tuple[SplitResult, list[str]]:
    """Return the parts of the URL as though it had its first host alone, and all its hosts.

    Python has begun to refuse brackets behind a comma: only the first host may be in IPv6's form.
    """
    scheme, separator, rest = url.partition("://")
    netloc, *path = re.split("(?=[/?#])", rest, maxsplit=1)
    credentials, at, hosts = netloc.rpartition("@")
    first, *others = hosts.split(",")
    parts = urlsplit("".join([scheme, separator, credentials, at, first, *path]))
    return parts, [first, *others]


def _network_address(parts: SplitResult) -> StoreAddress:
    number = re.fullmatch(r"/?(\d*)/?", parts.path)
    if not parts.hostname or number is None or parts.fragment:
        raise ValueError
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    base = f"{parts.scheme}://{host}:{parts.port or 6379}"
    return _address(parts, base=base, database=number[1] or "0")


def _several_addresses(
    parts: SplitResult, hosts: list[str], scheme: str, kind: str
) -> StoreAddress:
    """Return the address of a URL with several hosts: Sentinels of a service, or nodes."""
    first, *others = (_host(text, KINDS[kind]) for text in hosts)
    form = r"/(?P<service>[^/]+)(?:/(?P<number>\d+))?/?" if kind == "sentinel" else r"/?(?:0/?)?"
    place = re.fullmatch(form, parts.path)
    if place is None or parts.fragment:
        raise ValueError
    found = {**place.groupdict()}
    return _address(
        parts,
        base=f"{scheme}://{first}",
        database=found.get("number") or "0",
        is_cluster=kind == "cluster",
        service=unquote(found.get("service") or ""),
        others=tuple(others),
    )


def _host(text: str, port: int) -> str:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.path or parts.query:
        raise ValueError
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or port}"


def _unix_address(parts: SplitResult) -> StoreAddress:
    has_host = parts.hostname or parts.port or (parts.netloc and "@" not in parts.netloc)
    if has_host or parts.fragment or not parts.path.strip("/"):
        raise ValueError
    return _address(parts, base=f"unix://{quote(unquote(parts.path))}", database="0")


def _address(parts: SplitResult, *, base: str, database: str, **kind: Any) -> StoreAddress:
    options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    number = int(options.pop("db", database))
    if number < 0 or (number and kind.get("is_cluster")):
        raise ValueError
    username, password = options.pop("username", ""), options.pop("password", "")
    if kind.get("service"):
        for name in ("sentinel_username", "sentinel_password"):
            kind[name] = options.pop(name, "")
    address = StoreAddress(
        base=base,
        database=number,
        options=options,
        username=unquote(parts.username or "") or username,
        password=unquote(parts.password or "") or password,
        **kind,
    )
    _require_known_options(address)
    return address


def _require_known_options(address: StoreAddress) -> None:
    """Raise ValueError for an option that the client does not know, or cannot read."""
    try:
        pool = (
            SlotPool if address.is_cluster else ServicePool if address.service else ConnectionPool
        )
        pool.from_url(address.location(0, tag="any")).make_connection()  # does not connect
    except (TypeError, RedisError):  # their messages may contain the option's value
        raise ValueError from None


def database(url: str, *, default: Path) -> dict[str, Any]:
    """Return the DATABASES entry for a DATABASE_URL, or for SQLite in the default file.

    Raises:
        ImproperlyConfigured: the URL is unusable, or the file's folder cannot be created.
    """
    if not url:
        try:
            make_private_folder(default.parent)
            make_private_file(default)
        except OSError as error:
            place = default if default.parent.is_dir() else default.parent
            message = f"cannot create {place}: {error.strerror}; set DATABASE_URL"
            raise ImproperlyConfigured(message) from None
        return _sqlite({"ENGINE": "django.db.backends.sqlite3", "NAME": str(default)})
    scheme = url.partition("://")[0]
    if scheme not in DATABASE_SCHEMES:
        raise ImproperlyConfigured("DATABASE_URL must begin with sqlite:// or postgres://")
    try:
        parts = urlsplit(url)
        if scheme != "sqlite" and (parts.fragment or "@" in parts.path + parts.query):
            raise ValueError
        config: dict[str, Any] = environ.Env.db_url_config(url)
        config = _sqlite(config) if scheme == "sqlite" else _postgres(config)
    except ValueError:
        raise ImproperlyConfigured(f"DATABASE_URL is malformed; {_URL_ADVICE}") from None
    if scheme == "sqlite" and config["NAME"] != ":memory:":
        _keep_private(Path(config["NAME"]).resolve(), default.parent.resolve())
    return config


def _keep_private(file: Path, folder: Path) -> None:
    """Make a database file of the site's own folder before SQLite does, which lets others read."""
    if file.is_relative_to(folder) and file.parent.is_dir():
        with suppress(OSError):  # whoever opens the file says what is wrong
            make_private_file(file)


def _sqlite(config: dict[str, Any]) -> dict[str, Any]:
    """Allow readers beside one writer; other writers wait up to 5 s."""
    pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
    own = {"transaction_mode": "IMMEDIATE", "init_command": pragmas}
    given = config.get("OPTIONS", {})
    timeout = float(given.get("timeout", 5))  # a URL has it as text
    return config | {"OPTIONS": own | given | {"timeout": timeout}}


def _postgres(config: dict[str, Any]) -> dict[str, Any]:
    kept_open = {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
    return kept_open | config | {"OPTIONS": {"connect_timeout": 5} | config.get("OPTIONS", {})}
