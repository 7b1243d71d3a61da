"""A survey of the search cache's database: its keys, their memory, its tags, and other keys.

A small database is scanned, a large one sampled: a few round trips, whatever its size. A survey
changes nothing, and leaves the client's errors to the caller.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from redis.exceptions import NoPermissionError

from analytics_admin.caching.epochs import record_key
from analytics_admin.caching.keyspace import SCAN_COUNT, Keyspace, keyspace
from analytics_admin.stores.client import StoreUnavailable

MAX_SCANNED_KEYS = 10_000
"""Databases up to this size are scanned; larger ones are sampled."""
SAMPLE_KEYS = 4000
"""RANDOMKEYs for an estimate: about 30 ms, and within 4 % if half of the keys are the cache's."""
DEDICATED_SAMPLE_KEYS = 1000
"""Enough where the number of keys is known, and the sample only shows other keys."""
SIZE_SAMPLE_KEYS = 200
"""Keys whose size is measured."""
MAX_PREFIXES = 10
MAX_TAGS = 100
_KEYS_PER_STEP = 500
_MAX_PREFIX_CHARS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherKeys:
    """Keys with one prefix in the database that are not the search cache's."""

    prefix: str
    """Up to the first colon; empty for keys without one."""
    keys: int
    """An estimate if the survey is not exact."""
    share: float
    """The share of all keys in the database, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a database holds; None means unknown."""

    keys: int
    exact: bool
    """False: ``keys`` is an estimate."""
    bytes: int | None
    """About the memory that these keys take, from a sample."""
    foreign: tuple[OtherKeys, ...] | None
    """The ten most frequent prefixes."""
    tags: tuple[str, ...] = ()
    """Up to 100 tags in use, by name."""
    all_tags: bool = False
    """False: there may be others, outside the sample or with hashed names."""
    looked_at: int = 0
    """Keys that were examined."""
    size: int | None = None
    """All keys in the database; None: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """The examined keys, and the number of keys that they stand for."""

    keys: Sequence[bytes]
    size: int
    exact: bool


def survey(
    client: Any,
    alias: str,
    *,
    dedicated: bool,
    exact: bool = False,
    known: Sequence[bytes] | None = None,
) -> Survey:
    """Return what the database holds; ``exact`` scans a large one too, a second per million keys.

    ``known`` are all of its keys, for a caller that has them.

    Raises:
        StoreUnavailable: in a shared database, the alias' keys cannot be told from others.
    """
    size = _size(client) if known is None else len(known)
    own = _keyspace(alias, required=not dedicated or size is None)
    if known is None:
        sample = _examine(client, size, dedicated=dedicated, exact=exact)
    else:
        sample = _Sample(keys=known, size=len(known), exact=True)
    cleared = [key for key in sample.keys if own is None or own.owns(key)]
    record = record_key(alias).encode()
    if dedicated and size is not None:
        keys, is_exact = size - _has_record(client, record, sample), True
    else:
        keys, is_exact = _scaled(len(cleared), sample), sample.exact
    foreign = None
    if own is not None:
        others = (key for key in sample.keys if key != record and not own.owns(key))
        foreign = _by_prefix(others, sample)
    tags, all_tags = _tags(sample, own)
    return Survey(
        keys=keys,
        exact=is_exact,
        bytes=_measure(client, cleared, keys),
        foreign=foreign,
        tags=tags,
        all_tags=all_tags,
        looked_at=len(sample.keys),
        size=size,
    )


def resized(earlier: Survey, size: int, *, dedicated: bool) -> Survey:
    """Return an earlier survey adjusted to a database that holds ``size`` keys now."""
    if not earlier.size or size == earlier.size:
        return earlier
    grown = earlier.keys + size - earlier.size
    keys = grown if dedicated else _rounded(earlier.keys * size / earlier.size)
    memory = None
    if earlier.bytes is not None:
        memory = _rounded(earlier.bytes * keys / max(1, earlier.keys))
    return replace(earlier, keys=keys, exact=dedicated, bytes=memory, size=size)


def _size(client: Any) -> int | None:
    try:
        size: int = client.dbsize()
    except NoPermissionError:  # SCAN may be permitted all the same
        return None
    return size


def _keyspace(alias: str, *, required: bool) -> Keyspace | None:
    """A dedicated database can be cleared, and so surveyed, whatever its keys look like."""
    try:
        return keyspace(alias)
    except StoreUnavailable:
        if required:
            raise
        return None


def _examine(client: Any, size: int | None, *, dedicated: bool, exact: bool) -> _Sample:
    if size is not None and size > MAX_SCANNED_KEYS and (dedicated or not exact):
        with suppress(NoPermissionError):
            keys = _random_keys(client, DEDICATED_SAMPLE_KEYS if dedicated else SAMPLE_KEYS)
            return _Sample(keys=keys, size=size, exact=False)
    keys = _scan(client)
    return _Sample(keys=keys, size=len(keys), exact=True)


def _random_keys(client: Any, number: int) -> list[bytes]:
    keys: list[bytes] = []
    for _ in range(number // _KEYS_PER_STEP):
        pipeline = client.pipeline(transaction=False)
        for _ in range(_KEYS_PER_STEP):
            pipeline.randomkey()
        keys += [key for key in pipeline.execute() if key is not None]
    return keys


def _scan(client: Any) -> list[bytes]:
    keys: set[bytes] = set()
    cursor = 0
    while True:
        cursor, page = client.scan(cursor, count=SCAN_COUNT)
        keys.update(page)
        if not cursor:
            return list(keys)


def _has_record(client: Any, record: bytes, sample: _Sample) -> bool:
    return record in sample.keys if sample.exact else bool(client.exists(record))


def _scaled(number: int, sample: _Sample) -> int:
    if sample.exact or not sample.keys:
        return number
    return _rounded(sample.size * number / len(sample.keys))


def _rounded(estimate: float) -> int:
    """Round to a sample's precision, so that the figure does not look exact."""
    return int(float(f"{estimate:.3g}"))


