"""Messages that are English for programs and translatable for people.

The API, logs and audit rows have the English text; the console shows the reader's language.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from django.utils import translation
from django.utils.translation import ngettext_lazy

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise


MAX_COMPARED = 2000
"""Choices among which a misspelt one is looked for."""

__all__ = [
    "Message",
    "did_you_mean",
    "gettext_noop",
    "localized",
    "message_of",
    "ngettext_lazy",
    "translate_stored",
]


def gettext_noop(template: str) -> str:
    """Mark a text for makemessages. Django's own reads settings, which imports must not need."""
    return template


class Message(str):
    """An English text that can be translated later.

    ``template`` is marked by ``gettext_noop``, or a plural from ``ngettext_lazy``. It has
    ``%(name)s`` placeholders for ``parameters``, which may be messages themselves.
    """

    __slots__ = ("_parameters", "_template")

    _parameters: dict[str, Any]
    _template: "str | _StrPromise"

    def __new__(cls, template: "str | _StrPromise", **parameters: Any) -> Self:
        message = super().__new__(cls, _in_english(template, parameters))
        message._template = template
        message._parameters = parameters
        return message

    def localized(self) -> str:
        """Return the text in the active language."""
        template = self._template
        return _format(
            translation.gettext(template) if isinstance(template, str) else template,
            {name: localized(value) for name, value in self._parameters.items()},
        )


class OperatorError(Exception):
    """An error that an operator reads; ``code`` is for programs.

    ``reason`` says why, without the rest of the sentence. ``operation_id`` is the row in the audit
    trail, if there is one; ``partial_outcome`` is what was done before the error.
    """

    code: str

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: str = "",
        operation_id: UUID | None = None,
        partial_outcome: Mapping[str, Any] | None = None,
    ) -> None:
        self.message = message
        self.reason = reason or message
        self.code = code or self.code
        self.operation_id = operation_id
        self.partial_outcome = partial_outcome or {}
        super().__init__(message)


def did_you_mean(text: str, choices: Iterable[str], *, cutoff: float = 0.75) -> str:
    """Return the choice that this text may be a misspelling of; "" if there is none."""
    names = list(choices)
    by_small = {name.casefold(): name for name in names} if len(names) <= MAX_COMPARED else {}
    near = difflib.get_close_matches(text[:200].casefold(), by_small, n=1, cutoff=cutoff)
    return by_small[near[0]] if near else ""


def localized(text: Any) -> Any:
    """Return a message in the active language, and any other value unchanged."""
    return text.localized() if isinstance(text, Message) else text


def translate_stored(text: str) -> str:
    """Return a stored English text in the active language.

    Texts with data stay English: a row does not store their parameters.
    """
    return translation.gettext(text) if text else text


def message_of(error: Exception) -> str:
    """Return an exception's message, still translatable if it can be."""
    message = error.args[0] if error.args else ""
    return message if isinstance(message, Message) else str(error)


def _in_english(template: "str | _StrPromise", parameters: dict[str, Any]) -> str:
    if isinstance(template, str):  # asks no catalogue: a call in an outage must not wait for one
        return _format(template, parameters)
    with translation.override(None):
        return _format(template, parameters)


def _format(template: "str | _StrPromise", parameters: dict[str, Any]) -> str:
    return str(template % parameters if parameters else template)
