"""The confirm pages' forms: what an operator is asked before an operation."""

import math
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import escape
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from analytics_admin.conf import app_settings
from analytics_admin.console.labels import CONTROLS
from analytics_admin.services.breakers.operations import DEFAULT_HOLD_SECONDS
from analytics_admin.services.runner import MAX_REASON_LENGTH
from analytics_admin.services.search_cache.operations import MAX_TAG_CHARS, MAX_TAGS_PER_CLEAR

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

AUTOMATIC = "automatic"
CONTROL_CHOICES = [(key, labels.choice) for key, labels in CONTROLS.items()]
HOLD_DURATIONS = [
    ("900", _("15 minutes")),
    ("3600", _("1 hour")),
    ("28800", _("8 hours")),
    ("86400", _("1 day")),
    (str(math.inf), _("Until released")),
]


class NeverPrefilledInput(forms.TextInput):
    """A text input that is empty each time it is shown: what was typed before does not count."""

    def format_value(self, value: Any) -> None:
        return None


class EnvironmentNameField(forms.CharField):
    """Takes the name of this environment only, so that a user who took it for another notices.

    Case counts. Spaces count as a page shows them: not at the ends, and several as one. Accents
    count as shown, too: keyboards type them as part of the letter or as a character of their own.
    """

    def __init__(self, name: str) -> None:
        self.name = _normalize(name)
        typed_by_hand = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        super().__init__(
            label=_("Environment name"),
            help_text=escape(gettext("Type “%(name)s”. Case-sensitive.") % {"name": self.name}),
            widget=NeverPrefilledInput(attrs={"class": "vTextField", **typed_by_hand}),
        )

    def validate(self, value: str) -> None:
        """Raise ValidationError unless it is the name."""
        super().validate(value)
        if _normalize(value) != self.name:
            message = gettext("That is not the name of this environment. Nothing was done.")
            raise ValidationError(message, code="other_environment")


def _normalize(name: str) -> str:
    """Return the name with its spaces and accents as a browser shows them."""
    return " ".join(unicodedata.normalize("NFC", name).split())


