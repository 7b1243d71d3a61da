"""Which keys belong to a cache alias: recognised by their whole form, never by a bare prefix."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from django.core.cache import BaseCache, InvalidCacheBackendError, caches
from django.core.cache.backends.locmem import LocMemCache

from analytics_admin.caching.epochs import LAYOUT, record_key
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.client import StoreUnavailable, aliases_sharing_database

SCAN_COUNT = 400
"""Slots of the key table per SCAN: with the UNLINKs of one page about 0.3 ms of the server."""

_PROBES = ("probe", "value:k:" + '["é",1]' * 17)
"""One name that no KEY_FUNCTION should change, and one that some hash for its length or signs."""
_GLOB = re.compile(r"([\\*?\[\]])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyspace:
    """The keys of one alias among everything else in its database."""

    pattern: bytes
    """Glob for SCAN that matches every key of the alias, and some others."""
    form: re.Pattern[bytes]
    """Matches the keys of the alias, under any VERSION. The group is the kind of the search cache's
    own keys."""
    record: bytes
    """The key of the epoch record, which a clear replaces instead of removing."""
    entries: bytes
    """Glob for SCAN that matches every value that the search cache itself has stored."""

    def kind_of(self, key: bytes) -> str:
        """Return "value", "lease" or "tag" for one of the search cache's own keys, else ""."""
        match = self.form.match(key)
        return (match[1] or b"").decode() if match else ""

    def tag_of(self, key: bytes) -> str | None:
        """Return the tag whose epoch the key holds; None for other keys, and for a hashed name."""
        if self.kind_of(key) != "tag":
            return None
        _, _, name = key.partition(b"tag:k:")
        try:
            tag = json.loads(name)
        except ValueError:
            return None
        return tag if isinstance(tag, str) else None

    def is_of_function(self, key: bytes) -> bool:
        """Say whether the key holds the epoch of a function, whose name is not hashed."""
        return self.kind_of(key) == "tag" and b':tag:k:["function",' in key

    def is_own(self, key: bytes) -> bool:
        """Say whether the key is of the alias: a value, or the epoch record."""
        return key == self.record or self.owns(key)

    def owns(self, key: bytes) -> bool:
        """Say whether the key is a value of the alias, under any VERSION."""
        return self.form.match(key) is not None and key != self.record


def keyspace(alias: str) -> Keyspace:
    """Return the keyspace of the alias.

    ``prefix:version:key`` is ambiguous when another alias in the same database has the prefix
    ``prefix:1``. The longest prefix wins: such a key belongs to the other alias.

    Raises:
        StoreUnavailable: the alias' keys look like another alias' or like anything else.
    """
    cache = caches[alias]
    _require_standard_form(cache)
    others = _neighbours(alias)
    form = _form(cache, [caches[other] for other in others], excluded=_THROTTLES)
    if not isinstance(cache, LocMemCache):
        _require_own_form(form, others)
    return Keyspace(
        pattern=_glob(cache.key_prefix) + b":*",
        form=form,
        record=record_key(alias).encode(),
        entries=_glob(cache.make_key(f"{LAYOUT}:value:")) + b"[kh]:*",
    )


def _glob(text: str) -> bytes:
    return _GLOB.sub(r"\\\1", text).encode()


def _kinds(cache: BaseCache) -> str:
    """Return the expression for the names that ``client`` and ``keys`` give to values."""
    start = re.escape(cache.make_key(""))
    name = r"(?:k:[\x21-\x7e]{1,120}|h:[0-9a-f]{64})"
    return rf"{start}{LAYOUT}:(value|lease|tag):{name}\Z"


def _form(
    cache: BaseCache, others: list[BaseCache], *, excluded: Sequence[str]
) -> re.Pattern[bytes]:
    longer = [_head(other) for other in others if len(other.key_prefix) > len(cache.key_prefix)]
    own = _head(cache)
    foreign = [*longer, *(own + re.escape(start) for start in excluded)]
    not_foreign = "".join(f"(?!{head})" for head in foreign)
    return re.compile(f"{not_foreign}(?:{_kinds(cache)}|{own})".encode())


def _head(cache: BaseCache) -> str:
    """Return the expression for ``prefix:version:`` with any whole number as the version."""
    return rf"{re.escape(cache.key_prefix)}:(?:-?[0-9]+|{re.escape(str(cache.version))}):"


_THROTTLES = ("throttle_", "analytics_admin.throttle.")
"""How throttles' counters begin in any alias: REST framework's, and this app's own."""


def _neighbours(alias: str) -> list[str]:
    """Return the other aliases that share the database or memory of this one."""
    cache = caches[alias]
    if isinstance(cache, LocMemCache):
        return [other for other in caches if other != alias and _same_memory(cache, other)]
    return aliases_sharing_database(alias)


def _same_memory(cache: BaseCache, other: str) -> bool:
    """Say whether both aliases share one dict, which Django's published types lack."""
    try:
        neighbour = caches[other]
    except InvalidCacheBackendError:
        return False
    return getattr(neighbour, "_cache", None) is getattr(cache, "_cache", cache)


def _require_standard_form(cache: BaseCache) -> None:
    for version in (1, 2, cache.version):
        start = f"{cache.key_prefix}:{version}:"
        if any(cache.make_key(name, version=version) != start + name for name in _PROBES):
            words = _(
                "the search cache's KEY_FUNCTION does not keep the form prefix:version:key, "
                "so its keys cannot be told from others"
            )
            raise StoreUnavailable(Message(words))


def _require_own_form(form: re.Pattern[bytes], others: list[str]) -> None:
    for other in others:
        if form.match(str(caches[other].make_key("probe")).encode()):
            words = _(
                "the cache alias '%(alias)s' has the same key prefix in the same database, "
                "so its keys would be removed too"
            )
            raise StoreUnavailable(Message(words, alias=other))
