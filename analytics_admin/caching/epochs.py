"""The epoch record: which stored values count.

Every value carries the epoch under which it was stored, and counts while the record accepts that
epoch. A new epoch therefore empties the cache at once, also for computations under way. Epochs are
random, never counters: a store that lost its data cannot come to accept old values again.
"""

import json
import math
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeGuard

from django.core.cache import caches

from analytics_admin.caching.stores.base import MAX_RECORD_BYTES
from analytics_admin.stores.client import read_string
from analytics_admin.stores.json_text import parse

LAYOUT = 2
"""Number of the layout of keys. Keys of another layout are not read."""
RECORD_NAME = f"analytics_admin:epochs:{LAYOUT}"
MAX_ACCEPTED = 32
"""Soft clears that are undone again and again would make the record grow. Values under an
epoch that is dropped are missing, never wrong."""
MAX_RECEIPTS = 16
"""Clears that the record names while its server is new."""
MAX_EARLIER = 4
"""Clears before these that it names: clears at the same time may be done in any order."""
WATCH_SECONDS = 90.0
"""For how long a server is new: until then the one before it may take clears that it then loses."""
_EPOCH = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NAMES = ("era", "server", "born", "receipt")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """The epochs that the cache's values may carry."""

    accepted: frozenset[str]
    """A value under one of these is a hit."""
    servable_until: Mapping[str, float] = field(default_factory=dict)
    """A value under one of these may be served as stale until then (Unix time of the store)."""
    suspended: frozenset[str] = frozenset()
    """Accepted again if the store, on another server now, turns out to hold the last clear."""
    era: str = ""
    """With this the epochs of tags begin; it changes with each hard clear, and with it all tags."""
    server: str = ""
    """The server on which the record was last found to be right; "" if that cannot be told."""
    born: str = ""
    """The server on which all these epochs were drawn; "" if they are not of one server."""
    receipt: str = ""
    """Identifies the last clear of an operator: while the server is new, the last one before."""
    receipts: tuple[str, ...] = ()
    """Identify the clears since, while the server is new; oldest first."""
    earlier: tuple[str, ...] = ()
    """Identify the clears that were done just before the one of ``receipt``; oldest first."""
    moved_at: float = 0.0
    """When it was first seen on this server instead of another (Unix time of that process)."""

    def encode(self) -> bytes:
        names = {name: getattr(self, name) for name in _NAMES if getattr(self, name)}
        suspended = {"suspended": sorted(self.suspended)} if self.suspended else {}
        moved = {"moved_at": round(self.moved_at)} if self.moved_at else {}
        record = {
            "accepted": sorted(self.accepted),
            **suspended,
            **names,
            **moved,
            **({"receipts": list(self.receipts)} if self.receipts else {}),
            **({"earlier": list(self.earlier)} if self.earlier else {}),
            "servable_until": dict(self.servable_until),
        }
        return json.dumps(record, separators=(",", ":")).encode()

    def replaces(self, earlier: "EpochRecord") -> bool:
        """Say whether no value that counted under the earlier record counts under this one."""
        return self.accepted.isdisjoint(earlier.accepted)

    @property
    def current(self) -> str:
        """The epoch that new values carry."""
        return min(self.accepted)

    @property
    def watched_until(self) -> float:
        """Until when its clears are compared with those on record; 0: they are not."""
        return self.moved_at + WATCH_SECONDS if self.moved_at else 0.0

    def on_server(self, server: str) -> "EpochRecord":
        """Return the record as found right on this server, which is new if it names another."""
        if not server or server == self.server:
            return self
        moved_at = time.time() if self.server else self.moved_at
        return replace(self, server=server, moved_at=moved_at)

    def with_receipts(self, *receipts: str, server: str = "") -> "EpochRecord":
        """Return the record after these clears, which were done on this server."""
        given = tuple(receipt for receipt in receipts if receipt)
        has_moved = bool(server and self.server and server != self.server)
        if not has_moved and not abs(time.time() - self.moved_at) < WATCH_SECONDS:
            before = (*self.earlier, self.receipt, *self.receipts, *receipts[:-1])
            earlier = tuple(receipt for receipt in before if receipt)[-MAX_EARLIER:]
            return replace(self, receipt=receipts[-1], receipts=(), earlier=earlier, moved_at=0.0)
        names = (self.receipt, *self.receipts, *given)[-MAX_RECEIPTS - 1 :]
        return replace(self, receipt=names[0], receipts=names[1:])

    def emptied(self, *, server: str = "") -> "EpochRecord":
        """Return the record under which no earlier value counts; what it knows of clears stays."""
        return replace(
            new_record(server=server),
            receipt=self.receipt,
            receipts=self.receipts,
            earlier=self.earlier,
            moved_at=self.on_server(server).moved_at,
        )

    def soft_cleared(self, *, now: float, bound: float) -> "EpochRecord":
        """Return the record after a soft clear at ``now`` (the store's Unix time).

        Values that were accepted may be served as stale for ``bound`` more seconds.
        """
        until = now + bound
        # Earlier soft clears must end before this one: undo takes back the last one only.
        before = math.nextafter(until, 0)
        earlier = {
            epoch: min(end, before) for epoch, end in self.servable_until.items() if end > now
        }
        cleared = dict.fromkeys(self.accepted, until)
        return replace(
            self,
            accepted=new_record().accepted,
            servable_until={**earlier, **cleared},
            suspended=frozenset(),
        )

    def undone(self, *, now: float) -> "EpochRecord | None":
        """Return the record with the last soft clear taken back; None if there is none.

        Values stored since stay accepted. Earlier soft clears stay.
        """
        servable = {epoch: end for epoch, end in self.servable_until.items() if end > now}
        if not servable:
            return None
        last = max(servable.values())
        restored = {epoch for epoch, end in servable.items() if end == last}
        rest = {epoch: end for epoch, end in servable.items() if epoch not in restored}
        since = self.accepted - restored
        kept = [*sorted(restored)[: MAX_ACCEPTED - 1], *sorted(since)][:MAX_ACCEPTED]
        return replace(self, accepted=frozenset(kept), servable_until=rest)


