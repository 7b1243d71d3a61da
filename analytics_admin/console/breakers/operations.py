"""What operators do to circuit breakers: to all, to one, or to those selected in the list."""

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import gettext

from analytics_admin import services
from analytics_admin.console.base import DomainAdmin
from analytics_admin.console.breakers.labels import BULK_LABELS, SINGLE_LABELS
from analytics_admin.console.confirmation import ConfirmedOperation, format_changed
from analytics_admin.console.forms import (
    AUTOMATIC,
    HOLD_FOR,
    ConfirmBreakerForm,
    ConfirmControlForm,
    ConfirmControlSelectedForm,
    ConfirmResetForm,
    ConfirmSelectedForm,
)
from analytics_admin.console.labels import CONTROLS, state_badge
from analytics_admin.models import Operation
from analytics_admin.services import (
    BreakerChanged,
    OperationRejected,
    OperationResult,
    UnknownBreakers,
)

MAX_PREVIEW_ROWS = 100
NO_NAME = "-"
MAX_CARRIED_CHARACTERS = 1_000_000
"""Characters; Django takes forms of up to 2.5 MB."""
FILLED_IN = ("control", "for_seconds", "reason")


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
