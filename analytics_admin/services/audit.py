"""The audit trail: one Operation row per operation, written before it and closed after it."""

import json
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.db import IntegrityError, connections, router, transaction
from django.db.models import F, QuerySet
from django.db.models.signals import post_delete
from django.http import HttpRequest
from django.utils import timezone

from analytics_admin.conf import app_settings
from analytics_admin.i18n import Message
from analytics_admin.i18n import gettext_noop as _
from analytics_admin.models import Operation, OperationCount
from analytics_admin.services.errors import (
    AuditUnavailable,
    DuplicateOperation,
    OperatorError,
    OutcomeUnknown,
)
from analytics_admin.signals import operation_finished
from analytics_admin.stores.contained_logger import get_logger

if TYPE_CHECKING:
    from analytics_admin.services.idempotency import Repeat

logger = get_logger("analytics_admin.audit")

Status = Operation.Status
INSIDE_TRANSACTION = Message(_("an operation cannot run inside a database transaction"))
BLANK_SIGNS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Signs that show nothing, although Unicode counts them among letters, marks and symbols."""
MAX_LOGGED_CHARS = 1000
"""Of the targets, which may be thousands of names."""
MAX_HEADER_CHARS = 200
"""Kept of a request's header."""
MAX_ACTOR_LENGTH = 254  # of the row; a site's own user model may allow longer names


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who runs an operation, through which channel. ``name`` outlives the user's account."""

    name: str
    channel: str
    user: Any = None
    client: Mapping[str, str] = field(default_factory=dict)
    """Where the operation comes from, as the row keeps it, such as the address."""
    repeat: "Repeat | None" = None
    """The request, if it may come again."""

    @classmethod
    def from_user(
        cls,
        user: Any,
        *,
        channel: str = Operation.Channel.CODE,
        client: Mapping[str, str] | None = None,
        repeat: "Repeat | None" = None,
    ) -> "Actor":
        """Return the actor of a user; ``channel`` is one of Operation.Channel."""
        return cls(
            name=username_of(user), channel=channel, user=user, client=client or {}, repeat=repeat
        )

    @classmethod
    def system(
        cls,
        name: str,
        *,
        channel: str = Operation.Channel.CODE,
        client: Mapping[str, str] | None = None,
    ) -> "Actor":
        """Return an actor without an account, such as a shell user or a scheduled job."""
        return cls(name=name, channel=channel, client=client or {})


def describe_database_error(error: DatabaseError) -> str:
    """Return a reason for operators. Drivers' texts may name hosts and users, so none is used."""
    text = str(error).lower()
    if "locked" in text or "lock timeout" in text:
        return Message(_("the database is locked"))
    if "readonly" in text or "read-only" in text:
        return Message(_("the database is read-only"))
    if "no such table" in text or "does not exist" in text:
        return Message(_("the database is not migrated"))
    if "full" in text or "no space" in text:
        return Message(_("the database has no space left"))
    return Message(_("the database does not answer"))


def username_of(user: Any) -> str:
    """Return the user's name as text, as tokens and the audit trail have it."""
    name = user.get_username()
    if isinstance(name, str):
        return name
    text: str = user._meta.get_field(user.USERNAME_FIELD).value_to_string(user)
    return text


def is_storable(text: str) -> bool:
    """Say whether every database can store the text: no NUL, no lone surrogates."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def is_blank(text: str) -> bool:
    """Say whether nothing of the text can be seen: spaces, controls, signs without a width."""
    return all(
        unicodedata.category(sign)[0] in "ZC"
        or sign in BLANK_SIGNS
        or unicodedata.name(sign, "").startswith(("VARIATION SELECTOR", "MONGOLIAN FREE VARIATION"))
        for sign in text
    )


def non_atomic(view: Any) -> Any:
    """Exempt a view from ATOMIC_REQUESTS, whose rollback would remove the row.

    All databases are exempt: a router may put the audit trail into any of them.
    """
    for alias in connections:
        view = transaction.non_atomic_requests(alias)(view)
    return view


def client_address(request: HttpRequest) -> str:
    """Return the client's address, without a port; ``X-Forwarded-For`` counts for NUM_PROXIES.

    What is no address is returned as it came.
    """
    from rest_framework.settings import api_settings

    proxies = api_settings.NUM_PROXIES or 0  # to DRF, None means "trust it all"
    claimed = ""
    if proxies > 0:
        hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
        claimed = hops[-min(proxies, len(hops))].strip()
    claimed = claimed or str(request.META.get("REMOTE_ADDR", ""))
    address = parse_address(claimed)
    return claimed if address is None else str(address)


def client_of(request: HttpRequest) -> dict[str, str]:
    """Return what the audit trail keeps of the client, as far as it is known and wanted."""
    site = app_settings()
    headers = request.META
    known = {
        "address": client_address(request) if site.audit_client_address else "",
        "user_agent": headers.get("HTTP_USER_AGENT", "") if site.audit_user_agent else "",
        "request_id": headers.get("HTTP_X_REQUEST_ID", ""),
    }
    return {name: text for name, value in known.items() if (text := _printable(value))}


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address in a text like "192.0.2.7:4711", "[2001:db8::1]:443" or "fe80::1%eth0"."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _printable(text: str) -> str:
    """Return the beginning of a header as every database and terminal can have it."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:MAX_HEADER_CHARS]).strip()


