"""Request bodies and URL options: strict types, no unknown fields."""

import math
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.utils import timezone
from rest_framework import serializers

from analytics_admin.i18n import did_you_mean
from analytics_admin.services.audit_pages import MAX_EXAMINED, MAX_PAGED, Position
from analytics_admin.services.audit_queries import (
    MAX_OPERATIONS_PER_PAGE,
    OPERATION_CHANNELS,
    OPERATION_KINDS,
    OPERATION_STATUSES,
)
from analytics_admin.services.audit_search import MAX_SEARCH_LENGTH
from analytics_admin.services.breakers.operations import CONTROLS
from analytics_admin.services.breakers.queries import (
    BREAKER_SORTS,
    BREAKER_STATES,
    MAX_BREAKERS_PER_PAGE,
)
from analytics_admin.services.runner import MAX_REASON_LENGTH
from analytics_admin.services.search_cache.operations import (
    CLEAR_MODES,
    MAX_KEYS_PER_CLEAR,
    MAX_TAGS_PER_CLEAR,
)
from analytics_admin.services.search_cache.queries import MAX_HISTORY_MINUTES

MAX_NAMES = 10_000
_INFINITE = (math.inf, -math.inf)


class Choice(serializers.ChoiceField):
    """One of the choices; the error lists them."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, str) and data in self.choices:
            return data
        near = did_you_mean(data, self.choices) if isinstance(data, str) else ""
        guess = f" Did you mean '{near}'?" if near else ""
        raise serializers.ValidationError(f"One of {', '.join(self.choices)}.{guess}")


class StrictText(serializers.CharField):
    """A JSON string; numbers and booleans are rejected."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictBoolean(serializers.BooleanField):
    """A JSON ``true`` or ``false``; "false" and 0 are rejected."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class HoldSeconds(serializers.Field[float, Any, Any, Any]):
    """A number of seconds or the word "ever"; the service checks the range."""

    default_error_messages = {  # noqa: RUF012  the framework's own annotation
        "invalid": 'Not a number of seconds, nor "ever".'
    }

    def to_internal_value(self, data: Any) -> float:
        if data == "ever":
            return math.inf
        # JSON's 1e999 is infinite in Python, and must not mean "ever".
        if isinstance(data, bool) or not isinstance(data, int | float) or data in _INFINITE:
            self.fail("invalid")
        return data


class AnyKey(serializers.Field[Any, Any, Any, Any]):
    """A key of the search cache, as JSON; the service checks it."""

    def to_internal_value(self, data: Any) -> Any:
        return data


class AwareDateTime(serializers.Field[datetime, Any, Any, Any]):
    """An ISO 8601 time with a time zone."""

    default_error_messages = {  # noqa: RUF012  the framework's own annotation
        "invalid": "Not a time with its zone, like 2026-07-01T22:30:00Z; in a URL + is %2B."
    }

    def to_internal_value(self, data: str) -> datetime:
        try:
            at = datetime.fromisoformat(data)
            at.astimezone(UTC)
            timezone.make_naive(at)  # rejects a time without a zone, and one that no row can have
        except (ValueError, OverflowError):
            self.fail("invalid")
        return at


class StrictSerializer(serializers.Serializer[Any]):
    """Rejects unknown fields: a misspelt option must not be silently ignored."""

    def to_internal_value(self, data: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(data.keys() - self.fields.keys())
        if unknown:
            near = did_you_mean(unknown[0], self.fields)
            text = f"Unknown field. Did you mean '{near}'?" if near else "Unknown field."
            raise serializers.ValidationError({unknown[0][:100]: text})
        validated: dict[str, Any] = super().to_internal_value(data)
        return validated


class OperationBody(StrictSerializer):
    """Options of every operation."""

    reason = StrictText(
        required=False,
        allow_blank=True,
        max_length=MAX_REASON_LENGTH,
        help_text="The reason, recorded in the audit trail.",
    )
    dry_run = StrictBoolean(required=False, help_text="Change nothing and return a preview.")


def _texts(help_text: str) -> serializers.ListField:
    return serializers.ListField(
        child=StrictText(trim_whitespace=False),
        required=False,
        allow_empty=False,
        max_length=MAX_TAGS_PER_CLEAR,
        help_text=help_text,
    )


class UndoBody(OperationBody):
    """Options of an undo of a soft clear."""

    tags = _texts("Undo the last soft clear of each of these tags instead.")
    functions = _texts("Undo the last soft clear of each of these cached functions instead.")


class ClearCacheBody(OperationBody):
    """Options of a clear of the search cache."""

    mode = Choice(
        choices=CLEAR_MODES,
        required=False,
        help_text="hard (the default) removes results at once; soft still serves them for a while.",
    )
    tags = _texts("Clear only results with one of these tags.")
    functions = _texts("Clear only results of these cached functions, like shop.search.find.")
    keys = serializers.ListField(
        child=AnyKey(),
        required=False,
        allow_empty=False,
        max_length=MAX_KEYS_PER_CLEAR,
        help_text='Clear only results of these keys, like ["search", "lamp", 1]; always hard, and '
        "neither with tags nor with functions.",
    )


class ResetBody(OperationBody):
    """Options of a reset."""

    names = serializers.ListField(
        child=StrictText(max_length=100),
        required=False,
        allow_empty=False,
        max_length=MAX_NAMES,
        help_text="Reset only these breakers.",
    )
    only_open = StrictBoolean(required=False, help_text="Skip closed breakers.")


def _names(help_text: str) -> serializers.ListField:
    return serializers.ListField(
        child=StrictText(max_length=100),
        allow_empty=False,
        max_length=MAX_NAMES,
        help_text=help_text,
    )


class NamesBody(OperationBody):
    """Options of an operation on some circuit breakers."""

    names = _names("The circuit breakers.")


class ControlBody(OperationBody):
    """Options of a hold or release."""

    control = Choice(choices=CONTROLS, help_text="The control to set; automatic releases a hold.")
    for_seconds = HoldSeconds(
        required=False, help_text="Seconds until the hold expires (default 3600), or `ever`."
    )


class ControlNamesBody(ControlBody):
    """Options of a hold or release of some circuit breakers."""

    names = _names("The circuit breakers.")


def _page(help_text: str = "The page number, from 1.") -> serializers.IntegerField:
    return serializers.IntegerField(
        required=False, min_value=1, max_value=1_000_000, help_text=help_text
    )


def _page_size(most: int) -> serializers.IntegerField:
    return serializers.IntegerField(
        required=False, min_value=1, max_value=most, help_text=f"Items per page; default {most}."
    )


class NoQuery(StrictSerializer):
    """No options."""


class BreakersQuery(StrictSerializer):
    """Options of the breaker list."""

    state = Choice(choices=BREAKER_STATES, required=False, help_text="Only breakers in this state.")
    search = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=100,
        help_text="Only names that contain this text.",
    )
    sort = Choice(
        choices=BREAKER_SORTS,
        required=False,
        help_text="By name, or breakers that reject calls first.",
    )
    page = _page()
    page_size = _page_size(MAX_BREAKERS_PER_PAGE)


class OperationsQuery(StrictSerializer):
    """Options of the operation list."""

    kind = Choice(choices=OPERATION_KINDS, required=False, help_text="Only this kind.")
    status = Choice(
        choices=OPERATION_STATUSES,
        required=False,
        help_text="Only this status; interrupted: started over ten minutes ago, not finished.",
    )
    channel = Choice(choices=OPERATION_CHANNELS, required=False, help_text="Only this channel.")
    actor = serializers.CharField(
        required=False,
        trim_whitespace=False,
        max_length=254,
        help_text="Only this actor; the exact name.",
    )
    since = AwareDateTime(required=False, help_text="Only operations that started then or later.")
    until = AwareDateTime(required=False, help_text="Only operations that started earlier.")
    search = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=MAX_SEARCH_LENGTH,
        help_text="Words in actor, reason, error, id, breaker names and tags; all must match. "
        f"Searches the newest {MAX_EXAMINED:,} operations that match the other options.",
    )
    page = _page(f"The page number, from 1; within the newest {MAX_PAGED:,} operations.")
    page_size = _page_size(MAX_OPERATIONS_PER_PAGE)
    cursor = serializers.CharField(
        required=False,
        max_length=80,
        help_text="The next_cursor of a page, for the page after it, instead of a page number. "
        "The other options stay the same.",
    )

    def validate_cursor(self, cursor: str) -> str:
        try:
            Position.parse(cursor)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None
        return cursor

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if {"page", "cursor"} <= attrs.keys():
            raise serializers.ValidationError({"cursor": "a cursor and a page exclude each other"})
        return attrs


class CacheQuery(StrictSerializer):
    """Options of the search cache status."""

    minutes = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_HISTORY_MINUTES,
        help_text="How many of the last minutes to list in `history`.",
    )


class TokenBody(StrictSerializer):
    """Credentials of a login; the user name also under the site's own name for it."""

    username = StrictText(
        trim_whitespace=False,
        help_text="The user name; also under the name that the site's user model has for it, such "
        "as email.",
    )
    password = StrictText(trim_whitespace=False)

    def get_fields(self) -> dict[str, Any]:
        own_name = get_user_model().USERNAME_FIELD
        fields = super().get_fields()
        if own_name not in fields:
            for name in ("username", own_name):
                fields[name] = StrictText(trim_whitespace=False, required=False)
        return fields

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        own_name = get_user_model().USERNAME_FIELD
        names = [name for name in dict.fromkeys(("username", own_name)) if name in attrs]
        if len(names) != 1:
            complaint = f"Send either {own_name} or username."
            raise serializers.ValidationError({own_name: complaint})
        return {"username": attrs[names[0]], "password": attrs["password"]}


class RefreshBody(StrictSerializer):
    """The refresh token to exchange."""

    refresh = StrictText()