class ConfirmForm(forms.Form):
    """Asks for the reason, and for the name of this environment where
    ``REQUIRE_ENVIRONMENT_NAME`` is on; ``REQUIRE_REASON`` makes the reason required."""

    confirms: ClassVar[bool] = True
    """Whether the operation follows; a page that leads to the confirm page asks for no name."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=MAX_REASON_LENGTH,
        help_text=_("Recorded in the audit trail."),
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = app_settings()
        self.fields["reason"].required = settings.require_reason
        if self.confirms and settings.require_environment_name:
            self.fields["environment_name"] = EnvironmentNameField(settings.environment_name)


CLEAR_MODES = [
    ("hard", _("Hard: removes every result")),
    ("soft", _("Soft: serves old results while new ones are computed; can be undone")),
    ("tags", _("By tag: removes only results with a given tag")),
]


class ConfirmClearForm(ConfirmForm):
    """Also carries the mode of the clear and its tags; by default a hard clear of everything."""

    mode = forms.ChoiceField(
        label=_("Mode"), choices=CLEAR_MODES, required=False, widget=forms.HiddenInput
    )
    tags = forms.CharField(label=_("Tags"), required=False, widget=forms.HiddenInput)

    def clean_tags(self) -> list[str]:
        """Return the tags, which commas separate."""
        parts = self.cleaned_data["tags"].split(",")
        return [tag for part in parts if (tag := part.strip())]

    def clean(self) -> dict[str, Any]:
        """Reject tags that the mode does not use, lest more be cleared than was meant."""
        cleaned = super().clean() or {}
        if "mode" not in cleaned:
            return cleaned
        tags = cleaned.get("tags", [])
        cleaned["mode"] = cleaned["mode"] or ("tags" if tags else "hard")
        if error := _tags_error(cleaned["mode"], tags):
            self.add_error("tags", error)
        return cleaned


def _tags_error(mode: str, tags: Sequence[str]) -> "str | _StrPromise":
    if mode != "tags":
        error = _("This mode clears all results. Leave this empty, or choose “By tag”.")
        return error if tags else ""
    if not tags:
        return _("Enter at least one tag.")
    if len(set(tags)) > MAX_TAGS_PER_CLEAR:
        return _("At most %(number)d tags.") % {"number": MAX_TAGS_PER_CLEAR}
    if any(len(tag) > MAX_TAG_CHARS for tag in tags):
        return _("A tag has at most %(number)d characters.") % {"number": MAX_TAG_CHARS}
    return ""


class ClearForm(ConfirmClearForm):
    """Asks for mode and tags on the page that offers the clear."""

    confirms = False
    field_order = ("mode", "tags")

    mode = forms.ChoiceField(
        label=_("Mode"), choices=CLEAR_MODES, initial="hard", widget=forms.RadioSelect
    )
    tags = forms.CharField(
        label=_("Tags"),
        required=False,
        help_text=_("For “By tag”: one or more, separated by commas."),
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["reason"]  # the confirm page asks for it


class ConfirmUndoForm(ConfirmForm):
    """Also carries which clear is to be undone."""

    clear = forms.CharField(
        label=_("Clear"), required=False, max_length=100, widget=forms.HiddenInput
    )


class ConfirmResetForm(ConfirmForm):
    """Also carries which breakers are meant: all, or the open ones that were listed."""

    only_open = forms.BooleanField(required=False, widget=forms.HiddenInput)
    seen = forms.CharField(label=_("Circuit breakers"), required=False, widget=forms.HiddenInput)


class ConfirmSelectedForm(ConfirmForm):
    """Also carries the selected breakers, each with the generation that the page showed."""

    names = forms.Field(
        label=_("Circuit breakers"), required=False, widget=forms.MultipleHiddenInput
    )
    generations = forms.Field(
        label=_("Generations"), required=False, widget=forms.MultipleHiddenInput
    )

    def clean(self) -> dict[str, Any]:
        """Require a generation for every name."""
        cleaned = super().clean() or {}
        if len(cleaned["names"]) != len(cleaned["generations"]):
            self.add_error("generations", _("There must be one generation per name."))
        return cleaned


class ConfirmBreakerForm(ConfirmForm):
    """Also carries the generation that the page showed; at any other the operation is rejected."""

    expected_generation = forms.CharField(
        label=_("Generation"), required=False, max_length=100, widget=forms.HiddenInput
    )


class ControlForm(ConfirmBreakerForm):
    """Asks how the breaker is to be held, and for how long."""

    confirms = False
    field_order = ("control", "for_seconds", "reason")

    control = forms.ChoiceField(label=_("Control"), choices=[("", "—"), *CONTROL_CHOICES])
    for_seconds = forms.TypedChoiceField(
        label=_("Duration"),
        choices=HOLD_DURATIONS,
        initial=f"{DEFAULT_HOLD_SECONDS:.0f}",
        coerce=float,
        help_text=_("A hold expires after this time. A release needs no duration."),
    )


class ConfirmControlForm(ControlForm):
    """Carries control and duration on the confirm page."""

    confirms = True
    control = forms.ChoiceField(
        label=_("Control"), choices=CONTROL_CHOICES, widget=forms.HiddenInput
    )
    for_seconds = forms.TypedChoiceField(
        label=_("Duration"), choices=HOLD_DURATIONS, coerce=float, widget=forms.HiddenInput
    )


class ConfirmControlSelectedForm(ConfirmSelectedForm):
    """Also carries the control, and asks for the duration of a hold."""

    field_order = ("control", "for_seconds", "reason")

    control = forms.ChoiceField(
        label=_("Control"), choices=CONTROL_CHOICES, widget=forms.HiddenInput
    )
    for_seconds = forms.TypedChoiceField(
        label=_("Duration"),
        choices=HOLD_DURATIONS,
        initial=f"{DEFAULT_HOLD_SECONDS:.0f}",
        coerce=float,
        help_text=_("The hold expires after this time."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self["control"].value() == AUTOMATIC:
            del self.fields["for_seconds"]


def drop_errors_of_unseen_fields(form: forms.Form) -> None:
    """Drop the errors of visible fields that were not sent, as when a form is first shown."""
    for field in form.visible_fields():
        if field.name not in form.data:
            form.errors.pop(field.name, None)
