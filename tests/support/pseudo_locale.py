"""A language that no program knows by heart: what was translated stands between ⟦ and ⟧.

Only the words of a text do, not what is put into its places: that is data, or has to be translated
itself. What a page shows outside of such brackets was not translated, unless it is marked as data.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from html.parser import HTMLParser
from typing import Any

from django.utils import translation
from django.utils.translation import trans_real

PSEUDO = "he"  # one that Django knows, and that is written from right to left
PLACES = re.compile(r"(%(?:\(\w+\))?[-0-9.]*[a-z]|\{\w*\})")

READ_ALOUD = {"alt", "aria-description", "aria-label", "placeholder", "title"}
"""Attributes that people read, beside those that begin with ``data-``, from which scripts speak."""
CODE = {
    *("data-aa-as", "data-key", "data-now", "data-seconds", "data-tag"),
    *("data-filter-title",),  # Django's own list: by it a filter stays open
}
"""Attributes of that kind that only programs read."""
DATA = {"code", "pre", "q", "time"}
"""Elements whose text is nobody's to translate."""
UNSEEN = {"script", "style", "template"}
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
INLINE = {"a", "b", "bdi", "code", "em", "q", "span", "strong", "time"}
BUTTONS = {"submit", "button", "reset"}


@cache  # a page asks for hundreds, and most of them again
def _bracketed(message: str) -> str:
    words = message.rsplit(chr(4), 1)[-1]  # what stands before it is the context
    return "".join(
        part if PLACES.fullmatch(part) or not part.strip() else f"⟦{part}⟧"
        for part in PLACES.split(words)
    )


class _Pseudo:
    """Stands where Django keeps a language's catalogue."""

    domain = "django"

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def gettext(self, message: str) -> str:
        return _bracketed(message)

    def ngettext(self, singular: str, plural: str, number: int) -> str:
        return self.gettext(singular if number == 1 else plural)


@contextmanager
def pseudo_locale() -> Iterator[str]:
    """Let the language PSEUDO be the pseudo one; yields its code."""
    real = trans_real.translation(PSEUDO)
    trans_real._translations[PSEUDO] = _Pseudo(real)
    try:
        with translation.override(PSEUDO):
            yield PSEUDO
    finally:
        trans_real._translations[PSEUDO] = real


class _Texts(HTMLParser):
    """Finds the texts of a page, each as a whole: a sentence may hold a link or a number."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[str] = []
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._begin_or_end(tag)
        given = dict(attributes)
        told = {name for name in given if name.startswith("data-")} - CODE
        told |= READ_ALOUD.intersection(given) if tag != "time" else set()
        if tag == "input" and given.get("type") in BUTTONS:
            told.add("value")
        self.found += [given[name] or "" for name in sorted(told)]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._begin_or_end(tag)
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        unread = (UNSEEN | DATA).intersection(self._open)
        self._text.append(data if not unread else " ")

    def close(self) -> None:
        super().close()
        self._begin_or_end("")

    def _begin_or_end(self, tag: str) -> None:
        if tag not in INLINE:
            self.found.append("".join(self._text))
            self._text = []


def texts(page: str) -> list[str]:
    """Return the texts of a page, seen or read aloud or said by its scripts, without data."""
    parser = _Texts()
    parser.feed(page.replace("<wbr>", ""))  # where a word may break
    parser.close()
    return [" ".join(text.split()) for text in parser.found]


def untranslated(page: str) -> list[str]:
    """Return the texts of a page that have letters, or a per cent sign, outside of brackets.

    Names of programs' own, with a dot or an underscore in them, are data wherever they stand, and
    so are the places that scripts fill.
    """
    return sorted({text for text in map(_outside, texts(page)) if re.search(r"[^\W\d_]|%", text)})


def _outside(text: str) -> str:
    bare = re.sub(r"⟦[^⟦⟧]*⟧", " ", text)
    return " ".join(re.sub(r"\b\w+([._]\w+)+\b|\{\w+\}", " ", bare).split())
