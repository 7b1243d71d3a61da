"""The acts on the circuit breakers that were ticked in the list: reset, hold, release them.

Each is done to the breakers as the confirm page showed them: if one has moved since, nothing is
done and the page is shown again.
"""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.utils.translation import gettext

from analytics_admin import services
from analytics_admin.console.breakers.operations import movers_first
from analytics_admin.console.confirmation import ConfirmedOperation, format_changed
from analytics_admin.console.forms import ConfirmControlSelectedForm, ConfirmSelectedForm
from analytics_admin.console.labels import BULK_LABELS, CONTROLS
from analytics_admin.models import Operation
from analytics_admin.services import BreakerChanged, OperationRejected, OperationResult

FILLED_IN = ("control", "for_seconds", "reason")


class SelectedBreakersOperation(ConfirmedOperation):
    """An act on several breakers, each at the generation that the confirm page has shown."""

    template = "admin/analytics_admin/confirm_selected.html"
    form = ConfirmSelectedForm

    def words_of(self) -> str:
        """Return which of BULK_LABELS this act is."""
        raise NotImplementedError

    def initial_form(self) -> forms.Form:
        return self.form_for({})

    def form_for(self, chosen: dict[str, Any]) -> forms.Form:
        """Return the confirm page's form, which the preview tells the breakers' generations.

        None is known while the store is away: an act on those is refused, and shown again, once
        the store is back, for nobody has seen them.
        """
        names = self.ticked()
        return self.form(initial={**chosen, "names": names, "generations": [""] * len(names)})

    def ticked(self) -> list[str]:
        """Return the names that were sent, each once."""
        return sorted(set(self.request.POST.getlist("names")))

    def describe_preview(self, result: OperationResult) -> dict[str, Any]:
        """A form that was sent already keeps what its sender has seen."""
        seen = result.generations or {}
        self.shown.initial.update(names=list(seen), generations=list(seen.values()))
        return {"shown": movers_first((result.preview or {})["breakers"])}

    def describe(self) -> dict[str, Any]:
        words, names = BULK_LABELS[self.words_of()], self.ticked()
        return {
            "question": words.question,
            "button": words.button % {"number": len(names)},
            "selected": names,
        }

    def answer_changed(self, error: BreakerChanged) -> HttpResponse:
        """Show the page again with the new facts, and with what the operator had filled in."""
        messages.error(self.request, format_changed(error))
        post = self.request.POST
        filled_in = {field: post[field] for field in FILLED_IN if field in post}
        return self.confirm(self.form_for(filled_in))

    def perform(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        """A preview shows what there is; the act insists on what was seen."""
        names = options["names"]
        if not names:
            words = gettext("No circuit breaker is selected: tick at least one.")
            raise OperationRejected(words, code="invalid")
        if dry_run:  # the form may still ask for how long
            options = {**options, "generations": None, "for_seconds": None}
        return super().perform(options, dry_run=dry_run)

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        names, seen = options["names"], options["generations"]
        expected = None if seen is None else dict(zip(names, seen, strict=True))
        return {"names": list(dict.fromkeys(names)), "expected_generation": expected}


class ResetSelected(SelectedBreakersOperation):
    act = Operation.Kind.RESET_CIRCUIT_BREAKERS

    def words_of(self) -> str:
        return "reset"

    def describe(self) -> dict[str, Any]:
        effect = gettext("They will be closed with zero counts, and holds end. Calls pass again.")
        return {**super().describe(), "effect": effect}

    def service(self, **arguments: Any) -> OperationResult:
        return services.reset_circuit_breakers(**arguments)


class ControlSelected(SelectedBreakersOperation):
    act = Operation.Kind.CONTROL_CIRCUIT_BREAKERS
    form = ConfirmControlSelectedForm

    def words_of(self) -> str:
        return self.request.POST["control"]

    def initial_form(self) -> forms.Form:
        control = self.request.POST.get("control", "")
        if control not in CONTROLS:
            raise OperationRejected(gettext("No such control."), code="invalid")
        return self.form_for({"control": control})

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "effect": CONTROLS[self.words_of()].effect}

    def service(self, **arguments: Any) -> OperationResult:
        return services.set_breaker_controls(**arguments)

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        seconds = options.get("for_seconds")  # as it was sent, when the page is shown again
        held = {"control": options["control"], "for_seconds": float(seconds) if seconds else None}
        return {**super().arguments(options), **held}
