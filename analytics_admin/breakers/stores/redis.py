"""The breakers' store on the Redis server behind a cache alias, shared by the whole fleet.

Each operation is one round trip per batch; ``redis_scripts`` describes the keys. What one breaker's
keys hold concerns that breaker alone.
"""

import os
import re
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar

from django.core.cache import caches
from redis.connection import SSLConnection
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import (
    InvalidResponse,
    NoScriptError,
    ResponseError,
)
from redis.exceptions import TimeoutError as NoAnswer

from analytics_admin.breakers.history import History, TransitionRecord
from analytics_admin.breakers.policy import Window
from analytics_admin.breakers.presence import Process, Told
from analytics_admin.breakers.state import State
from analytics_admin.breakers.stores import records
from analytics_admin.breakers.stores import redis_scripts as scripts
from analytics_admin.breakers.stores.base import (
    MAX_NAMES,
    NO_RESULTS,
    DamagedList,
    Inspection,
    Move,
    MoveOutcome,
    Reading,
    Report,
    Survey,
)
from analytics_admin.breakers.stores.channel import RedisChannel
from analytics_admin.breakers.stores.totals import BreakerTotals, TotalsReading, decode_totals
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.stores.client import dedicated_client, script_hash, translate_errors
from analytics_admin.stores.connections import Routed, is_elsewhere
from analytics_admin.stores.copies import Copies, await_copies
from analytics_admin.stores.gevent_sockets import use_own_sockets
from analytics_admin.stores.ping import Ping

T = TypeVar("T")

