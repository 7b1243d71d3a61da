"""What lies in the search cache's database: keys, bytes, and keys that are not the cache's.

A small database is walked, a large one sampled: a few round trips, whatever its size. Takes a
connected client, changes nothing, and leaves the client's errors to the caller.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from redis.exceptions import NoPermissionError

from analytics_admin.caching.clear.scan import SCAN_COUNT
from analytics_admin.caching.entries import record_key
from analytics_admin.caching.keyspace import Keyspace, keyspace
from analytics_admin.stores.client import StoreUnavailable

MAX_SCANNED_KEYS = 10_000
"""Databases up to this size are walked; larger ones are sampled."""
SAMPLE = 4000
"""RANDOMKEYs behind an estimate: about 30 ms, and within 4 % when half of the keys are ours."""
SAMPLE_OF_DEDICATED = 1000
"""Enough where the number is known, and the sample tells of strangers alone."""
SIZE_SAMPLE_KEYS = 200
"""Keys whose size is asked for."""
PREFIXES = 10
TAGS = 100
_STEP = 500
_MAX_PREFIX_CHARS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherKeys:
    """Keys in the database that are not the search cache's, told by how they begin."""

    prefix: str
    """Up to the first colon; empty for keys without one."""
    keys: int
    """About how many, if the survey is not exact."""
    share: float
    """Of all the database's keys, from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found; None is what could not be learnt."""

    keys: int
    exact: bool
    """False: ``keys`` is an estimate."""
    bytes: int | None
    """About the memory that these keys take, from the sizes of some."""
    foreign: tuple[OtherKeys, ...] | None
    """The ten most frequent prefixes."""
    tags: tuple[str, ...] = ()
    """Up to 100 tags whose tokens were met, by name."""
    all_tags: bool = False
    """False: there may be others, which were not met, or whose names are hashed."""
    looked_at: int = 0
    """Keys that were met."""
    size: int | None = None
    """Keys of the whole database, whosever they are; None: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sighting:
    """The keys met, and of how many they stand for ``size``."""

    met: Sequence[bytes]
    size: int
    exact: bool


def survey(client: Any, alias: str, *, dedicated: bool, exact: bool = False) -> Survey:
    """Say what the database holds; ``exact`` walks over a large one too, a second per million.

    Raises:
        StoreUnavailable: the alias' keys can't be told from others, in a shared database.
    """
    size = _size(client)
    ours = _keyspace(alias, needed=not dedicated or size is None)
    sighting = _look(client, size, dedicated=dedicated, exact=exact)
    own = [key for key in sighting.met if ours is None or _is_cleared(key, ours, dedicated)]
    record = record_key(alias).encode()
    if dedicated and size is not None:
        keys, is_exact = size - client.exists(record), True
    else:
        keys, is_exact = _scaled(len(own), sighting), sighting.exact
    foreign = None
    if ours is not None:
        strange = (key for key in sighting.met if key != record and not ours.owns(key))
        foreign = _by_prefix(strange, sighting)
    tags, all_tags = _tags(sighting, ours)
    return Survey(
        keys=keys,
        exact=is_exact,
        bytes=_weigh(client, own, keys),
        foreign=foreign,
        tags=tags,
        all_tags=all_tags,
        looked_at=len(sighting.met),
        size=size,
    )


def resized(found: Survey, size: int, *, dedicated: bool) -> Survey:
    """Return what was found as of a database that has come to hold ``size`` keys since."""
    if not found.size or size == found.size:
        return found
    grown = found.keys + size - found.size
    keys = grown if dedicated else _rounded(found.keys * size / found.size)
    weight = None if found.bytes is None else _rounded(found.bytes * keys / max(1, found.keys))
    return replace(found, keys=keys, exact=dedicated, bytes=weight, size=size)


def _is_cleared(key: bytes, ours: Keyspace, dedicated: bool) -> bool:
    """Say whether a clear removes the key: tags' tokens stay unless all of the database goes."""
    return ours.owns(key) and (dedicated or ours.kind_of(key) != "tag")


def _size(client: Any) -> int | None:
    try:
        size: int = client.dbsize()
    except NoPermissionError:  # SCAN may be allowed where this is not
        return None
    return size


def _keyspace(alias: str, *, needed: bool) -> Keyspace | None:
    """A database of its own can be cleared, and so surveyed, whatever its keys look like."""
    try:
        return keyspace(alias)
    except StoreUnavailable:
        if needed:
            raise
        return None


def _look(client: Any, size: int | None, *, dedicated: bool, exact: bool) -> _Sighting:
    if size is not None and size > MAX_SCANNED_KEYS and (dedicated or not exact):
        with suppress(NoPermissionError):
            met = _sample(client, SAMPLE_OF_DEDICATED if dedicated else SAMPLE)
            return _Sighting(met=met, size=size, exact=False)
    met = _walk(client)
    return _Sighting(met=met, size=len(met), exact=True)


def _sample(client: Any, number: int) -> list[bytes]:
    met: list[bytes] = []
    for _ in range(number // _STEP):
        step = client.pipeline(transaction=False)
        for _ in range(_STEP):
            step.randomkey()
        met += [key for key in step.execute() if key is not None]
    return met


def _walk(client: Any) -> list[bytes]:
    met: set[bytes] = set()
    cursor = 0
    while True:
        cursor, found = client.scan(cursor, count=SCAN_COUNT)
        met.update(found)
        if not cursor:
            return list(met)


def _scaled(number: int, sighting: _Sighting) -> int:
    if sighting.exact or not sighting.met:
        return number
    return _rounded(sighting.size * number / len(sighting.met))


def _rounded(estimate: float) -> int:
    """Round to what a sample can tell, so that the figure does not look exact."""
    return int(float(f"{estimate:.3g}"))


def _tags(sighting: _Sighting, ours: Keyspace | None) -> tuple[tuple[str, ...], bool]:
    """Return the tags met, and whether they are all."""
    if ours is None:
        return (), False
    met = {key for key in sighting.met if ours.kind_of(key) == "tag"}
    named = sorted(tag for key in met if (tag := ours.tag_of(key)) is not None)[:TAGS]
    return tuple(named), sighting.exact and len(named) == len(met)


def _by_prefix(strange: Iterable[bytes], sighting: _Sighting) -> tuple[OtherKeys, ...]:
    found = Counter(_prefix(key) for key in strange)
    return tuple(
        OtherKeys(prefix=prefix, keys=_scaled(number, sighting), share=number / len(sighting.met))
        for prefix, number in found.most_common(PREFIXES)
    )


def _prefix(key: bytes) -> str:
    head, colon, _ = key.partition(b":")
    return (head[:_MAX_PREFIX_CHARS] + colon).decode(errors="backslashreplace") if colon else ""


def _weigh(client: Any, own: Sequence[bytes], keys: int) -> int | None:
    """Return about how many bytes the keys take, or None where sizes may not be asked for."""
    weighed = random.sample(own, min(SIZE_SAMPLE_KEYS, len(own)))
    if not weighed:
        return None if keys else 0
    for measure in ("MEMORY USAGE", "STRLEN"):
        step = client.pipeline(transaction=False)
        for key in weighed:
            step.execute_command(*measure.split(), key)
        sizes = [size for size in step.execute(raise_on_error=False) if isinstance(size, int)]
        if sizes:
            return _rounded(keys * sum(sizes) / len(sizes))
    return None
