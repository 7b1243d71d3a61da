"""An operation in the admin: confirm page, execution, message, entry in the admin's log."""

from collections.abc import Callable
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

from analytics_admin import permissions
from analytics_admin.console.base import DomainAdmin, disabled_reason
from analytics_admin.console.equivalents import command_equivalents, curl_equivalents
from analytics_admin.console.forms import ConfirmForm, drop_errors_of_unseen_fields
from analytics_admin.console.obedience import operation_tag
from analytics_admin.i18n import localized, translate_stored
from analytics_admin.models import Operation
from analytics_admin.services import runner
from analytics_admin.services.audit import Actor, client_of
from analytics_admin.services.errors import (
    BreakerChanged,
    DuplicateOperation,
    OperationDenied,
    OperationFailed,
    OperationRejected,
    OperatorError,
    get_logger,
)
from analytics_admin.services.runner import OperationResult, failure_message

logger = get_logger("analytics_admin.console")

CONFIRMED = "confirmed"
ATTEMPT = "attempt"
MAX_MESSAGE_LENGTH = 500


class ConfirmedOperation:
    """One request for an operation: a pressed button, or a submitted confirm page."""

    kind: ClassVar[Operation.Kind]
    service: ClassVar[Callable[..., OperationResult]]
    template: ClassVar[str]
    form: ClassVar[type[ConfirmForm]] = ConfirmForm

    def __init__(self, page: DomainAdmin, request: HttpRequest, *, url: str, back: str) -> None:
        """``url`` is where the form is posted to, ``back`` the page that offers the operation."""
        self.page = page
        self.request = request
        self.url = url
        self.back = back
        self.done_url = back  # where to go once it is done
        self.operation_id: UUID | None = None  # from the submitted confirm page
        self.shown: forms.Form  # on the confirm page; a preview may fill it in

    def initial_form(self) -> forms.Form:
        """Return the confirm page's form as the pressed button fills it."""
        return self.form()

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the service's arguments but actor, reason, dry run and id.

        ``options`` are the confirm form's fields.
        """
        return {}

    def perform(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        """Call the service with the confirm form's fields; its ``operation_id`` counts once."""
        return self.service(
            **self.arguments(options),
            actor=self.actor,
            reason=options["reason"],
            dry_run=dry_run,
            operation_id=self.operation_id,
        )

    def describe_preview(self, result: OperationResult) -> dict[str, Any]:
        """Return the confirm page's context about a dry run."""
        return {"preview": result.preview}

    def describe(self) -> dict[str, Any]:
        """Return more context of the confirm page."""
        return {}

    def answer_changed(self, error: BreakerChanged) -> HttpResponse:
        """Answer an operation that was not done because a breaker has changed."""
        return self.go_back(format_changed(error))

    def answer_duplicate(self, first: Operation | None) -> HttpResponse:
        """Answer a confirm page that was submitted before: report its result, and do nothing.

        ``first`` is None where somebody else submitted it.
        """
        level, text = format_duplicate(first)
        messages.add_message(self.request, level, Truncator(text).chars(MAX_MESSAGE_LENGTH))
        return HttpResponseRedirect(self.back if level == messages.ERROR else self.done_url)

    def respond(self) -> HttpResponse:
        """Ask for confirmation; once confirmed, execute and go back with a message."""
        if self.request.method != "POST":
            return self._answer_other_method()
        self._require_permission()
        if disabled := disabled_reason(self.request, self.kind):
            return self.go_back(disabled)
        try:
            return self._confirm_or_execute()
        except OperationDenied as error:  # the permission was withdrawn meanwhile
            raise PermissionDenied from error
        except BreakerChanged as error:
            return self.go_back(format_changed(error))
        except DuplicateOperation as error:
            return self.answer_duplicate(error.first)
        except OperatorError as error:
            return self.go_back(Truncator(localized(error.message)).chars(MAX_MESSAGE_LENGTH))

    @property
    def actor(self) -> Actor:
        return Actor.from_user(
            self.request.user, channel=Operation.Channel.ADMIN, client=client_of(self.request)
        )

    def _answer_other_method(self) -> HttpResponse:
        if not self.page.has_view_permission(self.request):
            raise PermissionDenied
        if self.request.method == "GET":  # a reload, or a login in between
            messages.info(self.request, gettext("Nothing was done. Press the button again."))
        if self.request.method in {"GET", "HEAD"}:
            return HttpResponseRedirect(self.back)
        return HttpResponseNotAllowed(["POST"])

    def _require_permission(self) -> None:
        user = self.request.user
        if self.page.has_view_permission(self.request) and permissions.is_allowed(user, self.kind):
            return
        with suppress(OperationFailed):  # logged there; denied all the same
            runner.deny(self.kind, actor=self.actor)
        raise PermissionDenied

    def _confirm_or_execute(self) -> HttpResponse:
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
        # By this tag the next page says how many obey, and links to the operation's own.
        tag = operation_tag(result)
        messages.success(self.request, localized(result.message), extra_tags=tag)
        for warning in result.warnings:
            messages.warning(
                self.request, gettext("%(warning)s.") % {"warning": localized(warning)}
            )
        self._log_to_admin(result)
        return HttpResponseRedirect(self.done_url)

    def confirm(self, form: forms.Form) -> HttpResponse:
        """Show the confirm page; its form may carry what the preview found."""
        self.operation_id = None  # this page is a new attempt, whatever was submitted before
        self.shown = form
        preview = self._preview()
        options = self._options()
        context: dict[str, Any] = {
            "form": form,
            "attempt": uuid4(),
            "actor": self.actor.name,
            "action_url": self.url,
            "back_url": self.back,
            "options": options,
            "equivalents": self._equivalents(options),
            **self.describe(),
            **preview,
        }
        return self.page.render(self.request, self.template, context)

    def _options(self) -> dict[str, Any]:
        """Return the fields of the form on the confirm page."""
        return dict(self.shown.cleaned_data if self.shown.is_bound else self.shown.initial)

    def _preview(self) -> dict[str, Any]:
        """Return the context about a dry run; if it fails, the operation may still succeed."""
        try:
            result = self.perform({**self._options(), "reason": ""}, dry_run=True)
        except OperationFailed as error:
            return {"preview_failure": localized(error.reason)}
        return self.describe_preview(result)

    def _equivalents(self, options: dict[str, Any]) -> dict[str, str]:
        """Return the same operation as a REST request and as a command."""
        arguments = {**self.arguments(options), "reason": options.get("reason", "")}
        curl = curl_equivalents(self.kind, arguments, absolute=self.request.build_absolute_uri)
        return {
            "curl": "\n".join(curl),
            "command": "\n".join(command_equivalents(self.kind, arguments)),
        }

    def go_back(self, complaint: str) -> HttpResponse:
        """Redirect to the page that offers the operation, with the complaint."""
        messages.error(self.request, complaint)
        return HttpResponseRedirect(self.back)

    def _log_to_admin(self, result: OperationResult) -> None:
        """Add the operation to the admin's recent actions; it is done even if this fails."""
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
    """Return the confirm page's id, which makes it count once; None from a script without one.

    Raises:
        OperationRejected: no confirm page had such an id.
    """
    ids = request.POST.getlist(ATTEMPT)
    if not ids:
        return None
    with suppress(ValueError):
        if str(attempt := UUID(ids[0])) == ids[0] and len(ids) == 1:
            return attempt
    message = gettext("The confirmation page is damaged. Nothing was done.")
    raise OperationRejected(message, code="invalid")


def format_duplicate(first: Operation | None) -> tuple[int, str]:
    """Return level and text of the message about an operation that was submitted twice."""
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
    """Return the message about breakers that changed since they were shown."""
    if error.reached:
        text = gettext("%(event)s. Check them as they are now, then decide again.")
    else:
        text = gettext("%(event)s: nothing was done. Check it as it is now, then decide again.")
    return text % {"event": localized(error.message)}


def hidden_field_errors(form: forms.Form) -> str:
    """Return the errors of the fields that the confirm page hides; mostly none."""
    errors = [
        gettext("%(field)s: %(error)s") % {"field": field.label, "error": error}
        for field in form.hidden_fields()
        if form.is_bound
        for error in field.errors
    ]
    return Truncator(" ".join(errors)).chars(MAX_MESSAGE_LENGTH)
