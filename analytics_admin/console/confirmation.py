"""One act through the admin: the confirm page, the act, its message, its entry in the admin's log.

Knows no act: each says which service it calls, on which words, and where its page is.
"""

import logging
from contextlib import suppress
from typing import Any, ClassVar
from uuid import UUID, uuid4

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import Error, router, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.utils.text import Truncator
from django.utils.translation import gettext

from analytics_admin import services
from analytics_admin.console.base import DomainAdmin, disabled_reason
from analytics_admin.console.equivalents import command_equivalents, curl_equivalents
from analytics_admin.console.forms import ConfirmForm, drop_errors_of_unseen_fields
from analytics_admin.i18n import localized, translate_stored
from analytics_admin.models import Operation
from analytics_admin.services import Actor, OperationResult, failure_message
from analytics_admin.services.errors import (
    BreakerChanged,
    DuplicateOperation,
    OperationDenied,
    OperationFailed,
    OperationRejected,
    OperatorError,
)

logger = logging.getLogger("analytics_admin.console")

CONFIRMED = "confirmed"
ATTEMPT = "attempt"
MAX_MESSAGE_LENGTH = 500


class ConfirmedOperation:
    """One request about one act: the pressed button, or the confirm page sent back."""

    act: ClassVar[Operation.Kind]
    template: ClassVar[str]
    form: ClassVar[type[ConfirmForm]] = ConfirmForm

    def __init__(self, page: DomainAdmin, request: HttpRequest, *, url: str, back: str) -> None:
        """``url`` is where this act is posted to, ``back`` the page that offers it."""
        self.page = page
        self.request = request
        self.url = url
        self.back = back
        self.done_url = back  # where the act leads once it is done
        self.operation_id: UUID | None = None  # the confirm page's, once it is sent back
        self.shown: forms.Form  # by the confirm page; a preview may still fill it in

    def initial_form(self) -> forms.Form:
        """Return the confirm page's form as the pressed button has filled it."""
        return self.form()

    def service(self, **arguments: Any) -> OperationResult:
        """Call the service of the act."""
        raise NotImplementedError

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return what the service is called with beside actor, reason, dry run and id.

        ``options`` are the confirm form's fields.
        """
        return {}

    def perform(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        """Do what the confirm form's fields ask for, once under its ``operation_id``."""
        return self.service(
            **self.arguments(options),
            actor=self.actor,
            reason=options["reason"],
            dry_run=dry_run,
            operation_id=self.operation_id,
        )

    def describe_preview(self, result: OperationResult) -> dict[str, Any]:
        """Return the confirm page's words about a dry run."""
        return {"preview": result.preview}

    def describe(self) -> dict[str, Any]:
        """Return what else the confirm page says."""
        return {}

    def answer_changed(self, error: BreakerChanged) -> HttpResponse:
        """Answer an act that was not done, because a breaker is not what its operator saw."""
        return self.go_back(format_changed(error))

    def answer_duplicate(self, first: Operation | None) -> HttpResponse:
        """Answer a confirm page that was sent before: say what came of it, and do nothing.

        ``first`` is None where the one who asks is not the one who sent it.
        """
        level, words = format_duplicate(first)
        messages.add_message(self.request, level, Truncator(words).chars(MAX_MESSAGE_LENGTH))
        return HttpResponseRedirect(self.back if level == messages.ERROR else self.done_url)

    def respond(self) -> HttpResponse:
        """Ask for confirmation; once confirmed, act and go back to the page with a message."""
        if self.request.method != "POST":
            return self._answer_harmlessly()
        self._require_permission()
        if disabled := disabled_reason(self.request, self.act):
            return self.go_back(disabled)
        try:
            return self._confirm_or_act()
        except OperationDenied as error:  # the permission went in this very moment
            raise PermissionDenied from error
        except BreakerChanged as error:
            return self.go_back(format_changed(error))
        except DuplicateOperation as error:
            return self.answer_duplicate(error.first)
        except OperatorError as error:
            return self.go_back(Truncator(localized(error.message)).chars(MAX_MESSAGE_LENGTH))

    @property
    def actor(self) -> Actor:
        return Actor.from_user(self.request.user, channel=Operation.Channel.ADMIN)

    def _answer_harmlessly(self) -> HttpResponse:
        if not self.page.has_view_permission(self.request):
            raise PermissionDenied
        if self.request.method == "GET":  # a reload, or back from a login in between
            messages.info(self.request, gettext("Nothing was done. Press the button again."))
        if self.request.method in {"GET", "HEAD"}:
            return HttpResponseRedirect(self.back)
        return HttpResponseNotAllowed(["POST"])

    def _require_permission(self) -> None:
        user = self.request.user
        if self.page.has_view_permission(self.request) and services.is_allowed(user, self.act):
            return
        with suppress(OperationFailed):  # logged there; refused all the same
            services.deny(self.act, actor=self.actor)
        raise PermissionDenied

    def _confirm_or_act(self) -> HttpResponse:
        confirmed = CONFIRMED in self.request.POST
        if confirmed:
            self.operation_id = read_attempt(self.request)
        form = self.form(self.request.POST) if confirmed else self.initial_form()
        if unusable := hidden_field_errors(form):
            return self.go_back(unusable)
        if not confirmed:
            drop_errors_of_unseen_fields(form)
        if not confirmed or not form.is_valid():
            return self.confirm(form)
        try:
            result = self.perform(form.cleaned_data, dry_run=False)
        except BreakerChanged as error:
            return self.answer_changed(error)
        # By this tag the page that comes next leads on to the act's own.
        done_as = f"aa-act-{result.operation_id}"
        messages.success(self.request, localized(result.message), extra_tags=done_as)
        self._mirror(result)
        return HttpResponseRedirect(self.done_url)

    def confirm(self, form: forms.Form) -> HttpResponse:
        """Ask; what the preview has found, the form may carry."""
        self.operation_id = None  # whatever was sent before, this page is a new attempt
        self.shown = form
        preview = self._preview()
        options = self._options()
        context: dict[str, Any] = {
            "form": form,
            "attempt": uuid4(),
            "actor": self.request.user.get_username(),
            "act_url": self.url,
            "back_url": self.back,
            "options": options,
            "lines": self._lines(options),
            **self.describe(),
            **preview,
        }
        return self.page.render(self.request, self.template, context)

    def _options(self) -> dict[str, Any]:
        """Return what the confirm page asks about."""
        return dict(self.shown.cleaned_data if self.shown.is_bound else self.shown.initial)

    def _preview(self) -> dict[str, Any]:
        """Return the words about a dry run; one that fails stops nobody: the act may succeed."""
        try:
            result = self.perform({**self._options(), "reason": ""}, dry_run=True)
        except OperationFailed as error:
            return {"preview_failure": localized(error.reason)}
        return self.describe_preview(result)

    def _lines(self, options: dict[str, Any]) -> dict[str, str]:
        """Return the same act as the other doors are asked for it."""
        asked_for = {**self.arguments(options), "reason": options.get("reason", "")}
        curl = curl_equivalents(self.act, asked_for, absolute=self.request.build_absolute_uri)
        return {
            "curl": "\n".join(curl),
            "command": "\n".join(command_equivalents(self.act, asked_for)),
        }

    def go_back(self, complaint: str) -> HttpResponse:
        """Return to the page that offers the act, with the complaint."""
        messages.error(self.request, complaint)
        return HttpResponseRedirect(self.back)

    def _mirror(self, result: OperationResult) -> None:
        """Put the act among the admin's recent actions; it is done, whatever becomes of this."""
        user_id: Any = self.request.user.pk
        operation_id: Any = result.operation_id
        rows = Operation.objects.using(router.db_for_write(Operation))  # a replica may be behind
        try:
            with transaction.atomic(using=router.db_for_write(LogEntry)):
                LogEntry.objects.log_actions(
                    user_id,
                    rows.filter(pk=operation_id),
                    CHANGE,
                    change_message=result.message,
                )
        except Error as error:
            logger.warning(
                "operation %s is missing among the admin's recent actions: %s",
                operation_id,
                type(error).__name__,
            )


