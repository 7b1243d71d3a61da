"""A language that no program knows by heart: what was translated stands between ⟦ and ⟧.

Only the words of a text do, not what is put into its places: that is data, or has to be translated
itself. What a page shows outside of such brackets was not translated, unless it is marked as data.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from html import unescape
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
HIDDEN = UNSEEN | DATA
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


_TOKEN = re.compile(
    r"<!--.*?-->|<![^>]*>"
    r"|<(?P<end>/?)(?P<tag>[a-zA-Z][\w-]*)(?P<given>(?:[^>\"']|\"[^\"]*\"|'[^']*')*)>"
    r"|(?P<text>[^<]+|<)",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r"([^\s=>\"'/]+)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+)))?")


@cache  # pages have most of their tags in common
def _told(tag: str, given: str) -> list[str]:
    """Return what a tag's attributes tell people."""
    attributes = {name.lower(): "".join(values) for name, *values in _ATTRIBUTE.findall(given)}
    told = {name for name in attributes if name.startswith("data-")} - CODE
    told |= READ_ALOUD.intersection(attributes) if tag != "time" else set()
    if tag == "input" and attributes.get("type") in BUTTONS:
        told.add("value")
    return [unescape(attributes[name]) for name in sorted(told)]


def _pieces(page: str) -> Iterator[str]:
    """Yield the texts of a page, each as a whole: a sentence may hold a link or a number."""
    opened: list[str] = []
    text: list[str] = []
    at = 0
    while token := _TOKEN.match(page, at):
        at = token.end()
        if (words := token["text"]) is not None:
            text.append(words if HIDDEN.isdisjoint(opened) else " ")
            continue
        if (tag := token["tag"]) is None:
            continue
        tag = tag.lower()
        if tag not in INLINE:
            yield unescape("".join(text))
            text = []
        if token["end"]:
            while opened and opened.pop() != tag:
                pass
            continue
        yield from _told(tag, token["given"])
        if tag in ("script", "style"):  # what looks like a tag in it is none
            at = page.index(f"</{tag}", at)
        if tag not in VOID:
            opened.append(tag)
    assert at == len(page), f"no tag: {page[at : at + 80]}"
    yield unescape("".join(text))


def texts(page: str) -> list[str]:
    """Return the texts of a page, seen or read aloud or said by its scripts, without data."""
    # A word may break at a <wbr>.
    return [" ".join(text.split()) for text in _pieces(page.replace("<wbr>", ""))]


def untranslated(page: str) -> list[str]:
    """Return the texts of a page that have letters, or a per cent sign, outside of brackets.

    Names of programs' own, with a dot or an underscore in them, are data wherever they stand, and
    so are the places that scripts fill.
    """
    return sorted({text for text in map(_outside, texts(page)) if re.search(r"[^\W\d_]|%", text)})


@cache
def _outside(text: str) -> str:
    bare = re.sub(r"⟦[^⟦⟧]*⟧", " ", text)
    return " ".join(re.sub(r"\b\w+([._]\w+)+\b|\{\w+\}", " ", bare).split())
