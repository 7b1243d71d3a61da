"""Every word of the console goes through gettext: shown by a language that brackets what does."""

import re

import pytest
from django.test import override_settings

from analytics_admin.breakers import circuit_breaker
from tests.interfaces.pseudo_locale import pseudo_locale, untranslated

SECTION = "/admin/analytics_admin/"
BREAKERS = f"{SECTION}circuitbreaker/"


def test_a_text_that_is_not_translated_is_found():
    assert untranslated("<p>⟦Calls⟧ <b>12</b></p><p>Rejected</p>") == ["Rejected"]
    assert untranslated('<p title="Exact">⟦⟦Calls⟧ since ⟦then⟧⟧</p>') == ["Exact"]


@pytest.fixture
def pages(client, superuser):
    client.force_login(superuser)
    with pseudo_locale() as language, override_settings(LANGUAGE_CODE=language):
        yield client


def test_probe(pages):
    with circuit_breaker("c-1", wait_duration_in_open_state=600):
        pass
    text = pages.get(BREAKERS).text
    print(untranslated(text))
    assert 0
