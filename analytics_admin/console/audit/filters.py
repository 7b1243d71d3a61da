"""The filters of the audit trail's list, and the check of its addresses."""

from datetime import UTC
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.options import (
    IS_FACETS_VAR,
    IS_POPUP_VAR,
    TO_FIELD_VAR,
    IncorrectLookupParameters,
)
from django.contrib.admin.views.main import (
    ALL_VAR,
    ERROR_FLAG,
    ORDER_VAR,
    PAGE_VAR,
    SEARCH_VAR,
)
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import QueryDict
from django.http.request import HttpRequest
from django.utils import formats, timezone
from django.utils.translation import gettext_lazy as _

from analytics_admin.console.labels import INTERRUPTED
from analytics_admin.models import Operation, with_zone
from analytics_admin.services.audit_pages import Position
from analytics_admin.services.audit_queries import filter_by_status

ROWS_ASKED_FOR_ACTORS = 500
MAX_ACTORS_SHOWN = 20
MAX_VALUE_LENGTH = 254  # as long as an actor's name can be

OLDER_THAN = "older_than"
DATETIME_PARAMETERS = ("started_at__gte", "started_at__lt")
# Parameters that select rows, and those that only say how to show them.
SELECTING_PARAMETERS = {
    SEARCH_VAR,
    ORDER_VAR,
    "status",
    "actor",
    "kind__exact",
    "channel__exact",
    OLDER_THAN,
    *DATETIME_PARAMETERS,
}
DISPLAY_PARAMETERS = {PAGE_VAR, ALL_VAR, ERROR_FLAG, IS_FACETS_VAR, IS_POPUP_VAR, TO_FIELD_VAR}


def validate_query(sent: QueryDict) -> None:
    """Refuse an unknown lookup, and a value that no database may be asked for.

    The admin passes on any lookup of any field, and some of them break in the database.

    Raises:
        IncorrectLookupParameters
    """
    for name, values in sent.lists():
        if name not in SELECTING_PARAMETERS | DISPLAY_PARAMETERS:
            raise IncorrectLookupParameters(f"no such filter: {name}")
        if not all(_is_usable(name, value) for value in values):
            raise IncorrectLookupParameters(f"no value for a filter: {name}")


def _is_usable(name: str, value: str) -> bool:
    if "\0" in value or len(value) > MAX_VALUE_LENGTH:
        return False
    return name not in DATETIME_PARAMETERS or _is_datetime(value)


def _is_datetime(value: str) -> bool:
    """Return whether every database takes such a time, in whatever time zone it stores times."""
    try:
        at = Operation._meta.get_field("started_at").to_python(value)
        if timezone.is_aware(at):
            at.astimezone(UTC)
            return settings.USE_TZ
        timezone.make_aware(at).astimezone(UTC)
    except (ValidationError, OverflowError):
        return False
    return True


def selection_query(sent: QueryDict) -> str:
    """Return the part of the list's address that selects and orders rows."""
    chosen = sent.copy()
    for name in DISPLAY_PARAMETERS:
        chosen.pop(name, None)
    return chosen.urlencode()


class StatusFilter(admin.SimpleListFilter):
    """The stored statuses, and "interrupted", which follows from a row's age."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [*Operation.Status.choices, ("interrupted", INTERRUPTED.word)]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Operation]
    ) -> QuerySet[Operation] | None:
        status = self.value()
        if not status:
            return None
        try:
            return filter_by_status(queryset, status)
        except ValueError:
            raise IncorrectLookupParameters(f"no such status: {status}") from None


class ActorFilter(admin.SimpleListFilter):
    """The latest actors; the address may name any other."""

    title = _("actor")
    parameter_name = "actor"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Look at the newest rows only: a long trail is not searched for its actors."""
        rows = model_admin.get_queryset(request).order_by("-started_at", "-id")
        recent = rows.values_list("actor", flat=True)[:ROWS_ASKED_FOR_ACTORS]
        chosen = [self.value()] if self.value() else []
        shown = list(dict.fromkeys([*chosen, *recent]))[:MAX_ACTORS_SHOWN]
        return [(actor, actor) for actor in sorted(shown, key=str.casefold)]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Operation]
    ) -> QuerySet[Operation] | None:
        return queryset.filter(actor=self.value()) if self.value() else None


class OlderThanFilter(admin.SimpleListFilter):
    """Goes on where pages, a search or a sort have stopped; no choice until then."""

    title = _("older than")
    parameter_name = OLDER_THAN

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        if not self.value():
            return []
        at = with_zone(self._position().started_at)
        return [(str(self.value()), formats.localize(timezone.localtime(at)))]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Operation]
    ) -> QuerySet[Operation] | None:
        return queryset.filter(self._position().older()) if self.value() else None

    def _position(self) -> Position:
        try:
            return Position.parse(str(self.value()))
        except ValueError:
            raise IncorrectLookupParameters(f"no such position: {self.value()}") from None