def new_epoch(era: str = "") -> str:
    """Return a random epoch for values that carry one tag."""
    return era + secrets.token_urlsafe(9)[len(era) :]


def new_record(*, server: str = "") -> EpochRecord:
    """Return a record that accepts one new epoch, drawn on this server."""
    return EpochRecord(
        accepted=frozenset({secrets.token_urlsafe(12)}),
        era=secrets.token_urlsafe(3),
        server=server,
        born=server,
    )


def record_key(alias: str) -> str:
    """Return the full key of the record: one for each KEY_PREFIX and VERSION of the alias."""
    return caches[alias].make_key(RECORD_NAME)


@lru_cache(maxsize=16)  # decoded with every value; it changes only with a clear
def decode_record(raw: bytes | None) -> EpochRecord | None:
    """Return the record, or None for a missing or damaged one."""
    if raw is None or len(raw) > MAX_RECORD_BYTES:
        return None
    try:
        record = parse(raw)
    except (ValueError, RecursionError):  # includes bytes that are not UTF-8
        return None
    if not isinstance(record, dict):
        return None
    accepted, servable = record.get("accepted"), record.get("servable_until")
    suspended, receipts = record.get("suspended"), record.get("receipts")
    earlier = record.get("earlier")
    if not _is_epoch_list(accepted) or not _is_epoch_times(servable):
        return None
    return EpochRecord(
        accepted=frozenset(accepted),
        servable_until=servable,
        suspended=frozenset(suspended) if _is_epoch_list(suspended) else frozenset(),
        receipts=tuple(receipts)[:MAX_RECEIPTS] if _is_epoch_list(receipts) else (),
        earlier=tuple(earlier)[:MAX_EARLIER] if _is_epoch_list(earlier) else (),
        moved_at=moved_at if _is_time(moved_at := record.get("moved_at")) else 0.0,
        **{name: text for name in _NAMES if isinstance(text := record.get(name), str)},
    )


def read_record(client: Any, key: str) -> EpochRecord | None:
    """Return the record in the store, or None for a missing or damaged one."""
    return decode_record(read_string(client, key))


def ensure_record(client: Any, key: str, *, server: str = "") -> EpochRecord:
    """Return the record in the store; a missing or damaged one is replaced by a new one first.

    ``server`` is the identity of the server that the client has reached.

    Callers that do this at the same time all get the record that stays.
    """
    if (record := read_record(client, key)) is not None:
        return record
    created = new_record(server=server)
    client.set(key, created.encode(), nx=True)
    if (record := read_record(client, key)) is not None:
        return record
    # NX kept a damaged record. Of two callers that replace it at once, the earlier may return an
    # epoch that is not accepted: its values are then absent, never wrong.
    replace_record(client, key, created)
    return created


def replace_record(client: Any, key: str, record: EpochRecord) -> None:
    """Set the record, whatever is stored there; ``client`` may be a pipeline."""
    client.set(key, record.encode())


def _is_epoch_list(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(map(_is_epoch, value))


def _is_epoch_times(value: object) -> TypeGuard[dict[str, float]]:
    return isinstance(value, dict) and all(
        _is_epoch(epoch) and _is_number(until) for epoch, until in value.items()
    )


def _is_time(value: object) -> TypeGuard[float]:
    return _is_number(value) and math.isfinite(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_epoch(value: object) -> bool:
    """Say whether it can stand in a head, where spaces and commas separate."""
    return isinstance(value, str) and _EPOCH.fullmatch(value) is not None
