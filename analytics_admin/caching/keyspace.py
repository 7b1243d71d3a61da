"""Which keys are a cache alias' own: told by their whole shape, never by a bare prefix.

Knows nothing of Redis, and nothing of what is done with the keys.
"""

import json
import re
from dataclasses import dataclass

from django.core.cache import BaseCache, InvalidCacheBackendError, caches
from django.core.cache.backends.locmem import LocMemCache

from analytics_admin.caching.entries import record_key
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.client import StoreUnavailable, shares_database

_GLOB = re.compile(r"([\\*?\[\]])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyspace:
    """The keys of one alias among everything else in its database."""

    pattern: bytes
    """Glob for SCAN that lets through every key of the alias, and some others."""
    shape: re.Pattern[bytes]
    record: bytes
    """The token record, which a clear replaces rather than removes."""
    entries: bytes
    """Glob for SCAN that lets through every value that the search cache itself has stored."""
    kinds: re.Pattern[bytes]

    def kind_of(self, key: bytes) -> str:
        """Return "value", "lease" or "tag" for a key of the search cache's own, else nothing."""
        match = self.kinds.match(key)
        return match[1].decode() if match else ""

    def tag_of(self, key: bytes) -> str | None:
        """Return the tag whose token the key is; None for other keys, and for a hashed name."""
        if self.kind_of(key) != "tag":
            return None
        _, _, name = key.partition(b"tag:k:")
        try:
            tag = json.loads(name)
        except ValueError:
            return None
        return tag if isinstance(tag, str) else None

    def owns(self, key: bytes) -> bool:
        """Say whether the key is a value of the alias, under any VERSION."""
        return self.shape.match(key) is not None and key != self.record


def keyspace(alias: str) -> Keyspace:
    """Return the keyspace of the alias.

    ``prefix:version:key`` can be read in two ways when another alias in the same database has the
    prefix ``prefix:1``: such a key is the other's, the longest prefix wins.

    Raises:
        StoreUnavailable: the keys can't be told from another alias' or from anything else.
    """
    cache = caches[alias]
    _refuse_other_shapes(cache)
    others = _neighbours(alias)
    shape = _shape(cache, [caches[other] for other in others], spared=_spared(alias))
    if not isinstance(cache, LocMemCache):
        _refuse_same_shape(shape, others)
    return Keyspace(
        pattern=_glob(cache.key_prefix) + b":*",
        shape=shape,
        record=record_key(alias).encode(),
        entries=_glob(cache.make_key("value:")) + b"[kh]:*",
        kinds=_kinds(cache),
    )


def _glob(text: str) -> bytes:
    return _GLOB.sub(r"\\\1", text).encode()


def _kinds(cache: BaseCache) -> re.Pattern[bytes]:
    """Return the expression for what ``wiring`` and ``keys`` call the cache's own keys."""
    start = re.escape(cache.make_key(""))
    name = r"(?:k:[\x21-\x7e]{1,120}|h:[0-9a-f]{64})"
    return re.compile(rf"{start}(value|lease|tag):{name}\Z".encode())


def _shape(cache: BaseCache, others: list[BaseCache], *, spared: list[str]) -> re.Pattern[bytes]:
    longer = [_head(other) for other in others if len(other.key_prefix) > len(cache.key_prefix)]
    own = _head(cache)
    not_ours = [*longer, *(own + re.escape(start) for start in spared)]
    return re.compile("".join([*(f"(?!{head})" for head in not_ours), own]).encode())


def _head(cache: BaseCache) -> str:
    """Return the expression for ``prefix:version:`` with any whole number as the version."""
    return rf"{re.escape(cache.key_prefix)}:(?:-?[0-9]+|{re.escape(str(cache.version))}):"


def _spared(alias: str) -> list[str]:
    """Return how keys start that others keep under this very alias: REST framework's throttles."""
    return ["throttle_"] if alias == "default" else []


def _neighbours(alias: str) -> list[str]:
    """Return the other aliases whose keys lie beside this one's."""
    cache = caches[alias]
    if isinstance(cache, LocMemCache):
        return [other for other in caches if other != alias and _same_memory(cache, other)]
    return shares_database(alias)


def _same_memory(cache: BaseCache, other: str) -> bool:
    """Say whether both are names for one dict, which Django's published types don't mention."""
    try:
        neighbour = caches[other]
    except InvalidCacheBackendError:
        return False
    return getattr(neighbour, "_cache", None) is getattr(cache, "_cache", cache)


def _refuse_other_shapes(cache: BaseCache) -> None:
    for version in (1, 2, cache.version):
        start = f"{cache.key_prefix}:{version}:"
        if not str(cache.make_key("probe", version=version)).startswith(start):
            words = _(
                "the search cache's KEY_FUNCTION does not keep the form prefix:version:key, "
                "so its keys cannot be told from others"
            )
            raise StoreUnavailable(Message(words))


def _refuse_same_shape(shape: re.Pattern[bytes], others: list[str]) -> None:
    for other in others:
        if shape.match(str(caches[other].make_key("probe")).encode()):
            words = _(
                "the cache alias '%(alias)s' has the same key prefix in the same database, "
                "so its keys would be removed too"
            )
            raise StoreUnavailable(Message(words, alias=other))
