"""Responses of JSON text, whatever the site's settings and its mistakes."""

import json

import pytest

from analytics_admin.caching import Lookup, TextLookup
from analytics_admin.http import CachedJsonResponse

VALUE = {"title": "Kö"}
TEXT = '{"title":"Kö"}'


@pytest.mark.parametrize("answer", [TextLookup(TEXT, "hit", 1.0), TEXT])
def test_json_is_sent_as_utf_8_whatever_the_site_sends(settings, answer):
    settings.DEFAULT_CHARSET = "ascii"
    assert json.loads(CachedJsonResponse(answer).content) == VALUE


@pytest.mark.parametrize("answer", [Lookup(VALUE, "hit", 1.0), VALUE, None, b"[]"])
def test_a_response_takes_no_value(answer):
    with pytest.raises(TypeError, match=r"not a (Lookup|dict|NoneType|bytes)$"):
        CachedJsonResponse(answer)
