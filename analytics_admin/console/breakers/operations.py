"""The acts on circuit breakers as a whole, and on one: reset, hold, release, probe, forget it."""

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse

from analytics_admin import services
from analytics_admin.console.base import DomainAdmin
from analytics_admin.console.confirmation import ConfirmedOperation, format_changed
from analytics_admin.console.forms import (
    AUTOMATIC,
    HOLD_FOR,
    ConfirmBreakerForm,
    ConfirmControlForm,
    ConfirmResetForm,
)
from analytics_admin.console.labels import CONTROLS, SINGLE_LABELS, state_badge
from analytics_admin.models import Operation
from analytics_admin.services import BreakerChanged, OperationResult, UnknownBreakers

MAX_PREVIEW_ROWS = 100
NO_NAME = "-"
MAX_CARRIED_CHARACTERS = 1_000_000
"""Characters; Django takes forms of up to 2.5 MB."""


class ResetMany(ConfirmedOperation):
    """Reset all breakers; or the open ones, none that has opened since the confirm page."""

    act = Operation.Kind.RESET_CIRCUIT_BREAKERS
    template = "admin/analytics_admin/confirm_reset.html"
    form = ConfirmResetForm

    def initial_form(self) -> forms.Form:
        return self.form(initial={"only_open": "only_open" in self.request.POST})

    def answer_changed(self, error: BreakerChanged) -> HttpResponse:
        """Show the page again with the new list, and with the reason that was given."""
        messages.error(self.request, format_changed(error))
        reason = self.request.POST.get("reason", "")
        return self.confirm(self.form(initial={"only_open": True, "reason": reason}))

    def service(self, **arguments: Any) -> OperationResult:
        return services.reset_circuit_breakers(**arguments)

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        listed = str(options.get("seen") or "").split()
        return {
            "only_open": options["only_open"],
            "seen": frozenset(listed) if options["only_open"] and listed else None,
        }

    def describe_preview(self, result: OperationResult) -> dict[str, Any]:
        """Breakers that will move come first; the rest of a long list is only counted.

        Of the open ones the form carries those that the page lists.
        """
        preview = result.preview or {}
        if self.shown.initial.get("only_open"):
            self.shown.initial["seen"] = names_of(preview["breakers"])
        breakers = movers_first(preview["breakers"])
        return {
            "preview": preview,
            "shown": breakers[:MAX_PREVIEW_ROWS],
            "unshown": len(breakers[MAX_PREVIEW_ROWS:]),
        }


def names_of(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a preview's names as a form carries them; nothing if they are too many for one."""
    names = " ".join(row["name"] for row in rows) or NO_NAME
    return names if len(names) <= MAX_CARRIED_CHARACTERS else ""


def movers_first(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return a preview's rows for display: first those of breakers that the act moves."""
    return [
        {**row, "from": state_badge(row["from"]), "to": state_badge(row["to"])}
        for row in sorted(rows, key=lambda row: row["from"] == row["to"])
    ]


class SingleBreakerOperation(ConfirmedOperation):
    """An act on one breaker, by somebody who has seen it at one generation."""

    template = "admin/analytics_admin/confirm_one.html"
    form = ConfirmBreakerForm

    def __init__(
        self, page: DomainAdmin, request: HttpRequest, name: str, *, url: str, back: str
    ) -> None:
        super().__init__(page, request, url=url, back=back)
        self.name = name

    def initial_form(self) -> forms.Form:
        """What the breaker's page asked for is taken over, and checked like the rest."""
        return self.form(self.request.POST)

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"name": self.name, "expected_generation": options["expected_generation"]}

    def answer_changed(self, error: BreakerChanged) -> HttpResponse:
        """Show the confirm page again, with the breaker as it is now and the words given."""
        now = error.status.generation
        form = self.form({**self.request.POST.dict(), "expected_generation": now})
        if not form.is_valid():
            return super().answer_changed(error)
        messages.error(self.request, format_changed(error))
        return self.confirm(form)

    def perform(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        try:
            return super().perform(options, dry_run=dry_run)
        except UnknownBreakers as error:
            raise Http404(str(error)) from error

    def describe_preview(self, result: OperationResult) -> dict[str, Any]:
        (row,) = (result.preview or {})["breakers"]
        return {"before": state_badge(row["from"]), "after": state_badge(row["to"])}

    def describe(self) -> dict[str, Any]:
        """A control has words, and a template, of its own."""
        if (words := SINGLE_LABELS.get(self.act)) is None:
            return {"name": self.name}
        return {
            "name": self.name,
            "act_name": words.title,
            "question": words.question % {"name": self.name},
            "effect": words.effect,
            "button": words.button,
        }


class ControlOne(SingleBreakerOperation):
    act = Operation.Kind.CONTROL_CIRCUIT_BREAKERS
    template = "admin/analytics_admin/confirm_control.html"
    form = ConfirmControlForm

    def service(self, **arguments: Any) -> OperationResult:
        return services.set_breaker_control(**arguments)

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        released = options["control"] == AUTOMATIC
        return {
            **super().arguments(options),
            "control": options["control"],
            "for_seconds": None if released else options["for_seconds"],
        }

    def describe(self) -> dict[str, Any]:
        """The duration in the words in which it was chosen."""
        chosen = self.request.POST
        return {
            **super().describe(),
            "duration": dict(HOLD_FOR)[chosen["for_seconds"]],
            "effect": CONTROLS[chosen["control"]].effect,
        }


class ResetOne(SingleBreakerOperation):
    act = Operation.Kind.RESET_CIRCUIT_BREAKERS

    def service(self, **arguments: Any) -> OperationResult:
        return services.reset_circuit_breakers(**arguments)

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"names": [self.name], "expected_generation": options["expected_generation"]}


class ProbeOne(SingleBreakerOperation):
    act = Operation.Kind.ALLOW_PROBE

    def service(self, **arguments: Any) -> OperationResult:
        return services.allow_probe(**arguments)


class ForgetOne(SingleBreakerOperation):
    act = Operation.Kind.FORGET_CIRCUIT_BREAKER

    def __init__(
        self, page: DomainAdmin, request: HttpRequest, name: str, *, url: str, back: str
    ) -> None:
        super().__init__(page, request, name, url=url, back=back)
        self.done_url = page.url()  # the breaker's own page is gone then

    def service(self, **arguments: Any) -> OperationResult:
        return services.forget_breaker(**arguments)
