"""The audit trail, revocations of tokens, and two table-less models for the console's entries."""

import uuid
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

INTERRUPTED_AFTER = timedelta(minutes=10)


class Operation(models.Model):
    """One operation of one operator: recorded before it is done, and completed after it."""

    class Kind(models.TextChoices):
        CLEAR_SEARCH_CACHE = "clear_search_cache", _("Clear search cache")
        UNDO_CLEAR = "undo_clear", _("Undo soft clear")
        SWEEP_SEARCH_CACHE = "sweep_search_cache", _("Sweep search cache")
        RESET_CIRCUIT_BREAKERS = "reset_circuit_breakers", _("Reset circuit breakers")
        CONTROL_CIRCUIT_BREAKERS = "control_circuit_breakers", _("Control circuit breakers")
        FORGET_CIRCUIT_BREAKER = "forget_circuit_breaker", _("Forget circuit breaker")
        ALLOW_PROBE = "allow_probe", _("Allow probe")
        REVOKE_TOKENS = "revoke_tokens", _("Revoke tokens")
        PRUNE_OPERATIONS = "prune_operations", _("Prune audit trail")

    class Status(models.TextChoices):
        STARTED = "started", _("Started")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")
        UNKNOWN = "unknown", _("Outcome unknown")
        DENIED = "denied", _("Denied")

    class Channel(models.TextChoices):
        ADMIN = "admin", _("Django admin")
        API = "api", _("REST API")
        COMMAND = "command", _("Command line")
        CODE = "code", _("Code")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(_("kind"), max_length=40, choices=Kind.choices)
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.STARTED
    )
    channel = models.CharField(_("channel"), max_length=10, choices=Channel.choices)
    actor = models.CharField(_("actor"), max_length=254)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        null=True,
        blank=True,
        # Accounts may be in another database, so none can hold the two together:
        # ``services.audit.forget_account`` empties the column.
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
    )
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    message = models.CharField(  # db_default: for processes of the previous release
        _("message"), max_length=500, blank=True, default="", db_default=""
    )
    targets = models.JSONField(_("targets"), default=dict, help_text=_("What was requested"))
    outcome = models.JSONField(_("outcome"), default=dict, help_text=_("What was changed"))
    error = models.CharField(_("error"), max_length=500, blank=True)
    # Both may be null: processes of the previous release write neither.
    client = models.JSONField(_("client"), null=True, blank=True, default=None, editable=False)
    replay = models.JSONField(_("replay"), null=True, blank=True, default=None, editable=False)
    started_at = models.DateTimeField(_("started at"), default=timezone.now)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    duration_ms = models.FloatField(_("duration (ms)"), null=True, blank=True)

    class Meta:
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        default_permissions = ()
        permissions = (("prune_operations", _("Can prune the audit trail")),)
        ordering = ("-started_at", "-id")
        indexes = (
            models.Index(fields=["-started_at", "-id"], name="aa_operation_newest"),
            # Each filter of the list has one, and so have each two of them, in the list's order: a
            # page and a count of what they select read as many rows as they show and count.
            *(
                models.Index(fields=[name, "-started_at", "-id"], name=f"aa_operation_{name}")
                for name in ("kind", "status", "channel", "actor")
            ),
            *(
                models.Index(
                    fields=[*names, "-started_at", "-id"], name=f"aa_operation_{'_'.join(names)}"
                )
                for names in combinations(("kind", "status", "channel", "actor"), 2)
            ),
        )

    def __str__(self) -> str:
        began = self.started_at
        local = timezone.localtime(began) if timezone.is_aware(began) else began
        when = f"{local:%Y-%m-%d %H:%M:%S %Z}".rstrip()  # USE_TZ = False knows no zone
        return f"{self.get_kind_display()} · {self.actor} · {when}"

    @property
    def is_interrupted(self) -> bool:
        """True when it was started ten minutes ago or earlier and its end is not recorded."""
        age = timezone.now() - self.started_at
        return self.status == self.Status.STARTED and age > INTERRUPTED_AFTER

    @property
    def target_fields(self) -> dict[str, Any]:
        """The targets as they are recorded; empty where a row, by hand, holds anything else."""
        return self.targets if isinstance(self.targets, dict) else {}

    @property
    def outcome_fields(self) -> dict[str, Any]:
        """The outcome as it is recorded; empty where a row, by hand, holds anything else."""
        return self.outcome if isinstance(self.outcome, dict) else {}

    @property
    def targets_breakers(self) -> bool:
        """True when the operation is on circuit breakers, named ones or all."""
        return "names" in self.target_fields

    @property
    def target_names(self) -> list[str] | None:
        """The names of the circuit breakers that it is on; None for all of them."""
        names = self.target_fields.get("names")
        return _texts(names) if isinstance(names, list) else None

    @property
    def control(self) -> str:
        """What circuit breakers are set to; "" for other operations."""
        control = self.target_fields.get("control")
        return control if isinstance(control, str) else ""

    @property
    def is_only_open(self) -> bool:
        """True for a reset of the open circuit breakers only."""
        return self.target_fields.get("only_open") is True

    @property
    def tags(self) -> list[str]:
        """The tags that a clear is limited to; none for a clear of everything."""
        return [str(tag) for tag in _list(self.target_fields.get("tags"))]

    @property
    def clear_mode(self) -> str:
        """``hard``, ``soft``, ``tags``, ``functions`` or ``keys``; hard if the row has none."""
        for part in ("functions", "keys"):
            if _list(self.target_fields.get(part)):
                return part
        mode = self.target_fields.get("mode")
        return "tags" if self.tags else mode if isinstance(mode, str) else "hard"

    @property
    def moved_breakers(self) -> dict[str, str]:
        """The state that it moved each circuit breaker to, of the first hundred, by name."""
        return {
            row["name"]: str(row.get("to", ""))
            for row in _list(self.outcome_fields.get("results"))
            if isinstance(row, dict) and isinstance(row.get("name"), str)
        }

    @property
    def moved_count(self) -> int | None:
        """How many circuit breakers it moved; None if the row has none."""
        moved = self.outcome_fields.get("moved")
        return moved if isinstance(moved, int) else None

    @property
    def reached_names(self) -> list[str]:
        """The circuit breakers that a failed operation had changed, the first hundred."""
        return _texts(_list(self.outcome_fields.get("names")))

    @property
    def reached_count(self) -> int | None:
        """How many circuit breakers it had changed; None if the row has none."""
        reached = self.outcome_fields.get("count")
        return reached if isinstance(reached, int) else None


