"""The API's OpenAPI document and documentation page; neither contains data of the site.

The document is part of the package, so a site's own schema generator is not affected.
``python -m tests.tools.openapi`` writes it, and a test compares it with the endpoints.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from django.http import HttpResponse
from django.template.loader import render_to_string
from rest_framework.request import Request
from rest_framework.response import Response

from analytics_admin.api.base import ApiView
from analytics_admin.api.openapi_page import build_context
from analytics_admin.api.serializers import NoQuery
from analytics_admin.conf import app_settings

DOCUMENT = Path(__file__).with_name("openapi.json")


class SchemaView(ApiView):
    """The document, with this site's URL of the API as its server."""

    def get(self, request: Request) -> Response:
        self.read_query(request, NoQuery)
        mount = request.path.removesuffix("/schema")
        return Response({**_served_document(), "servers": [{"url": mount or "/"}]})


class DocumentationView(ApiView):
    """The document as a page; needs no other host and no JavaScript."""

    def get(self, request: Request) -> HttpResponse:
        self.read_query(request, NoQuery)
        mount = request.path.removesuffix("/docs")
        context = build_context(_served_document(), request.build_absolute_uri(mount))
        context["schema_url"] = f"{mount}/schema"
        return HttpResponse(render_to_string("analytics_admin/api_docs.html", context))


def _served_document() -> dict[str, Any]:
    """Return the document without what this site has switched off."""
    document = load_document()
    if app_settings().token_endpoint:
        return document
    paths = {path: item for path, item in document["paths"].items() if "/auth/" not in path}
    return {**document, "paths": paths}


@cache
def load_document() -> dict[str, Any]:
    """Return the document, read once; do not modify it."""
    document: dict[str, Any] = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    return document