@contextmanager
def audited(
    kind: str,
    *,
    actor: Actor,
    reason: str,
    targets: Mapping[str, Any],
    operation_id: UUID | None = None,
    interrupted: Operation | None = None,
) -> Iterator[Operation]:
    """Write a row before the block and close it afterwards.

    The block sets ``operation.outcome`` and ``operation.message``. ``operation_id`` becomes the
    row's key, so that the database admits one of several operations with the same id. An
    ``interrupted`` operation goes on in its own row.

    Raises:
        DuplicateOperation: the id is taken. The block did not run.
        AuditUnavailable: the row could not be written durably. The block did not run.
    """
    operation = interrupted
    if operation is None:
        operation = _new(kind, actor=actor, reason=reason, targets=targets)
        if operation_id is not None:
            operation.pk = operation_id
        operation.replay = actor.repeat.to_record() if actor.repeat else None
        _insert(operation, actor)
    began = time.monotonic()
    try:
        yield operation
    except OutcomeUnknown as error:
        _close(operation, Status.UNKNOWN, began, error.reason)
        raise
    except BaseException as error:  # also Ctrl-C, lest the row stay open
        # Other errors' texts may hold a secret.
        reason = error.reason if isinstance(error, OperatorError) else type(error).__name__
        _close(operation, Status.FAILED, began, reason)
        raise
    _close(operation, Status.DONE, began)


def add_to_outcome(operation: Operation, **fields: Any) -> None:
    """Keep what became known after the row was closed; a database error is logged, not raised."""
    operation.outcome = {**operation.outcome, **fields}
    try:
        _update(operation, ["outcome"])
    except DatabaseError as failure:
        logger.warning(
            "operation %s: its row does not say %s: %s",
            operation.pk,
            ", ".join(fields),
            describe_database_error(failure),
        )


def record_denied(
    kind: str, *, actor: Actor, reason: str = "", targets: Mapping[str, Any] | None = None
) -> Operation:
    """Write the row of an operation that its actor was not allowed to run.

    Raises:
        AuditUnavailable: the row could not be written.
    """
    operation = _new(kind, actor=actor, reason=reason, targets=targets or {})
    operation.status = Status.DENIED
    operation.finished_at = operation.started_at
    _insert(operation, actor)
    _count(operation)
    _log(operation)
    return operation


def find_duplicate(operation_id: UUID, kind: str, *, actor: Actor) -> DuplicateOperation | None:
    """Return a DuplicateOperation if the id is taken.

    Raises:
        AuditUnavailable: the audit trail cannot be read.
    """
    rows = Operation.objects.using(router.db_for_write(Operation))
    try:
        first = rows.filter(pk=operation_id).first()
    except DatabaseError as error:
        raise AuditUnavailable(describe_database_error(error)) from error
    if first is None:
        return None
    same = first.kind == kind and _is_by(first, actor)
    return DuplicateOperation(operation_id, first if same else None)


def _new(kind: str, *, actor: Actor, reason: str, targets: Mapping[str, Any]) -> Operation:
    return Operation(
        kind=kind,
        channel=actor.channel,
        actor=actor.name[:MAX_ACTOR_LENGTH],
        reason=reason,
        targets=dict(targets),
        client=dict(actor.client) or None,
    )


def watch_accounts() -> None:
    """Have ``forget_account`` called for each account that is deleted.

    A process that uses the engines alone may have no accounts installed.
    """
    try:
        accounts = get_user_model()
    except ImproperlyConfigured:
        return
    for model in apps.get_models():  # a proxy sends signals of its own
        if model._meta.concrete_model is accounts._meta.concrete_model:
            post_delete.connect(forget_account, sender=model, dispatch_uid="analytics_admin")


def forget_account(sender: Any, *, instance: Any, using: str, **_: Any) -> None:
    """Empty the user of a deleted account's rows; they keep the actor's name.

    A database cannot do it: the accounts may be in another one.
    """
    alias = router.db_for_write(Operation)
    if using not in {alias, router.db_for_write(sender)}:
        return
    rows = Operation.objects.using(alias).filter(user_id=instance.pk)
    if using == alias:
        rows.update(user_id=None)
    else:
        transaction.on_commit(lambda: _forget(rows), using=using)


