"""What is said to operators: English wherever programs read it, translatable where people do.

The API, logs and audit rows hold the English text; the console shows it in its reader's language.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from django.utils import translation
from django.utils.translation import ngettext_lazy

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise


__all__ = [
    "Message",
    "gettext_noop",
    "localized",
    "message_of",
    "ngettext_lazy",
    "translate_stored",
]


def gettext_noop(words: str) -> str:
    """Mark words for makemessages. Django's own reads the settings, which no import may need."""
    return words


class Message(str):
    """An English sentence that remembers what it was made of.

    ``words`` is a text marked by ``gettext_noop``, or a plural made by ``ngettext_lazy``; it has
    ``%(name)s`` places for what is ``given``, which may itself be ``Message``.
    """

    __slots__ = ("_given", "_words")

    _given: dict[str, Any]
    _words: "str | _StrPromise"

    def __new__(cls, words: "str | _StrPromise", **given: Any) -> Self:
        said = super().__new__(cls, _in_english(words, given))
        said._words = words
        said._given = given
        return said

    def localized(self) -> str:
        """Return the sentence in the language that is active now."""
        return _filled(
            translation.gettext(self._words) if isinstance(self._words, str) else self._words,
            {name: localized(value) for name, value in self._given.items()},
        )


class OperatorError(Exception):
    """What an operator is told when something cannot be done; ``code`` is for programs.

    ``reason`` says why, without the rest of the sentence. ``operation_id`` is the row that was
    left in the audit trail, if any; ``partial_outcome`` is what was done until then.
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


def localized(text: Any) -> Any:
    """Return the text in the language that is active now; any other value as it is."""
    return text.localized() if isinstance(text, Message) else text


def translate_stored(text: str) -> str:
    """Return English words that were put on record in the language that is active now.

    Words that hold data stay as they are: a record does not tell which.
    """
    return translation.gettext(text) if text else text


def message_of(error: Exception) -> str:
    """Return what the exception says, still translatable where it is: str() has the English."""
    said = error.args[0] if error.args else ""
    return said if isinstance(said, Message) else str(error)


def _in_english(words: "str | _StrPromise", given: dict[str, Any]) -> str:
    if isinstance(words, str):  # asks no catalogue: a call in an outage must not wait for one
        return _filled(words, given)
    with translation.override(None):
        return _filled(words, given)


def _filled(words: "str | _StrPromise", given: dict[str, Any]) -> str:
    return str(words % given if given else words)
