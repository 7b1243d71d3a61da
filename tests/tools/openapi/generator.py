"""Builds the document from the endpoints' code and the tables in this folder."""

import json
from pathlib import Path
from typing import Any

from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.generators import EndpointEnumerator, SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import force_instance
from drf_spectacular.settings import patched_settings
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiRequest, OpenApiResponse
from drf_spectacular.validation import validate_schema

from analytics_admin.api import urls
from analytics_admin.api.idempotency import MAX_KEY_LENGTH
from analytics_admin.services.breakers.operations import MAX_HOLD_SECONDS
from tests.tools.openapi.endpoints import ENDPOINTS, TAGS, Endpoint
from tests.tools.openapi.errors import ERRORS, HEADERS
from tests.tools.openapi.responses import TEXT, Components

PATH = Path(urls.__file__).with_name("openapi.json")
MOUNT = "/api/v1"
DESCRIPTION = """\
Operate the circuit breakers and the search cache of a whole fleet.

Each operation is recorded in the audit trail before it runs; the header X-Operation-Id has its \
id. Every error is {"detail": …, "code": …}: the code is for programs. Every response has \
Cache-Control: no-store. A request body is one JSON object; unknown fields are rejected."""
PARAMETERS = {
    "name": "The circuit breaker's name.",
    "operation_id": "The operation's id, as in X-Operation-Id.",
}


class _Bearer(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "analytics_admin.api.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        description = (
            "An access token from auth/token, or one signed with the site's key (sub, exp)."
        )
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": description,
        }


class _Strict(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    target_class = "analytics_admin.api.serializers.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        for name, field in force_instance(self.target).fields.items():
            if getattr(field, "allow_empty", True) is False:  # which the library ignores
                schema["properties"][name]["minItems"] = 1
        return {**schema, "additionalProperties": False}


class _AwareDateTime(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = "analytics_admin.api.serializers.AwareDateTime"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


class _AnyKey(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = "analytics_admin.api.serializers.AnyKey"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        return {}


class _HoldSeconds(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = "analytics_admin.api.serializers.HoldSeconds"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        seconds = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_HOLD_SECONDS}
        return {"oneOf": [seconds, {"const": "ever"}]}


class _EndpointSchema(AutoSchema):
    """Describes one endpoint by its row of the table."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint

    def get_operation_id(self) -> str:
        return self.endpoint.name

    def get_tags(self) -> list[str]:
        return [self.endpoint.tag]

    def get_summary(self) -> str:
        return self.endpoint.summary

    def get_description(self) -> str:
        return self.endpoint.description

    def get_request_serializer(self) -> Any:
        if self.endpoint.body is None:
            return None
        examples = _examples(self.endpoint.request_examples, request_only=True)
        return {"application/json": OpenApiRequest(self.endpoint.body, examples=examples)}

    def get_override_parameters(self) -> list[Any]:
        headers = [
            OpenApiParameter(
                name,
                HEADERS[name]["schema"],
                OpenApiParameter.HEADER,
                description=HEADERS[name]["description"],
                required=HEADERS[name].get("required", False),
                response=[200],
            )
            for name in self.endpoint.headers
        ]
        query = [self.endpoint.query] if self.endpoint.query else []
        description = (
            "Proceed only if the breaker still has this ETag (or one of several); * for any."
        )
        condition = OpenApiParameter(
            "If-Match", TEXT, OpenApiParameter.HEADER, description=description
        )
        repeat = OpenApiParameter(
            "Idempotency-Key",
            {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH},
            OpenApiParameter.HEADER,
            description="Any text that no other request of yours has: sent again within a day, the "
            "request acts no second time, and is answered as before.",
        )
        more = [condition] if self.endpoint.conditional else []
        return [*query, *headers, *more, *([repeat] if self.endpoint.repeatable else [])]

    def get_response_serializers(self) -> Any:
        examples = _examples(self.endpoint.response_examples, response_only=True)
        what = "The requested data." if self.endpoint.body is None else "Done."
        done = OpenApiResponse(self.endpoint.response, description=what, examples=examples)
        return {("200", self.endpoint.media_type): done}

    def _get_request_body(self, direction: Any = "request") -> Any:
        method, self.method = self.method, "POST"  # the library gives DELETE no body
        try:
            return super()._get_request_body(direction)
        finally:
            self.method = method

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        bodies = super()._get_response_bodies(direction)
        for name in sorted(self.endpoint.errors, key=lambda name: ERRORS[name].status):
            status = str(ERRORS[name].status)
            assert status not in bodies, (self.endpoint.name, name)
            bodies[status] = {"$ref": f"#/components/responses/{name}"}
        return bodies

    def _resolve_path_parameters(self, variables: Any) -> Any:
        resolved = super()._resolve_path_parameters(variables)
        return [
            {**parameter, "description": PARAMETERS[parameter["name"]]} for parameter in resolved
        ]


class _Enumerator(EndpointEnumerator):  # type: ignore[misc]
    def should_include_endpoint(self, path: str, callback: Any) -> bool:
        return True  # although they are left out of a site's own schema


class _Generator(SchemaGenerator):  # type: ignore[misc]
    endpoint_inspector_cls = _Enumerator

    def create_view(self, callback: Any, method: str, request: Any = None) -> Any:
        view = super().create_view(callback, method, request)
        view.schema = _EndpointSchema(ENDPOINTS[type(view), method])
        view.schema.view = view
        return view


def build_document() -> dict[str, Any]:
    """Return the document; raise AssertionError on any warning of the library."""
    components = {
        "schemas": Components().schemas,
        "responses": {name: error.response() for name, error in ERRORS.items()},
    }
    settings = {
        "OAS_VERSION": "3.1.0",
        "TITLE": "analytics_admin",
        "VERSION": "1",
        "DESCRIPTION": DESCRIPTION,
        "TAGS": [{"name": name, "description": text} for name, text in TAGS.items()],
        "SERVERS": [{"url": MOUNT}],
        "APPEND_COMPONENTS": components,
        "SORT_OPERATIONS": False,
        "SORT_OPERATION_PARAMETERS": False,
        "POSTPROCESSING_HOOKS": [],
        "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
        "SCHEMA_PATH_PREFIX": "",
    }
    with patched_settings(settings):
        document: dict[str, Any] = _Generator(patterns=urls.urlpatterns).get_schema(public=True)
    assert not GENERATOR_STATS, (GENERATOR_STATS._warn_cache, GENERATOR_STATS._error_cache)
    validate_schema(document)
    return json.loads(json.dumps(document))


def as_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _examples(values: dict[str, Any], **only: bool) -> list[OpenApiExample]:
    return [OpenApiExample(name, value=value, **only) for name, value in values.items()]