def _forget(rows: QuerySet[Operation]) -> None:
    """Empty the user of the rows; the account is gone whether or not this can be done."""
    try:
        rows.update(user_id=None)
    except DatabaseError as error:
        reason = describe_database_error(error)
        logger.error("operations still name the account that was deleted: %s", reason)


def _account_of(user: Any) -> Any:
    """Return the key of the user's account; None if it has none where the accounts are.

    The user may come from another database: a replica of that one, or one with other accounts.
    """
    if user is None:
        return None
    model = user.__class__
    home = router.db_for_write(model)
    if getattr(user._state, "db", None) in {None, home}:
        return user.pk
    accounts = model._base_manager.using(home)
    same = accounts.filter(pk=user.pk, **{user.USERNAME_FIELD: user.get_username()})
    return user.pk if same.exists() else None


def _is_by(operation: Operation, actor: Actor) -> bool:
    """Say whether the row is this actor's. Accounts are compared: names can be reassigned."""
    if actor.user is not None:
        return bool(operation.user_id == actor.user.pk)
    signed = (operation.user_id, operation.channel, operation.actor)
    return signed == (None, actor.channel, actor.name[:MAX_ACTOR_LENGTH])


def _insert(operation: Operation, actor: Actor) -> None:
    """Write the row durably: no later rollback removes it."""
    alias = router.db_for_write(Operation)
    try:
        _refuse_open_transaction(alias)
        account = _account_of(actor.user)
        with transaction.atomic(using=alias, durable=True):
            operation.user_id = account
            operation.save(using=alias, force_insert=True)
    except RuntimeError as error:  # what durable=True raises inside another transaction
        raise AuditUnavailable(INSIDE_TRANSACTION) from error
    except DatabaseError as error:
        taken = isinstance(error, IntegrityError)
        if taken and (first := find_duplicate(operation.pk, operation.kind, actor=actor)):
            raise first from None
        reason = describe_database_error(error)
        logger.error("operation not recorded, so not done: %s", reason)
        raise AuditUnavailable(reason) from error


def _close(operation: Operation, status: str, began: float, error: str = "") -> None:
    """Close the row. The operation is over: a database error is logged, not raised."""
    operation.status = status
    operation.error = error[:500]
    operation.message = operation.message if status == Status.DONE else ""
    operation.duration_ms = (time.monotonic() - began) * 1000
    operation.finished_at = timezone.now()
    fields = ["status", "message", "outcome", "error", "finished_at", "duration_ms", "replay"]
    try:
        _update(operation, fields)
    except DatabaseError as failure:
        logger.error(
            "operation %s ended %s but its row stays open: %s",
            operation.pk,
            status,
            describe_database_error(failure),
        )
    else:
        _count(operation)
    _log(operation)
    operation_finished.send_robust(sender=Operation, operation=operation)


def _log(operation: Operation) -> None:
    """Write one line about the operation; what came from outside is quoted."""
    logger.info(
        "%s %s by %s over %s: targets %s, reason %s, id %s",
        operation.kind,
        operation.status,
        json.dumps(operation.actor),
        operation.channel,
        json.dumps(operation.targets, default=str)[:MAX_LOGGED_CHARS],
        json.dumps(operation.reason),
        operation.pk,
    )


def _count(operation: Operation) -> None:
    """Count the operation for monitoring, which does without where that cannot be done."""
    alias = operation._state.db or router.db_for_write(Operation)
    ended_so = {name: getattr(operation, name) for name in ("kind", "status", "channel")}
    counts = OperationCount.objects.using(alias)
    try:
        with transaction.atomic(using=alias):
            if not counts.filter(**ended_so).update(number=F("number") + 1):
                counts.get_or_create(**ended_so)
                counts.filter(**ended_so).update(number=F("number") + 1)
    except DatabaseError as failure:
        reason = describe_database_error(failure)
        logger.warning("operation %s is not counted: %s", operation.pk, reason)


def _refuse_open_transaction(alias: str) -> None:
    """Raise RuntimeError where nothing is committed until the caller says so."""
    connection = connections[alias]
    if not connection.in_atomic_block and not connection.get_autocommit():
        raise RuntimeError("autocommit is off")


def _update(operation: Operation, fields: Sequence[str]) -> None:
    """Update the row in the database that it was written to.

    A connection that has died since, while the operation ran, is replaced by a new one.
    """
    alias = operation._state.db or router.db_for_write(Operation)
    connection = connections[alias]
    try:
        _save(operation, alias, fields)
    except DatabaseError:
        if connection.in_atomic_block or connection.is_usable():
            raise
        connection.close()
        _save(operation, alias, fields)


def _save(operation: Operation, alias: str, fields: Sequence[str]) -> None:
    with transaction.atomic(using=alias):
        operation.save(using=alias, update_fields=fields)
