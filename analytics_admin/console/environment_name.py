"""The name of this environment, typed before an act: who took this site for another one notices.

Knows the name that it is given, and no act.
"""

import unicodedata
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import escape
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _


class NeverPrefilledInput(forms.TextInput):
    """Is empty each time it is shown: what was typed on one page is no word for the next."""

    def format_value(self, value: Any) -> None:
        return None


class EnvironmentNameField(forms.CharField):
    """Takes this name and no other; where there is none, nothing at all.

    Case counts. Spaces count as a page shows them: not at the ends, and several as one. So does an
    accent, which is one character with its letter or one of its own, as keyboards differ.
    """

    def __init__(self, name: str) -> None:
        self.name = _as_shown(name)
        typed_by_hand = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        super().__init__(
            label=_("Name of this environment"),
            help_text=escape(gettext("Type “%(name)s”. Case counts.") % {"name": self.name}),
            widget=NeverPrefilledInput(attrs={"class": "vTextField", **typed_by_hand}),
        )

    def validate(self, value: str) -> None:
        """Raise ValidationError unless it is the name."""
        super().validate(value)
        if _as_shown(value) != self.name:
            words = gettext("This environment has another name: nothing was done.")
            raise ValidationError(words, code="other_environment")


def _as_shown(name: str) -> str:
    """Return the name with its spaces and accents as a browser shows them."""
    return " ".join(unicodedata.normalize("NFC", name).split())
