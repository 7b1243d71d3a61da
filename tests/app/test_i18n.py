"""What is said to operators is English to programs and their own language to people."""

import copy
import json
import pickle

import pytest
from django.contrib.auth import get_user_model
from django.utils import translation
from django.utils.translation import gettext_lazy, gettext_noop, ngettext_lazy

from analytics_admin.i18n import Message, localized, message_of
from analytics_admin.stores.client import StoreUnavailable, explain_error
from tests.support.pseudo_locale import pseudo_locale

LOST = Message(gettext_noop("the store lost %(what)s"), what="it")
KEYS = ngettext_lazy("%(number)d key: %(reason)s", "%(number)d keys: %(reason)s", "number")


def keys(number: int, reason: str = "none") -> Message:
    return Message(KEYS, number=number, reason=reason)


def test_it_is_english_whatever_language_is_active():
    with pseudo_locale():
        said = [
            LOST,
            Message(gettext_noop("Reset")),
            keys(1),
            keys(2),
            Message(gettext_lazy("Reset")),
        ]
        assert said == ["the store lost it", "Reset", "1 key: none", "2 keys: none", "Reset"]
        assert f"{LOST}; {str(LOST)!r}" == "the store lost it; 'the store lost it'"


def test_here_it_is_in_the_language_that_is_active():
    assert localized(LOST) == "the store lost it"
    with pseudo_locale():
        assert localized(LOST) == "⟦the store lost ⟧it"
        assert localized(Message(gettext_noop("Reset"))) == "⟦Reset⟧"
    assert localized(LOST) == "the store lost it"


def test_the_number_decides_between_singular_and_plural_in_each_language():
    with pseudo_locale():
        assert localized(keys(1)) == "1⟦ key: ⟧none"
        assert localized(keys(5)) == "5⟦ keys: ⟧none"


def test_a_sentence_within_a_sentence_is_translated_with_it():
    outer = Message(gettext_noop("Failed: %(reason)s"), reason=keys(2, reason=LOST))
    assert outer == "Failed: 2 keys: the store lost it"
    with pseudo_locale():
        assert localized(outer) == "⟦Failed: ⟧2⟦ keys: ⟧⟦the store lost ⟧it"


@pytest.mark.parametrize("data", ["100 %", "%s %(name)s", "%%", "{reason}"])
def test_signs_in_data_mean_nothing(data):
    said = Message(gettext_noop("the store lost %(what)s"), what=data)
    assert said == localized(said) == f"the store lost {data}"
    assert Message(gettext_noop("half of 100 %")) == "half of 100 %"


def test_other_values_are_the_same_here():
    assert [localized(value) for value in ("text", None, 5)] == ["text", None, 5]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_says_the_same_and_keeps_its_translation(copied):
    with pseudo_locale():
        twin = copied(keys(2, reason=LOST))
        assert twin == "2 keys: the store lost it"
        assert localized(twin) == "2⟦ keys: ⟧⟦the store lost ⟧it"


def test_to_json_it_is_a_text():
    with pseudo_locale():
        assert json.dumps({"message": LOST}) == '{"message": "the store lost it"}'


@pytest.mark.django_db
def test_to_the_database_it_is_a_text():
    with pseudo_locale():
        get_user_model().objects.create(username=LOST)
        assert get_user_model().objects.get(username=LOST).username == "the store lost it"


def test_an_exception_keeps_its_words_translatable():
    with pseudo_locale():
        error = StoreUnavailable(explain_error(ConnectionError("redis://:secret@host")))
        assert (str(error), error.reason) == ("the store cannot be reached",) * 2
        assert localized(message_of(error)) == "⟦the store cannot be reached⟧"
        assert message_of(ValueError("bare")) == "bare"
        assert message_of(ValueError()) == ""


def test_english_asks_no_catalogue(monkeypatch):
    """A call in an outage must not wait until the site's languages are loaded."""

    def refuse(*args: object) -> None:
        raise AssertionError("a catalogue was asked")

    monkeypatch.setattr(translation, "gettext", refuse)
    monkeypatch.setattr(translation, "override", refuse)
    assert Message(gettext_noop("the store lost %(what)s"), what="it") == "the store lost it"