def read_attempt(request: HttpRequest) -> UUID | None:
    """Return the id that the confirm page was given, so that it is an act once; a script has none.

    Raises:
        OperationRejected: it is none that a confirm page ever had.
    """
    given = request.POST.getlist(ATTEMPT)
    if not given:
        return None
    with suppress(ValueError):
        if str(found := UUID(given[0])) == given[0] and len(given) == 1:
            return found
    words = gettext("The confirmation page is damaged. Nothing was done.")
    raise OperationRejected(words, code="invalid")


def format_duplicate(first: Operation | None) -> tuple[int, str]:
    """Return how grave it is that an act is asked for twice, and what its operator reads."""
    if first is None or first.status == Operation.Status.DENIED:
        return messages.ERROR, gettext("This page was already submitted. Nothing was done.")
    if first.status == Operation.Status.DONE:
        done = translate_stored(first.message) or first.get_kind_display()
        return messages.SUCCESS, gettext("This was already done: %(message)s") % {"message": done}
    if first.is_interrupted:
        return messages.ERROR, gettext("This was already started; its outcome is unknown.")
    if first.status == Operation.Status.STARTED:
        return messages.INFO, gettext("This is already in progress.")
    failure = localized(failure_message(first.kind, translate_stored(first.error)))
    return messages.ERROR, gettext("This was already tried: %(failure)s") % {"failure": failure}


def format_changed(error: BreakerChanged) -> str:
    """Return what an operator reads whose view of a breaker was stale."""
    if error.reached:
        words = gettext("%(event)s. Check them as they are now, then decide again.")
    else:
        words = gettext("%(event)s: nothing was done. Check it as it is now, then decide again.")
    return words % {"event": localized(error.message)}


def hidden_field_errors(form: forms.Form) -> str:
    """Return what is wrong with the fields that the confirm page does not show; mostly nothing."""
    errors = [
        gettext("%(field)s: %(error)s") % {"field": field.label, "error": error}
        for field in form.hidden_fields()
        if form.is_bound
        for error in field.errors
    ]
    return Truncator(" ".join(errors)).chars(MAX_MESSAGE_LENGTH)