def _tags(sample: _Sample, own: Keyspace | None) -> tuple[tuple[str, ...], bool]:
    """Return the tags in the sample, and whether these are all."""
    if own is None:
        return (), False
    keys = {key for key in sample.keys if own.kind_of(key) == "tag" and not own.is_of_function(key)}
    named = sorted(tag for key in keys if (tag := own.tag_of(key)) is not None)[:MAX_TAGS]
    return tuple(named), sample.exact and len(named) == len(keys)


def _by_prefix(others: Iterable[bytes], sample: _Sample) -> tuple[OtherKeys, ...]:
    numbers = Counter(_prefix(key) for key in others)
    return tuple(
        OtherKeys(prefix=prefix, keys=_scaled(number, sample), share=number / len(sample.keys))
        for prefix, number in numbers.most_common(MAX_PREFIXES)
    )


def _prefix(key: bytes) -> str:
    head, colon, _ = key.partition(b":")
    return (head[:_MAX_PREFIX_CHARS] + colon).decode(errors="backslashreplace") if colon else ""


def _measure(client: Any, cleared: Sequence[bytes], keys: int) -> int | None:
    """Return about how many bytes the keys take, or None if the store does not permit to ask."""
    measured = random.sample(cleared, min(SIZE_SAMPLE_KEYS, len(cleared)))
    if not measured:
        return None if keys else 0
    for command in ("MEMORY USAGE", "STRLEN"):
        pipeline = client.pipeline(transaction=False)
        for key in measured:
            pipeline.execute_command(*command.split(), key)
        sizes = [size for size in pipeline.execute(raise_on_error=False) if isinstance(size, int)]
        if sizes:
            return _rounded(keys * sum(sizes) / len(sizes))
    return None
