"""What operators do to circuit breakers: to all, to one, or to those selected in the list."""

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import gettext

from analytics_admin.console.base import DomainAdmin
from analytics_admin.console.breakers.labels import BULK_LABELS, SINGLE_LABELS
from analytics_admin.console.confirmation import ConfirmedOperation, format_changed
from analytics_admin.console.forms import (
    AUTOMATIC,
    HOLD_DURATIONS,
    ConfirmBreakerForm,
    ConfirmControlForm,
    ConfirmControlSelectedForm,
    ConfirmResetForm,
    ConfirmSelectedForm,
)
from analytics_admin.console.labels import CONTROLS, state_badge
from analytics_admin.models import Operation
from analytics_admin.services.breakers import operations
from analytics_admin.services.errors import BreakerChanged, OperationRejected, UnknownBreakers
from analytics_admin.services.runner import OperationResult

MAX_PREVIEW_ROWS = 100
NO_NAME = "-"  # of a reset of no breaker
MAX_CARRIED_CHARACTERS = 1_000_000
"""Characters; Django takes forms of up to 2.5 MB."""
FILLED_IN = ("control", "for_seconds", "reason")


class ResetMany(ConfirmedOperation):
    """Resets all breakers; or the open ones, but none that opened after the confirm page."""

    kind = Operation.Kind.RESET_CIRCUIT_BREAKERS
    service = staticmethod(operations.reset_circuit_breakers)
    template = "admin/analytics_admin/confirm_reset.html"
    form = ConfirmResetForm

    def initial_form(self) -> forms.Form:
        return self.form(initial={"only_open": "only_open" in self.request.POST})

    def answer_changed(self, error: BreakerChanged) -> HttpResponse:
        """Show the page again with the new list and the given reason."""
        messages.error(self.request, format_changed(error))
        reason = self.request.POST.get("reason", "")
        return self.confirm(self.form(initial={"only_open": True, "reason": reason}))

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        listed = str(options.get("seen") or "").split()
        return {
            "only_open": options["only_open"],
            "previewed": frozenset(listed) if options["only_open"] and listed else None,
        }

    def describe_preview(self, result: OperationResult) -> dict[str, Any]:
        """List breakers that change state first, and only count the rest of a long list.

        For a reset of the open ones, the form carries those listed.
        """
        preview = result.preview or {}
        if self.shown.initial.get("only_open"):
            self.shown.initial["seen"] = names_of(preview["breakers"])
        breakers = preview_rows(preview["breakers"])
        return {
            "preview": preview,
            "shown": breakers[:MAX_PREVIEW_ROWS],
            "unshown": len(breakers[MAX_PREVIEW_ROWS:]),
        }


def names_of(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a preview's names as a form carries them; "" if they are too many."""
    names = " ".join(row["name"] for row in rows) or NO_NAME
    return names if len(names) <= MAX_CARRIED_CHARACTERS else ""


def preview_rows(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return a preview's rows, those of breakers that change state first."""
    return [
        {**row, "from": state_badge(row["from"]), "to": state_badge(row["to"])}
        for row in sorted(rows, key=lambda row: row["from"] == row["to"])
    ]


class SingleBreakerOperation(ConfirmedOperation):
    """An operation on one breaker, at the generation that its page showed."""

    template = "admin/analytics_admin/confirm_one.html"
    form = ConfirmBreakerForm

    def __init__(
        self, page: DomainAdmin, request: HttpRequest, name: str, *, url: str, back: str
    ) -> None:
        super().__init__(page, request, url=url, back=back)
        self.name = name

    def initial_form(self) -> forms.Form:
        """Take over, and check, what the breaker's page asked for."""
        return self.form(self.request.POST)

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"name": self.name, "expected_generation": options["expected_generation"]}

    def answer_changed(self, error: BreakerChanged) -> HttpResponse:
        """Show the confirm page again, with the breaker as it is now and the given reason."""
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
        """Return the texts of ``template``; ControlOne has its own."""
        if (labels := SINGLE_LABELS.get(self.kind)) is None:
            return {"name": self.name}
        return {
            "name": self.name,
            "operation_name": labels.title,
            "question": labels.question % {"name": self.name},
            "effect": labels.effect,
            "button": labels.button,
        }


class ControlOne(SingleBreakerOperation):
    kind = Operation.Kind.CONTROL_CIRCUIT_BREAKERS
    service = staticmethod(operations.set_breaker_control)
    template = "admin/analytics_admin/confirm_control.html"
    form = ConfirmControlForm

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        released = options["control"] == AUTOMATIC
        return {
            **super().arguments(options),
            "control": options["control"],
            "for_seconds": None if released else options["for_seconds"],
        }

    def describe(self) -> dict[str, Any]:
        """Show the duration as it was chosen."""
        chosen = self.request.POST
        return {
            **super().describe(),
            "duration": dict(HOLD_DURATIONS)[chosen["for_seconds"]],
            "effect": CONTROLS[chosen["control"]].effect,
        }


class ResetOne(SingleBreakerOperation):
    kind = Operation.Kind.RESET_CIRCUIT_BREAKERS
    service = staticmethod(operations.reset_circuit_breakers)

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"names": [self.name], "expected_generation": options["expected_generation"]}


