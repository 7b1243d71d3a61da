"""The documentation page of the API: public, and complete without another host."""

import re
import shlex
from html import unescape

import pytest
from django.urls import include, path

from analytics_admin.api.openapi_page import build_context
from tests.support.api import assert_error
from tests.support.openapi_document import DOCUMENT, ENDPOINTS, documented

DOCS = "/api/v1/docs"


def test_anybody_may_read_it_and_nobody_change_it(client):
    answer = client.get(DOCS)
    assert (answer.status_code, answer.headers["Content-Type"]) == (
        200,
        "text/html; charset=utf-8",
    )
    assert answer.headers["Cache-Control"] == "no-store"
    assert client.head(DOCS).content == b""
    assert_error(client.get(f"{DOCS}?page=2"), 400, "invalid", "page")
    for method in ("post", "put", "patch", "delete", "options"):
        assert_error(getattr(client, method)(DOCS), 405, "method_not_allowed")


def test_it_has_a_part_for_every_endpoint_and_object(client):
    text = client.get(DOCS).text
    for method, route in ENDPOINTS:
        assert f'<article id="{documented(method, route)["operationId"]}">' in text
    for name in DOCUMENT["components"]["schemas"]:
        assert (f'<article id="object-{name}">' in text) is not name.endswith("Body")


def test_it_holds_no_script_no_inline_style_and_no_other_host(client):
    text = client.get(DOCS).text
    assert not re.search(r"<script|<style| style=| on\w+=|@import|data:", text)
    links = re.findall(r'(?:href|src)="([^"]*)"', text)
    assert {link for link in links if not link.startswith("#")} == {
        "/static/analytics_admin/api_docs.css",
        "/api/v1/schema",
    }


def test_it_is_english_like_the_api(client):
    answer = client.get(DOCS, headers={"Accept-Language": "ar"})
    assert (answer.headers["Content-Language"], "1,440" in answer.text) == ("en", True)


urlpatterns = [path("shop/operators/", include("analytics_admin.urls"))]


@pytest.mark.urls(__name__)
def test_its_lines_go_where_the_site_has_the_api(client):
    answer = client.get("/shop/operators/docs", SERVER_NAME="localhost", secure=True)
    assert "curl https://localhost/shop/operators/analytics/cache -H" in answer.text
    assert 'href="/shop/operators/schema"' in answer.text


@pytest.mark.urls(__name__)
def test_a_hostile_mount_stays_text_and_one_word_of_the_shell(client):
    mount = "/<b>'; rm -rf $HOME"
    answer = client.get("/shop/operators/docs", SCRIPT_NAME=mount)
    assert "<b>" not in answer.text
    (line,) = re.findall(r'"curl">(curl -X POST [^<]*/cache/clear[^<]*)<', answer.text)
    words = shlex.split(unescape(line))
    url = "http://testserver/%3Cb%3E';%20rm%20-rf%20$HOME/shop/operators/analytics/cache/clear"
    assert words == ["curl", "-X", "POST", url, "-H", "Authorization: Bearer $TOKEN"]


def test_a_host_that_is_not_the_sites_gets_no_lines(client, settings):
    settings.MIDDLEWARE = []  # of which one would have refused it before
    assert_error(client.get(DOCS, SERVER_NAME="evil.example"), 400, "invalid", "host")


def test_what_the_document_says_is_shown_as_text():
    hostile = "<script>alert(1)</script>"
    schema = {
        "type": "object",
        "description": hostile,
        "properties": {hostile: {"enum": [hostile], "description": f"`{hostile}`"}},
    }
    document = {**DOCUMENT, "components": {**DOCUMENT["components"], "schemas": {"X": schema}}}
    (component,) = build_context({**document, "tags": []}, "http://testserver")["components"]
    (field,) = component["fields"]
    assert "<script" not in component["description"] + field["type"] + field["description"]
    assert "&lt;script&gt;" in field["type"]
