"""The confirm page's forms: what an operator is asked before an act."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from analytics_admin.conf import app_settings
from analytics_admin.services import MAX_REASON_LENGTH


class ConfirmForm(forms.Form):
    """Asks for the reason, which is required where ``REQUIRE_REASON`` says so."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=MAX_REASON_LENGTH,
        help_text=_("Kept in the audit trail."),
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = app_settings().require_reason


class ConfirmResetForm(ConfirmForm):
    """Also carries which breakers are meant."""

    only_open = forms.BooleanField(required=False, widget=forms.HiddenInput)
