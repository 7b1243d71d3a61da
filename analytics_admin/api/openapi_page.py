"""Turns the OpenAPI document into the context of its HTML page."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

Document = Mapping[str, Any]
TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "object",
    "array": "list",
    "null": "null",
}
FORMATS = {"date-time": "time (ISO 8601)", "uuid": "UUID"}
PATH_EXAMPLES = {"name": "catalog", "operation_id": "5b0f8a1e-8c5d-4f0e-9a55-3f1d6a1c7b42"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A parameter, or a field of a body or object."""

    name: str
    type: SafeString
    description: SafeString
    location: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRow:
    """One status of an endpoint."""

    status: str
    description: str
    type: SafeString
    codes: Sequence[str]
    headers: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method of one path."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    is_public: bool
    parameters: Sequence[Field]
    body: Sequence[Field]
    curl: str
    request_examples: Sequence[Example]
    responses: Sequence[ResponseRow]
    response_examples: Sequence[Example]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The endpoints of one tag."""

    name: str
    description: str
    endpoints: Sequence[Endpoint]


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A JSON object that responses contain."""

    anchor: str
    name: str
    description: SafeString
    type: SafeString
    fields: Sequence[Field]


def build_context(document: Document, base: str) -> dict[str, Any]:
    """Return the page's template context; ``base`` is the API's URL in its ``curl`` lines."""
    return {
        "title": document["info"]["title"],
        "paragraphs": document["info"]["description"].split("\n\n"),
        "sections": [_section(document, tag, base) for tag in document["tags"]],
        "components": [
            _component(name, schema)
            for name, schema in document["components"]["schemas"].items()
            if not name.endswith("Body")  # shown with their endpoints
        ],
    }


def _section(document: Document, tag: Document, base: str) -> Section:
    endpoints = [
        _endpoint(document, method.upper(), path, operation, base)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if tag["name"] in operation["tags"]
    ]
    return Section(name=tag["name"], description=tag["description"], endpoints=endpoints)


def _endpoint(
    document: Document, method: str, path: str, operation: Document, base: str
) -> Endpoint:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    ((_, success),) = operation["responses"]["200"]["content"].items()
    request_examples = _examples(body)
    return Endpoint(
        anchor=operation["operationId"],
        method=method,
        path=path,
        summary=operation["summary"],
        description=operation.get("description", ""),
        is_public="security" not in operation,
        parameters=[_parameter(parameter) for parameter in operation.get("parameters", ())],
        body=_body_fields(_resolve(document, body["schema"])) if body else (),
        curl=_curl(method, path, operation, request_examples, base),
        request_examples=request_examples,
        responses=[
            _response(status, _resolve(document, response))
            for status, response in operation["responses"].items()
        ],
        response_examples=_examples(success),
    )


def _parameter(parameter: Document) -> Field:
    field = _field(parameter["name"], parameter["schema"], parameter.get("description", ""))
    return replace(field, location=parameter["in"], required=parameter.get("required", False))


def _body_fields(schema: Document) -> list[Field]:
    """Return the fields of a request body, most of them optional; responses have all of theirs."""
    required = schema.get("required", ())
    return [replace(field, required=field.name in required) for field in _fields(schema)]


def _fields(schema: Document) -> list[Field]:
    return [
        _field(name, inner, inner.get("description", ""))
        for name, inner in schema.get("properties", {}).items()
    ]


def _field(name: str, schema: Document, description: str) -> Field:
    return Field(name=name, type=_type(schema), description=_with_code(description))


def _component(name: str, schema: Document) -> Component:
    fields = _fields(schema)
    return Component(
        anchor=f"object-{name}",
        name=name,
        description=_with_code(schema.get("description", "")),
        type=SafeString("") if fields else _type(schema),
        fields=fields,
    )


def _response(status: str, response: Document) -> ResponseRow:
    ((_, content),) = response["content"].items()
    schema = content["schema"]
    code = schema.get("properties", {}).get("code", {}) if status != "200" else {}
    return ResponseRow(
        status=status,
        description=response["description"],
        type=_type(schema),
        codes=code.get("enum", ()),
        headers=list(response.get("headers", ())),
    )


def _examples(content: Document) -> list[Example]:
    return [
        Example(
            name=example.get("summary", name),
            text=json.dumps(example["value"], ensure_ascii=False),
        )
        for name, example in content.get("examples", {}).items()
    ]


def _curl(
    method: str, path: str, operation: Document, examples: Sequence[Example], base: str
) -> str:
    for name, value in PATH_EXAMPLES.items():
        path = path.replace(f"{{{name}}}", value)
    words = ["curl", *(() if method == "GET" else ("-X", method)), shlex.quote(base + path)]
    if "security" in operation:
        words.append('-H "Authorization: Bearer $TOKEN"')
    if operation.get("requestBody", {}).get("required"):
        words.append('-H "Content-Type: application/json"')
        words.append(f"-d {shlex.quote(examples[0].text)}")
    return " ".join(words)


def _resolve(document: Document, node: Document) -> Document:
    """Return the node, or the target of its reference."""
    if "$ref" not in node:
        return node
    target: Document = document
    for step in node["$ref"].removeprefix("#/").split("/"):
        target = target[step]
    return target


def _type(schema: Document) -> SafeString:
    """Return the type of a value, with a link to each object."""
    return format_html_join("", "{}", ((part,) for part in _parts(schema)))


def _parts(schema: Document) -> Iterator[str]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield format_html('<a href="#object-{}">{}</a>', name, name)
    elif choices := schema.get("oneOf") or schema.get("anyOf"):
        for number, inner in enumerate(choices):
            yield " or " if number else ""
            yield from _parts(inner)
    elif "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        yield format_html_join(", ", "<code>{}</code>", ((json.dumps(value),) for value in values))
    else:
        yield from _plain_parts(schema)


def _plain_parts(schema: Document) -> Iterator[str]:
    types = schema.get("type", "anything")
    for number, name in enumerate([types] if isinstance(types, str) else types):
        yield " or " if number else ""
        if name == "string" and "format" in schema:
            yield FORMATS[schema["format"]]
        else:
            yield TYPES.get(name, name)
        yield "" if number else _bounds(schema)
        if name == "array":
            yield " of "
            yield from _parts(schema["items"])


def _bounds(schema: Document) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        return f" (over {schema['exclusiveMinimum']}, at most {most:,.0f})"
    if least is not None:
        return f" ({least:,} to {most:,})" if most is not None else f" (at least {least:,})"
    if "maxLength" in schema:
        return f" (at most {schema['maxLength']:,} characters)"
    if "maxItems" in schema:
        return f" (at most {schema['maxItems']:,})"
    return f" ({schema['pattern']} …)" if "pattern" in schema else ""


def _with_code(text: str) -> SafeString:
    """Return the text as HTML, with what is between backticks as code."""
    parts = enumerate(text.split("`"))
    return format_html_join(
        "", "{}", ((format_html("<code>{}</code>", part) if n % 2 else part,) for n, part in parts)
    )
