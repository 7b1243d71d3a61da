"""The confirm page's forms: what an operator is asked before an act."""

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
from analytics_admin.services import (
    DEFAULT_HOLD_SECONDS,
    MAX_REASON_LENGTH,
    MAX_TAG_CHARS,
    MAX_TAGS_PER_CLEAR,
)

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

AUTOMATIC = "automatic"
HOLD_FOR = [
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
    """Takes the name of this environment only, so that whoever took it for another one notices.

    Case counts. Spaces count as a page shows them: not at the ends, and several as one. Accents
    count as shown, too: keyboards type them as part of the letter or as a character of their own.
    """

    def __init__(self, name: str) -> None:
        self.name = _normalize(name)
        typed_by_hand = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        super().__init__(
            label=_("Name of this environment"),
            help_text=escape(gettext("Type “%(name)s”. Case counts.") % {"name": self.name}),
            widget=NeverPrefilledInput(attrs={"class": "vTextField", **typed_by_hand}),
        )

    def validate(self, value: str) -> None:
        """Raise ValidationError unless it is the name."""
        super().validate(value)
        if _normalize(value) != self.name:
            message = gettext("This environment has another name: nothing was done.")
            raise ValidationError(message, code="other_environment")


def _normalize(name: str) -> str:
    """Return the name with its spaces and accents as a browser shows them."""
    return " ".join(unicodedata.normalize("NFC", name).split())


class ConfirmForm(forms.Form):
    """Asks for the reason, which is required where ``REQUIRE_REASON`` says so, and, last of all,
    for the name of this environment where ``REQUIRE_ENVIRONMENT_NAME`` is on."""

    confirms: ClassVar[bool] = True
    """Whether the act follows; a page that leads to the confirm page asks for no name."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=MAX_REASON_LENGTH,
        help_text=_("Kept in the audit trail."),
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = app_settings()
        self.fields["reason"].required = settings.require_reason
        if self.confirms and settings.require_environment_name:
            self.fields["environment_name"] = EnvironmentNameField(settings.environment_name)


CLEAR_MODES = [
    ("hard", _("At once: every result is removed")),
    ("soft", _("Softly: old results are served while new ones are computed, and it can be undone")),
    ("tags", _("By tag: only results that carry one named below are removed")),
]


class ConfirmClearForm(ConfirmForm):
    """Also carries how the search cache is to be cleared, and of which tags; hard, and all of it,
    if nothing is said."""

    mode = forms.ChoiceField(
        label=_("How"), choices=CLEAR_MODES, required=False, widget=forms.HiddenInput
    )
    tags = forms.CharField(label=_("Tags"), required=False, widget=forms.HiddenInput)

    def clean_tags(self) -> list[str]:
        """Return the tags that stand between commas."""
        given = self.cleaned_data["tags"].split(",")
        return [tag for each in given if (tag := each.strip())]

    def clean(self) -> dict[str, Any]:
        """Refuse tags that the way to clear has no use for: nothing else than was meant is done."""
        cleaned = super().clean() or {}
        if "mode" not in cleaned:
            return cleaned
        tags = cleaned.get("tags", [])
        cleaned["mode"] = cleaned["mode"] or ("tags" if tags else "hard")
        if complaint := _wrong_tags(cleaned["mode"], tags):
            self.add_error("tags", complaint)
        return cleaned


def _wrong_tags(mode: str, tags: Sequence[str]) -> "str | _StrPromise":
    if mode != "tags":
        words = _("All results are cleared this way. Leave this empty, or choose “By tag”.")
        return words if tags else ""
    if not tags:
        return _("Name at least one tag.")
    if len(set(tags)) > MAX_TAGS_PER_CLEAR:
        return _("At most %(number)d tags.") % {"number": MAX_TAGS_PER_CLEAR}
    if any(len(tag) > MAX_TAG_CHARS for tag in tags):
        return _("A tag has at most %(number)d characters.") % {"number": MAX_TAG_CHARS}
    return ""


class ClearForm(ConfirmClearForm):
    """The same on the page that offers the clear."""

    confirms = False
    field_order = ("mode", "tags")

    mode = forms.ChoiceField(
        label=_("How"), choices=CLEAR_MODES, initial="hard", widget=forms.RadioSelect
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
    """Also carries which clear is to be undone: no other one is."""

    clear = forms.CharField(
        label=_("Clear"), required=False, max_length=100, widget=forms.HiddenInput
    )


class ConfirmResetForm(ConfirmForm):
    """Also carries which breakers are meant: all, or the open ones, with those that were listed."""

    only_open = forms.BooleanField(required=False, widget=forms.HiddenInput)
    seen = forms.CharField(label=_("Circuit breakers"), required=False, widget=forms.HiddenInput)


class ConfirmSelectedForm(ConfirmForm):
    """Also carries the breakers that were ticked, each with the generation that was seen."""

    names = forms.Field(
        label=_("Circuit breakers"), required=False, widget=forms.MultipleHiddenInput
    )
    generations = forms.Field(
        label=_("Generations"), required=False, widget=forms.MultipleHiddenInput
    )

    def clean(self) -> dict[str, Any]:
        """Have a generation for every name."""
        cleaned = super().clean() or {}
        if len(cleaned["names"]) != len(cleaned["generations"]):
            self.add_error("generations", _("Not as many as there are names."))
        return cleaned


class ConfirmBreakerForm(ConfirmForm):
    """Also carries what its operator has seen: on any other generation the act is refused."""

    expected_generation = forms.CharField(
        label=_("Generation"), required=False, max_length=100, widget=forms.HiddenInput
    )


class ControlForm(ConfirmBreakerForm):
    """Asks how the breaker is to be held, and for how long."""

    confirms = False
    field_order = ("control", "for_seconds", "reason")

    control = forms.ChoiceField(
        label=_("Control"), choices=[("", "—"), *((key, it.choice) for key, it in CONTROLS.items())]
    )
    for_seconds = forms.TypedChoiceField(
        label=_("Duration"),
        choices=HOLD_FOR,
        initial=f"{DEFAULT_HOLD_SECONDS:.0f}",
        coerce=float,
        help_text=_("A hold ends by itself. A release needs no duration."),
    )


class ConfirmControlForm(ControlForm):
    """The same on the confirm page, where they are decided already."""

    confirms = True
    control = forms.ChoiceField(
        label=_("Control"),
        choices=[(key, it.choice) for key, it in CONTROLS.items()],
        widget=forms.HiddenInput,
    )
    for_seconds = forms.TypedChoiceField(
        label=_("Duration"), choices=HOLD_FOR, coerce=float, widget=forms.HiddenInput
    )


class ConfirmControlSelectedForm(ConfirmSelectedForm):
    """Also carries the control, and asks for how long it is to hold unless it is a release."""

    field_order = ("control", "for_seconds", "reason")

    control = forms.ChoiceField(
        label=_("Control"),
        choices=[(key, it.choice) for key, it in CONTROLS.items()],
        widget=forms.HiddenInput,
    )
    for_seconds = forms.TypedChoiceField(
        label=_("Duration"),
        choices=HOLD_FOR,
        initial=f"{DEFAULT_HOLD_SECONDS:.0f}",
        coerce=float,
        help_text=_("The hold ends by itself."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self["control"].value() == AUTOMATIC:
            del self.fields["for_seconds"]


def drop_errors_of_unseen_fields(form: forms.Form) -> None:
    """Have the form not complain, when it is first shown, of fields that nobody has seen yet."""
    for field in form.visible_fields():
        if field.name not in form.data:
            form.errors.pop(field.name, None)