class ProbeOne(SingleBreakerOperation):
    kind = Operation.Kind.ALLOW_PROBE
    service = staticmethod(operations.allow_probe)


class ForgetOne(SingleBreakerOperation):
    kind = Operation.Kind.FORGET_CIRCUIT_BREAKER
    service = staticmethod(operations.forget_breaker)

    def __init__(
        self, page: DomainAdmin, request: HttpRequest, name: str, *, url: str, back: str
    ) -> None:
        super().__init__(page, request, name, url=url, back=back)
        self.done_url = page.url()  # the breaker's page is gone then


class SelectedBreakersOperation(ConfirmedOperation):
    """An operation on several breakers, each at the generation that the confirm page showed.

    If one has moved since, nothing is done and the page is shown again.
    """

    template = "admin/analytics_admin/confirm_selected.html"
    form = ConfirmSelectedForm

    def label_key(self) -> str:
        """Return the key of this operation in BULK_LABELS."""
        raise NotImplementedError

    def initial_form(self) -> forms.Form:
        return self.form_for({})

    def form_for(self, chosen: dict[str, Any]) -> forms.Form:
        """Return the confirm page's form; the preview fills in the breakers' generations.

        They stay unknown while the store is away. Then the operation is rejected once the store
        is back, and the page is shown again.
        """
        names = self.selected_names()
        return self.form(initial={**chosen, "names": names, "generations": [""] * len(names)})

    def selected_names(self) -> list[str]:
        """Return the selected names, each once."""
        return sorted(set(self.request.POST.getlist("names")))

    def describe_preview(self, result: OperationResult) -> dict[str, Any]:
        """Fill in names and generations; a bound form keeps those that were sent."""
        seen = result.generations or {}
        self.shown.initial.update(names=list(seen), generations=list(seen.values()))
        return {"shown": preview_rows((result.preview or {})["breakers"])}

    def describe(self) -> dict[str, Any]:
        labels, names = BULK_LABELS[self.label_key()], self.selected_names()
        return {
            "question": labels.question,
            "button": labels.button % {"number": len(names)},
            "selected": names,
        }

    def answer_changed(self, error: BreakerChanged) -> HttpResponse:
        """Show the page again with the new states, and with what the operator filled in."""
        messages.error(self.request, format_changed(error))
        post = self.request.POST
        filled_in = {field: post[field] for field in FILLED_IN if field in post}
        return self.confirm(self.form_for(filled_in))

    def perform(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        """Insist on the generations that were shown; a preview accepts any."""
        names = options["names"]
        if not names:
            message = gettext("Select at least one circuit breaker.")
            raise OperationRejected(message, code="invalid")
        if dry_run:  # the form may still ask for how long
            options = {**options, "generations": None, "for_seconds": None}
        return super().perform(options, dry_run=dry_run)

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        names, seen = options["names"], options["generations"]
        expected = None if seen is None else dict(zip(names, seen, strict=True))
        return {"names": list(dict.fromkeys(names)), "expected_generation": expected}


class ResetSelected(SelectedBreakersOperation):
    kind = Operation.Kind.RESET_CIRCUIT_BREAKERS
    service = staticmethod(operations.reset_circuit_breakers)

    def label_key(self) -> str:
        return "reset"

    def describe(self) -> dict[str, Any]:
        effect = gettext("They close with zero counts, and any hold ends. Calls pass again.")
        return {**super().describe(), "effect": effect}


class ControlSelected(SelectedBreakersOperation):
    kind = Operation.Kind.CONTROL_CIRCUIT_BREAKERS
    service = staticmethod(operations.set_breaker_controls)
    form = ConfirmControlSelectedForm

    def label_key(self) -> str:
        return self.request.POST["control"]

    def initial_form(self) -> forms.Form:
        control = self.request.POST.get("control", "")
        if control not in CONTROLS:
            raise OperationRejected(gettext("Unknown control."), code="invalid")
        return self.form_for({"control": control})

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "effect": CONTROLS[self.label_key()].effect}

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        seconds = options.get("for_seconds")  # as it was sent, when the page is shown again
        held = {"control": options["control"], "for_seconds": float(seconds) if seconds else None}
        return {**super().arguments(options), **held}
