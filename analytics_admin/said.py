"""What is said to operators: English wherever programs read it, translatable where people do.

The API, logs and audit rows hold the English text; the console shows it in its reader's language.
"""

from typing import TYPE_CHECKING, Any, Self

from django.utils import translation

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise


class Said(str):
    """An English sentence that remembers what it was made of.

    ``words`` is a lazy translation with ``%(name)s`` places, or ``%(number)d`` ones of a lazy
    plural; what is given for them may itself be ``Said``.
    """

    __slots__ = ("_given", "_words")

    def __new__(cls, words: "_StrPromise", **given: Any) -> Self:
        with translation.override(None):
            said = super().__new__(cls, words % given if given else str(words))
        said._words = words
        said._given = given
        return said

    def here(self) -> str:
        """Return the sentence in the language that is active now."""
        if not self._given:
            return str(self._words)
        return self._words % {name: here(value) for name, value in self._given.items()}


def here(text: Any) -> Any:
    """Return the text in the language that is active now; any other value as it is."""
    return text.here() if isinstance(text, Said) else text