LAYOUT = 2
"""Number of the layout of keys and values. Keys of another layout are not read."""
BATCH = 100
"""Breakers per script call that reads, so that one call takes the server under about 2 ms."""
WRITE_BATCH = 50
"""Breakers per script call that counts or moves."""
MAX_IDLE_SECONDS = 30.0
"""A connection that was idle for longer is renewed: what lies between may have forgotten it."""
KINDS = ("record", "moves", "failures", "periods", "policies", "totals")
"""Kinds of keys of a breaker."""
Name = str | bytes
RESTART_SECONDS = 0.25
"""Time for which a server that restarts may refuse connections before it is lost."""
HEARD, ALONE = 2, 3
"""What became of a question, as ``count_results.lua`` says it."""
MAX_REPAIR_SECONDS = 10.0
"""Time to look for breakers whose list is lost; the others are listed again as they are used."""
_INDEX_DAMAGED = Message(_("the list of all circuit breakers is damaged; reset all to repair it"))
_NOT_CLOSED_DAMAGED = Message(
    _("the list of circuit breakers that are not closed is damaged; reset all to repair it")
)
_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")
Call = tuple[str, Sequence[Name], Sequence[Any]]
"""A script, its keys, its arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """The names in use, and the displayed states of those that are not closed."""

    now: float
    in_use: frozenset[str]
    not_closed: Mapping[str, str]
    sequence: int
    processes: Sequence[Process]


@dataclass(slots=True)
class _Sender:
    """A thread of a process, whose calls the server gets in order."""

    name: str = field(default_factory=lambda: secrets.token_hex(6))
    pid: int = field(default_factory=os.getpid)
    number: int = 0


class RedisStore:
    """The BreakerStore protocol on the server of ``CACHES[alias]``.

    ``sends_again``: a request without an answer is sent once more, on a new connection. What it
    counts and moves is done once.
    """

    def __init__(self, alias: str, *, timeout: float = 0.1, sends_again: bool = True) -> None:
        self._client = dedicated_client(alias, timeout=timeout)
        self._sends_again = sends_again
        if sends_again:  # so does a thread of its own alone
            use_own_sockets(self._client.connection_pool)
        self._senders = threading.local()
        self._used_at = time.monotonic()
        self._ends_at: float | None = None
        self._has_hasty = False
        """Whether connections have the time-outs of a caller who waited."""
        self._peer: tuple[int, Any] | None = None
        self._is_tls = issubclass(self._client.connection_pool.connection_class, SSLConnection)
        self._ping: Ping | None = None
        self.is_shared = self.asks_processes = True
        self.connecting_since: float | None = None
        self._base = str(caches[alias].make_key(f"{{breakers:{LAYOUT}}}"))
        self._index = f"{self._base}:index"
        self._not_closed = f"{self._base}:not_closed"
        self._sequence = f"{self._base}:sequence"
        database = self._client.connection_pool.connection_kwargs.get("db") or 0
        self._channel = f"{self._base}:moves:{database}"
        self._processes = f"{self._base}:processes"
        self._server = f"{self._base}:server"
        self._counted: Sequence[bytes] = ()  # the names of the last reading of totals
        self.answered_in = 0.0
        """Seconds in which the store began to answer the last request."""
        self._few: Sequence[str] = ()  # the names of the last survey that read all breakers
        self._raw_names: Mapping[str, bytes] = {}  # by display name: those that are not valid

    @translate_errors
    def add(self, reports: Sequence[Report]) -> Reading:
        reading = Reading(now=0.0, snapshots={})
        size = WRITE_BATCH if any(report.results != NO_RESULTS for report in reports) else BATCH
        batches = enumerate(_batched(reports, size))
        calls = [_command(*self._adding(batch, place)) for place, batch in batches]
        names = iter(reports)
        for now, sequence, question, slowest, *rows in self._pipe(calls):
            # A change between two batches may be in the second alone.
            first = reading.sequence or records.decode_sequence(sequence)
            reading = replace(
                reading,
                now=float(now),
                sequence=first,
                is_question_heard=reading.is_question_heard or question == HEARD,
                is_alone=reading.is_alone or question == ALONE,
                slowest_answer=slowest / 1000,
            )
            for row, report in zip(rows, names, strict=False):
                reading.snapshots[report.name] = records.decode_snapshot(row)
        return reading

    @translate_errors
    def load_many(self, names: Sequence[str], *, activity_of: Sequence[str] = ()) -> Reading:
        names = _unique(activity_of, names)
        answers = self._pipe(self._loading(names, len(activity_of)))
        return _decode_reading(names, answers)

    @translate_errors
    def read_transitions(self, names: Sequence[str]) -> Reading:
        reading = Reading(now=0.0, snapshots={})
        for name, now, (*row, moves) in self._read_transitions(names):
            reading = replace(reading, now=now)
            reading.snapshots[name] = records.decode_snapshot(row)
            reading.transitions[name] = records.decode_transitions(moves)
        return reading

    @translate_errors
    def compare_and_set(self, moves: Sequence[Move]) -> list[MoveOutcome]:
        batches = enumerate(_batched(moves, WRITE_BATCH))
        calls = [_command(*self._moving(batch, place)) for place, batch in batches]
        return [
            MoveOutcome(
                won=bool(won),
                now=float(now),
                snapshot=records.decode_snapshot(row),
                sequence=records.decode_sequence(sequence),
            )
            for now, sequence, *rows in self._pipe(calls)
            for won, row in rows
        ]

    @translate_errors
    def register(self, names: Sequence[str], *, keep_for: float | None) -> list[str]:
        keys, refused = [self._index, self._not_closed], []
        for batch in _batched(names, BATCH * 5):
            options = ["" if keep_for is None else keep_for, MAX_NAMES]
            beyond, retired = self._run(scripts.REGISTER, keys, [*options, *map(self._raw, batch)])
            refused += [records.decode_name(name) for name in beyond]
            for raw_names in _batched(retired, BATCH):
                kept = [key for name in raw_names for key in self._keys_of(name)]
                self._run(scripts.RETIRE, [self._index, *kept], raw_names)
        return refused

    @translate_errors
    def survey(
        self,
        names: Sequence[str],
        *,
        keep_for: float | None,
        activity_of: Sequence[str] | None = None,
        all_up_to: int = 0,
        with_processes: bool = False,
    ) -> Survey:
        active, asked = activity_of or (), _unique(activity_of or (), names)
        # The names are not known before the answer. Mostly they are those of the last one.
        few = self._few if all_up_to else ()
        guess = _unique(asked, few)
        listed, reading = self._list(
            guess,
            keep_for,
            active=len(guess if few and activity_of is not None else active),
            with_processes=with_processes,
        )
        if len(listed.in_use) <= all_up_to:
            self._few = tuple(listed.in_use)
            asked = _unique(asked, self._few)
            active = asked if activity_of is not None else ()
        elif all_up_to:
            self._few = ()
        if unread := [name for name in asked if name not in reading.snapshots]:
            unread_active = unread if active is asked else ()
            reading = reading.joined(self.load_many(unread, activity_of=unread_active))
        if late := [name for name in active if name not in reading.activity]:
            reading = reading.joined(self.load_many((), activity_of=late))
        return Survey(
            names=listed.in_use,
            not_closed=dict(listed.not_closed),
            reading=Reading(
                now=reading.now,
                snapshots={name: reading.snapshots[name] for name in asked},
                activity={name: reading.activity[name] for name in active},
                sequence=listed.sequence,
            ),
            processes=listed.processes,
        )

    @translate_errors
    def not_closed(self) -> set[str]:
        (names,) = self._pipe([("HKEYS", self._not_closed)], purposes={0: _NOT_CLOSED_DAMAGED})
        return {records.decode_name(name) for name in names}

    @translate_errors
    def inspect(self, name: str, window: Window | None = None) -> Inspection:
        keys: list[Name] = [*self._keys_of(name, KINDS[:-1]), self._index]
        field = records.window_field(window) if window else ""
        ((at, row, seen_at, moves, failures, periods, policies, windows),) = self._pipe(
            [_command(scripts.INSPECT, keys, [self._raw(name), field])],
            purposes={0: _INDEX_DAMAGED},
        )
        now = float(at)
        return Inspection(
            now=now,
            snapshot=records.decode_snapshot(row),
            seen_at=None if seen_at is None else float(seen_at),
            history=History(
                failures=list(records.readable(failures, records.decode_failure)),
                transitions=list(records.readable(moves, records.decode_transition)),
                periods=records.decode_periods(periods, now),
                policies=records.decode_policies(policies),
            ),
            windows=records.decode_windows(windows),
        )

    @translate_errors
    def transitions(self, name: str) -> list[TransitionRecord]:
        ((_name, _now, (*_row, moves)),) = self._read_transitions([name])
        return list(records.readable(moves, records.decode_transition))

    @translate_errors
    def forget(self, name: str, *, generation: str) -> bool:
        keys = [self._index, self._not_closed, self._sequence, *self._keys_of(name)]
        arguments = [self._raw(name), generation, self._channel]
        return bool(self._run(scripts.FORGET, keys, arguments))

    @translate_errors
    def present(self, process: Process) -> Told:
        keys = [self._processes, self._sequence, self._server]
        answer = self._run(scripts.WRITE_PROCESS, keys, records.encode_process(process))
        now, sequence, is_new_server = answer
        return Told(float(now), int(sequence), bool(is_new_server))

    @translate_errors
    def settle_server(self) -> None:
        self._run(scripts.SETTLE_SERVER, [self._server], [])

    @translate_errors
    def processes(self) -> tuple[float, int, list[Process]]:
        ((now, sequence, rows),) = self._pipe([self._listing_processes()])
        return float(now), int(sequence), records.decode_processes(rows, float(now))

    @translate_errors
    def withdraw(self, process_id: str) -> None:
        self._run(scripts.REMOVE_PROCESS, [self._processes], [process_id])

    @translate_errors
    def repair(self) -> None:
        types = self._send([("TYPE", self._index), ("TYPE", self._not_closed)])
        expected = {self._index: b"zset", self._not_closed: b"hash"}
        lost = [
            key
            for (key, kind), found in zip(expected.items(), types, strict=True)
            if found not in (kind, b"none")
        ]
        if not lost:
            return
        self._client.unlink(*lost)
        now = self._client.time()[0]
        for batch in _batched(self._find_recorded(), BATCH):
            self._client.zadd(self._index, dict.fromkeys(batch, now), nx=True)
            names = {records.decode_name(raw): raw for raw in batch}
            self._raw_names = {**self._raw_names, **names}
            for name, snapshot in self.load_many(list(names)).snapshots.items():
                if entry := snapshot and records.encode_entry(snapshot):
                    self._client.hsetnx(self._not_closed, names[name], entry)

    def _find_recorded(self) -> Iterator[bytes]:
        """Yield the names of which there is a record, as they are stored."""
        prefix, ends_at = f"{self._base}:record:".encode(), time.monotonic() + MAX_REPAIR_SECONDS
        pattern = re.sub(rb"([\\*?\[\]])", rb"\\\1", prefix) + b"*"
        keys = self._client.scan_iter(match=pattern, count=1000)
        for key in islice(keys, MAX_NAMES):
            if time.monotonic() > ends_at:
                return
            yield key[len(prefix) :]

    @translate_errors
    def read_totals(
        self,
        names: Iterable[str],
        *,
        keep_for: float | None,
        most: int,
        beside: Sequence[Sequence[Any]] = (),
    ) -> TotalsReading:
        # Only the answer has all names. Mostly they are those of the last reading.
        guess = list(dict.fromkeys([*self._counted, *(name.encode() for name in names)]))
        (seconds, micros), index, not_closed, present, *answers = self._pipe(
            [
                ("TIME",),
                ("ZRANGE", self._index, 0, -1, "WITHSCORES"),
                ("HGETALL", self._not_closed),
                self._listing_processes(),
                *beside,
                *self._counting(guess),
            ],
            purposes={1: _INDEX_DAMAGED, 2: _NOT_CLOSED_DAMAGED},
        )
        now, answered_in = seconds + micros / 1e6, self.answered_in
        entries = {name: records.decode_entry(entry, now) for name, entry in not_closed.items()}
        in_use = sorted(_in_use(index, entries, now, keep_for))
        listed = self._counted = in_use[:most]
        rows = (row for batch in answers[len(beside) :] for row in batch)
        counted = dict(zip(guess, rows, strict=True))
        if late := [name for name in listed if name not in counted]:
            more = (row for batch in self._pipe(self._counting(late)) for row in batch)
            counted |= zip(late, more, strict=True)
        shown = records.decode_names(listed)
        return TotalsReading(
            breakers={
                shown[name]: BreakerTotals(
                    state=entries[name][0] if name in entries else State.CLOSED.value,
                    held_until=records.decode_end(not_closed[name])
                    if name in entries and entries[name][1]
                    else None,
                    totals=decode_totals(counted[name]),
                )
                for name in listed
            },
            left_out=len(in_use) - len(listed),
            processes=records.decode_processes(present[2], now),
            now=now,
            seconds=answered_in,
            beside=answers[: len(beside)],
        )

    def _counting(self, names: Sequence[bytes]) -> list[Sequence[Any]]:
        begin = [f"{self._base}:{kind}:".encode() for kind in ("record", "totals")]
        batches = _batched([kind + name for name in names for kind in begin], 2 * BATCH)
        return [_command(scripts.READ_TOTALS, keys, []) for keys in batches]

    def channel(self) -> RedisChannel:
        pool = self._client.connection_pool
        connection = pool.connection_class(**pool.connection_kwargs | {"protocol": 3})
        return RedisChannel(
            connection,
            name=self._channel,
            sequence_key=self._sequence,
            timeout=pool.connection_kwargs["socket_timeout"],
        )

    @translate_errors
    def connect(self) -> None:
        self._client.connection_pool.release(self._take_connection())

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Limit the time that all requests in the block take together."""
        self._ends_at = time.monotonic() + seconds
        try:
            yield
        finally:
            self._ends_at = None

    def ping(self) -> bool | None:
        """Return whether the server has answered a PING; None: not yet, ask again.

        Never waits.
        """
        if self._ping is None:
            if self._peer is None:
                return True  # never reached before: only a request tells
            self._ping = Ping(*self._peer, is_tls=self._is_tls)
        answers = self._ping.look()
        if answers is not None:
            self._ping = None
        if answers is False and "route" in self._client.connection_pool.connection_kwargs:
            self._peer = None  # another server may have the data by now
        return answers

    def renew(self) -> None:
        self._client.connection_pool.disconnect(inuse_connections=False)

    @translate_errors
    def check_writable(self) -> None:
        # A replica that has lost its primary says so to the script alone.
        self._pipe([_command(*self._adding([], 0)), self._probe()])

    def await_copies(self) -> Copies:
        return await_copies(self._client, self._probe)

    def _probe(self) -> Sequence[Any]:
        return ("SET", f"{self._base}:probe", 1, "EX", 60)

    @translate_errors
    def may_evict(self) -> bool:
        """Return whether the server may evict keys without expiry when its memory is full."""
        memory = self._client.info("memory")
        return bool(memory["maxmemory"]) and str(memory["maxmemory_policy"]).startswith("allkeys")

    @translate_errors
    def is_persistent(self) -> bool:
        """Return whether the server keeps its data over a restart."""
        if self._client.info("persistence")["aof_enabled"]:
            return True
        return any(self._client.config_get("save").values())

    def _raw(self, name: Name) -> Name:
        """Return the name as it is stored."""
        if isinstance(name, bytes):
            return name
        return self._raw_names.get(name) or records.encode_name(name)

    def _key(self, name: Name, kind: str = "record") -> Name:
        return self._keys_of(name, (kind,))[0]

    def _keys_of(self, name: Name, kinds: Iterable[str] = KINDS) -> list[Name]:
        """Return the keys of a breaker: all, or those of these kinds."""
        raw = self._raw(name)
        if isinstance(raw, bytes):
            return [f"{self._base}:{kind}:".encode() + raw for kind in kinds]
        return [f"{self._base}:{kind}:{raw}" for kind in kinds]

    def _adding(self, reports: Sequence[Report], place: int) -> Call:
        keys: list[Name] = [self._index, self._sequence, self._processes]
        windows: list[Any] = []
        encoded = [records.encode_report(report, windows) for report in reports]
        is_needed = False
        for report, (*_told, last) in zip(reports, encoded, strict=True):
            keys.append(self._key(report.name))
            if records.has_results(report.results):
                keys.append(self._key(report.name, "periods"))
                is_needed = True
            rest = last if isinstance(last, dict) else {}
            kinds = {"notes": "failures", "policy": "policies", "rejected": "totals"}
            keys += [self._key(report.name, kind) for it, kind in kinds.items() if it in rest]
        own_key, number = self._sign(place, is_needed=is_needed)
        packed = records.pack([windows, encoded])
        return scripts.COUNT_RESULTS, [*keys, own_key], [packed, self._channel, number]

    def _moving(self, moves: Sequence[Move], place: int) -> Call:
        keys: list[Name] = [self._index, self._not_closed, self._sequence]
        keys += [key for move in moves for key in self._keys_of(move.name)]
        own_key, number = self._sign(place, is_needed=True)
        packed = records.pack(map(records.encode_move, moves))
        names = (self._raw(move.name) for move in moves)
        arguments = [packed, self._channel, *names, number]
        return scripts.COMPARE_AND_SET, [*keys, own_key], arguments

    def _sign(self, place: int, *, is_needed: bool) -> tuple[Name, int]:
        """Return the key under which the server notes what this call has done, and its number.

        Calls of one round trip have a key each, by their place in it.
        """
        sender: _Sender | None = getattr(self._senders, "own", None)
        if sender is None or sender.pid != os.getpid():  # a forked child is another process
            sender = self._senders.own = _Sender()
        own_key = f"{self._base}:sent:{sender.name}:{place}"
        if not is_needed or not self._sends_again:
            return own_key, 0
        sender.number += 1
        return own_key, sender.number

    def _loading(self, names: Sequence[str], active: int) -> list[Sequence[Any]]:
        """Return the commands that read breakers, and the activity of the first ``active``."""
        calls = []
        for start, batch in enumerate(_batched(names, BATCH)):
            keys: list[Name] = [self._sequence, *map(self._key, batch)]
            for name in batch[: max(0, active - start * BATCH)]:
                keys += [self._key(name, "moves"), self._key(name, "periods")]
            calls.append(_command(scripts.LOAD_MANY, keys, [len(batch)]))
        return calls

    def _read_transitions(self, names: Sequence[str]) -> Iterator[tuple[str, float, Any]]:
        """Return name, the store's time and a row for each breaker."""
        batches = list(_batched(names, BATCH))
        calls = [
            _command(
                scripts.READ_TRANSITIONS,
                [self._key(name, kind) for name in batch for kind in ("record", "moves")],
                [],
            )
            for batch in batches
        ]
        for batch, (now, *rows) in zip(batches, self._pipe(calls), strict=True):
            for name, row in zip(batch, rows, strict=True):
                yield name, float(now), row

    def _list(
        self,
        names: Sequence[str],
        keep_for: float | None,
        *,
        active: int,
        with_processes: bool,
    ) -> tuple[_Listed, Reading]:
        """List all names and read some breakers, in one round trip."""
        (seconds, micros), index, not_closed, *answers = self._pipe(
            [
                ("TIME",),
                ("ZRANGE", self._index, 0, -1, "WITHSCORES"),
                ("HGETALL", self._not_closed),
                *self._loading(names, active),
                *([self._listing_processes()] if with_processes else []),
            ],
            purposes={1: _INDEX_DAMAGED, 2: _NOT_CLOSED_DAMAGED},
        )
        now = seconds + micros / 1e6
        _, sequence, present = answers.pop() if with_processes else (now, 0, ())
        entries = {name: records.decode_entry(entry, now) for name, entry in not_closed.items()}
        in_use = _in_use(index, entries, now, keep_for)
        shown = records.decode_names({*in_use, *entries})
        self._raw_names = {text: raw for raw, text in shown.items() if text.encode() != raw}
        listed = _Listed(
            now=now,
            in_use=frozenset(shown[name] for name in in_use),
            not_closed={shown[name]: state for name, (state, _is_held) in entries.items()},
            sequence=int(sequence),
            processes=records.decode_processes(present, now),
        )
        reading = _decode_reading(names, answers)
        return listed, replace(reading, now=max(now, reading.now))

    def _listing_processes(self) -> Sequence[Any]:
        return _command(scripts.READ_PROCESSES, [self._processes, self._sequence], [])

    def _run(self, script: str, keys: Sequence[Name], arguments: Sequence[Any]) -> Any:
        return self._pipe([_command(script, keys, arguments)])[0]

    def _pipe(
        self,
        commands: Sequence[Sequence[Any]],
        *,
        purposes: Mapping[int, Message] | None = None,
    ) -> list[Any]:
        """Send commands in one round trip, and load the scripts that the server does not have.

        ``purposes`` says what is damaged, by the place of the command that finds it so.
        """
        if not commands:
            return []
        answers = self._send(commands)
        unknown = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        again = self._send([commands[at] for at in unknown], loading=True) if unknown else ()
        for at, answer in zip(unknown, again, strict=True):  # it did not run before
            answers[at] = answer
        for place, answer in enumerate(answers):
            is_damaged = isinstance(answer, ResponseError) and "WRONGTYPE" in str(answer)
            if is_damaged and purposes and place in purposes:
                raise DamagedList(purposes[place])
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _send(self, commands: Sequence[Sequence[Any]], *, loading: bool = False) -> list[Any]:
        """Send commands in one round trip and return the answers, errors among them."""
        hashes = {command[1] for command in commands if loading and command[0] == "EVALSHA"}
        loads = [("SCRIPT", "LOAD", scripts.BY_HASH[script_id]) for script_id in hashes]
        sent = [*loads, *commands]
        try:
            answers = self._exchange(sent)
        except (NoConnection, NoAnswer, InvalidResponse, OSError):
            if not self._sends_again:
                raise
            self.renew()
            answers = self._exchange_after_restart(sent)
        refused = [
            at
            for at, answer in enumerate(answers)
            if isinstance(answer, Exception) and is_elsewhere(answer)
        ]
        if refused:
            self.renew()
            for at, answer in zip(
                refused, self._exchange([sent[at] for at in refused]), strict=True
            ):
                answers[at] = answer
        return answers[len(loads) :]

    def _exchange_after_restart(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Exchange with a server that may be restarting: for a moment it refuses connections."""
        try:
            return self._exchange(commands)
        except NoConnection:
            if self._ends_at is not None:  # a caller waits
                raise
        time.sleep(RESTART_SECONDS)
        return self._exchange(commands)

    def _exchange(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        pool, callbacks = self._client.connection_pool, self._client.response_callbacks
        connection = self._take_connection()
        try:
            packed, sent_at = connection.pack_commands(commands), time.monotonic()
            connection.send_packed_command(packed)
            answers = [_read(connection, self._seconds_left())]
            self.answered_in = time.monotonic() - sent_at
            answers += [_read(connection, self._seconds_left()) for _ in commands[1:]]
        except BaseException:
            connection.disconnect()
            raise
        finally:
            pool.release(connection)
        self._used_at = time.monotonic()
        return [
            callbacks[command[0]](answer)
            if command[0] in callbacks and not isinstance(answer, Exception)
            else answer
            for command, answer in zip(commands, answers, strict=True)
        ]

    def _take_connection(self) -> Any:
        now = time.monotonic()
        if now - self._used_at > MAX_IDLE_SECONDS:
            self.renew()
            self._used_at = now
        self.connecting_since = now
        pool = self._client.connection_pool
        kwargs = pool.connection_kwargs
        if (left := self._seconds_left()) is not None:  # for the server, and for its first answer
            pool.connection_kwargs = kwargs | dict.fromkeys(_TIMEOUTS, left / 2)
        elif self._has_hasty:  # also closed ones keep their time-outs
            self.renew()
            pool.reset()
        self._has_hasty = left is not None
        try:
            connection = pool.get_connection()
            if left is None and isinstance(connection, Routed):  # no caller waits
                connection.look_and_leave()
            if left is not None and (own := getattr(connection, "_sock", None)) is not None:
                self._peer = own.family, own.getpeername()
            return connection
        finally:
            self.connecting_since, pool.connection_kwargs = None, kwargs

    def _seconds_left(self) -> float | None:
        """Return the seconds that requests may still take; None: no limit but their own.

        Raises:
            TimeoutError (the driver's)
        """
        if self._ends_at is None:
            return None
        if (left := self._ends_at - time.monotonic()) <= 0:
            raise NoAnswer
        return left


def _read(connection: Any, timeout: float | None) -> Any:
    """Return the next answer, or the error that the server answers.

    A thread that is woken late finds its time over, and perhaps the answer in the socket.
    """
    limit = {} if timeout is None else {"timeout": timeout}
    while True:
        try:
            return connection.read_response(disconnect_on_error=False, **limit)
        except ResponseError as error:
            return error
        except NoAnswer:
            if not connection.can_read(0):
                raise


def _command(script: str, keys: Sequence[Name], arguments: Sequence[Any]) -> Sequence[Any]:
    return ("EVALSHA", script_hash(script), len(keys), *keys, *arguments)


def _decode_reading(names: Sequence[str], answers: Sequence[Sequence[Any]]) -> Reading:
    """Return what the script load_many read of these breakers, in batches."""
    now = float(answers[-1][0]) if answers else 0.0
    sequence = records.decode_sequence(answers[0][1]) if answers else 0
    reading = Reading(now=now, snapshots={}, sequence=sequence)
    rows = (row for _now, _sequence, *batch in answers for row in batch)
    for name, (*row, activity) in zip(names, rows, strict=True):
        reading.snapshots[name] = records.decode_snapshot(row)
        if activity:
            reading.activity[name] = records.decode_activity(activity, now)
    return reading


def _in_use(
    index: Sequence[Any],
    entries: Mapping[bytes, tuple[str, bool]],
    now: float,
    keep_for: float | None,
) -> list[bytes]:
    """Return the names used in the last ``keep_for`` seconds, and those that are held."""
    oldest = float("-inf") if keep_for is None else now - keep_for
    held = {name for name, (_state, is_held) in entries.items() if is_held}
    return [
        name
        for name, seen_at in zip(index[::2], index[1::2], strict=True)
        if float(seen_at) > oldest or name in held
    ]


def _unique(first: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return all names, each once, in order."""
    return list(dict.fromkeys((*first, *names)))


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
