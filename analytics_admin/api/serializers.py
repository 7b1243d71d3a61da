"""What a body may say: every field strict in its type, no unknown field passed over."""

import math
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from analytics_admin.services import (
    BREAKER_SORTS,
    BREAKER_STATES,
    CLEAR_MODES,
    CONTROLS,
    MAX_BREAKERS_PER_PAGE,
    MAX_HISTORY_MINUTES,
    MAX_OPERATIONS_PER_PAGE,
    MAX_REASON_LENGTH,
    MAX_SEARCH_LENGTH,
    MAX_TAGS_PER_CLEAR,
    OPERATION_CHANNELS,
    OPERATION_KINDS,
    OPERATION_STATUSES,
)

MAX_NAMES = 10_000
_INFINITE = (math.inf, -math.inf)


class StrictText(serializers.CharField):
    """A string that was a string in JSON."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictBoolean(serializers.BooleanField):
    """``true`` or ``false``, never "false" or 0."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class HoldSeconds(serializers.Field[float, Any, Any, Any]):
    """Seconds as a number, or the word "ever"; which numbers will do is the act's to say."""

    default_error_messages = {  # noqa: RUF012  the framework's own annotation
        "invalid": 'Not a number of seconds, nor "ever".'
    }

    def to_internal_value(self, data: Any) -> float:
        if data == "ever":
            return math.inf
        # 1e999 is a number in JSON and infinite here, and must not become a hold for ever.
        if isinstance(data, bool) or not isinstance(data, int | float) or data in _INFINITE:
            self.fail("invalid")
        return data


class AwareDateTime(serializers.Field[datetime, Any, Any, Any]):
    """A time in ISO 8601 that says its zone, so that it is the same instant for everybody."""

    default_error_messages = {  # noqa: RUF012  the framework's own annotation
        "invalid": "Not a time with its zone, like 2026-07-01T22:30:00Z; in a URL + is %2B."
    }

    def to_internal_value(self, data: str) -> datetime:
        try:
            at = datetime.fromisoformat(data)
            at.astimezone(UTC)
            timezone.make_naive(at)  # as rows have it where USE_TZ is off; a naive one is refused
        except (ValueError, OverflowError):
            self.fail("invalid")
        return at


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it does not know: a misspelt option must not become an act without it."""

    def to_internal_value(self, data: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(data.keys() - self.fields.keys())
        if unknown:
            raise serializers.ValidationError({unknown[0][:100]: "Unknown field."})
        validated: dict[str, Any] = super().to_internal_value(data)
        return validated


class ClearBody(StrictSerializer):
    """Options of a clear."""

    reason = StrictText(
        required=False,
        allow_blank=True,
        max_length=MAX_REASON_LENGTH,
        help_text="Why, for the record.",
    )
    dry_run = StrictBoolean(
        required=False, help_text="Change nothing; answer with a preview of what would happen."
    )


class ClearCacheBody(ClearBody):
    """Options of a clear of the search cache."""

    mode = serializers.ChoiceField(
        choices=CLEAR_MODES,
        required=False,
        help_text="hard, as if nothing were said: all at once; soft: old results may stand in.",
    )
    tags = serializers.ListField(
        child=StrictText(trim_whitespace=False),
        required=False,
        allow_empty=False,
        max_length=MAX_TAGS_PER_CLEAR,
        help_text="Only results with one of these; always hard.",
    )


class ResetBody(ClearBody):
    """Options of a reset."""

    names = serializers.ListField(
        child=StrictText(max_length=100),
        required=False,
        allow_empty=False,
        max_length=MAX_NAMES,
        help_text="Only these breakers.",
    )
    only_open = StrictBoolean(required=False, help_text="Pass over the closed ones.")


class ControlBody(ClearBody):
    """What one breaker is to be set to."""

    control = serializers.ChoiceField(
        choices=CONTROLS, help_text="What to hold it at; automatic releases it."
    )
    for_seconds = HoldSeconds(
        required=False, help_text="When the hold ends by itself; an hour if nothing is said."
    )


class NoQuery(StrictSerializer):
    """An address without options."""


class BreakersQuery(StrictSerializer):
    """Which breakers to list, in which order."""

    state = serializers.ChoiceField(
        choices=BREAKER_STATES, required=False, help_text="Only those that calls meet so."
    )
    search = serializers.CharField(
        required=False, allow_blank=True, max_length=100, help_text="Part of the name."
    )
    sort = serializers.ChoiceField(
        choices=BREAKER_SORTS,
        required=False,
        help_text="By name, or those first that reject calls.",
    )
    page = serializers.IntegerField(
        required=False, min_value=1, max_value=1_000_000, help_text="From 1 on."
    )
    page_size = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=MAX_BREAKERS_PER_PAGE,
        help_text=f"Else {MAX_BREAKERS_PER_PAGE}.",
    )


class OperationsQuery(StrictSerializer):
    """Which operations to list."""

    kind = serializers.ChoiceField(choices=OPERATION_KINDS, required=False, help_text="Which act.")
    status = serializers.ChoiceField(
        choices=OPERATION_STATUSES,
        required=False,
        help_text="What became of it; interrupted: started over ten minutes ago.",
    )
    channel = serializers.ChoiceField(
        choices=OPERATION_CHANNELS, required=False, help_text="Through which door."
    )
    actor = serializers.CharField(
        required=False, trim_whitespace=False, max_length=254, help_text="Who: the whole name."
    )
    since = AwareDateTime(required=False, help_text="Those that began then or later.")
    until = AwareDateTime(required=False, help_text="Those that began earlier.")
    search = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=MAX_SEARCH_LENGTH,
        help_text="Words in the actor, the reason, the error, the id, names of breakers and tags.",
    )
    page = serializers.IntegerField(
        required=False, min_value=1, max_value=1_000_000, help_text="From 1 on."
    )
    page_size = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=MAX_OPERATIONS_PER_PAGE,
        help_text=f"Else {MAX_OPERATIONS_PER_PAGE}.",
    )


class CacheQuery(StrictSerializer):
    """How many of the last minutes to tell one by one."""

    minutes = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_HISTORY_MINUTES,
        help_text="How many of the last minutes to tell one by one, in history.",
    )


class TokenBody(StrictSerializer):
    """Who signs in."""

    username = StrictText(trim_whitespace=False)
    password = StrictText(trim_whitespace=False)


class RefreshBody(StrictSerializer):
    """What a new access token is asked with."""

    refresh = StrictText()