class TokenRevocation(models.Model):
    """Before which time the tokens of a user name ended; ``manage.py revoke_tokens`` says so."""

    account = models.CharField(_("account"), max_length=64, primary_key=True)
    """A hash of the name, which may be of any length."""
    revoked_at = models.DateTimeField(_("revoked at"))

    class Meta:
        verbose_name = _("token revocation")
        verbose_name_plural = _("token revocations")
        default_permissions = ()
        permissions = (("revoke_tokens", _("Can revoke tokens")),)

    def __str__(self) -> str:
        return self.account


class OperationCount(models.Model):
    """How many operations of a kind have ended so. It outlives their rows."""

    kind = models.CharField(max_length=40)
    status = models.CharField(max_length=10)
    channel = models.CharField(max_length=10)
    number = models.PositiveBigIntegerField(default=0)

    class Meta:
        default_permissions = ()
        constraints = (
            models.UniqueConstraint(
                fields=["kind", "status", "channel"], name="aa_operation_count"
            ),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.status} {self.channel}: {self.number}"


class TablelessManager(models.Manager[models.Model]):
    """Returns no rows, so that dumpdata and others never look for a table.

    Also the base manager, which ``dumpdata --all`` and the admin's "view on site" use.
    """

    def get_queryset(self) -> models.QuerySet[models.Model]:
        return super().get_queryset().none()


class _Tableless(models.Model):
    """A model without a table, for the console's entry and its permissions."""

    objects = TablelessManager()

    class Meta:
        abstract = True
        managed = False
        base_manager_name = "objects"
        default_permissions = ()

    def __str__(self) -> str:
        return str(self._meta.verbose_name)


class SearchCache(_Tableless):
    """No table: the console's entry for the search cache, and the console's permissions."""

    class Meta(_Tableless.Meta):
        verbose_name = _("search cache")
        verbose_name_plural = _("search cache")
        permissions = (
            ("view_console", _("Can see the analytics console")),
            ("clear_search_cache", _("Can clear the search cache")),
            ("clear_search_cache_part", _("Can clear parts of the search cache")),
        )


class CircuitBreaker(_Tableless):
    """No table: the console's entry for the circuit breakers, and their permissions."""

    class Meta(_Tableless.Meta):
        verbose_name = _("circuit breaker")
        verbose_name_plural = _("circuit breakers")
        permissions = (
            ("reset_circuit_breakers", _("Can reset circuit breakers")),
            ("control_circuit_breakers", _("Can hold and release circuit breakers")),
        )


def with_zone(at: datetime) -> datetime:
    """Return a row's time with its zone: the current one where USE_TZ is off."""
    return at if timezone.is_aware(at) else timezone.make_aware(at)


def as_stored(at: datetime) -> datetime:
    """Return an aware time as rows have it: in the current zone where USE_TZ is off."""
    return at if settings.USE_TZ else timezone.make_naive(at)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(values: list[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]
