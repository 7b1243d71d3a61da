"""Turns the OpenAPI document into the context of its HTML page."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
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


def build_context(document: Document, base: str) -> dict[str, Any]:
    """Return the page's template context; ``base`` is the API's URL in its ``curl`` lines."""
    return {
        "title": document["info"]["title"],
        "paragraphs": document["info"]["description"].split("\n\n"),
        "sections": [
            {**tag, "endpoints": list(_endpoints(document, tag["name"], base))}
            for tag in document["tags"]
        ],
        "components": [
            _component(name, schema)
            for name, schema in document["components"]["schemas"].items()
            if not name.endswith("Body")  # shown with their endpoints
        ],
    }


def _endpoints(document: Document, tag: str, base: str) -> Iterator[dict[str, Any]]:
    """Yield the methods of all paths with the tag."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield _endpoint(document, method.upper(), path, operation, base)


def _endpoint(
    document: Document, method: str, path: str, operation: Document, base: str
) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    body_schema = _resolve(document, body.get("schema", {}))
    ((_, success),) = operation["responses"]["200"]["content"].items()
    examples = _examples(body)
    return {
        **operation,
        "method": method,
        "path": path,
        "parameters": [
            _field(
                parameter["name"],
                parameter["schema"],
                parameter.get("description", ""),
                location=parameter["in"],
                required=parameter.get("required", False),
            )
            for parameter in operation.get("parameters", ())
        ],
        "body": _fields(body_schema, required=body_schema.get("required", ())),
        "curl": _curl(method, base + path, operation, examples),
        "request_examples": examples,
        "responses": [
            _response(status, _resolve(document, response))
            for status, response in operation["responses"].items()
        ],
        "response_examples": _examples(success),
    }


def _fields(schema: Document, *, required: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the fields of a body or object; objects in responses have all of theirs."""
    return [
        _field(name, inner, inner.get("description", ""), required=name in required)
        for name, inner in schema.get("properties", {}).items()
    ]


def _field(
    name: str, schema: Document, description: str, *, required: bool, location: str = ""
) -> dict[str, Any]:
    return {
        "name": name,
        "type": _type(schema),
        "description": _with_code(description),
        "required": required,
        "location": location,
    }


def _component(name: str, schema: Document) -> dict[str, Any]:
    """Return a JSON object that responses contain."""
    fields = _fields(schema)
    return {
        "name": name,
        "description": _with_code(schema.get("description", "")),
        "type": "" if fields else _type(schema),
        "fields": fields,
    }


def _response(status: str, response: Document) -> dict[str, Any]:
    ((_, content),) = response["content"].items()
    schema = content["schema"]
    code = schema.get("properties", {}).get("code", {}) if status != "200" else {}
    return {**response, "status": status, "type": _type(schema), "codes": code.get("enum", ())}


def _examples(content: Document) -> list[tuple[str, str]]:
    """Return the name and the JSON text of each example."""
    return [
        (example.get("summary", name), json.dumps(example["value"], ensure_ascii=False))
        for name, example in content.get("examples", {}).items()
    ]


def _curl(method: str, url: str, operation: Document, examples: Sequence[tuple[str, str]]) -> str:
    for name, value in PATH_EXAMPLES.items():
        url = url.replace(f"{{{name}}}", value)
    words = ["curl", *(() if method == "GET" else ("-X", method)), shlex.quote(url)]
    if "security" in operation:
        words.append('-H "Authorization: Bearer $TOKEN"')
    if operation.get("requestBody", {}).get("required"):
        _, text = examples[0]
        words.append('-H "Content-Type: application/json"')
        words.append(f"-d {shlex.quote(text)}")
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
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return format_html('<a href="#object-{}">{}</a>', name, name)
    if choices := schema.get("oneOf") or schema.get("anyOf"):
        return format_html_join(" or ", "{}", ((_type(choice),) for choice in choices))
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return format_html_join(", ", "<code>{}</code>", ((json.dumps(value),) for value in values))
    types = schema.get("type", "anything")
    names = [types] if isinstance(types, str) else types
    return format_html_join(" or ", "{}", ((_plain_type(name, schema),) for name in names))


def _plain_type(name: str, schema: Document) -> SafeString:
    text = TYPES.get(name, name)
    if name == "string" and "format" in schema:
        text = FORMATS[schema["format"]]
    bounds = "" if name == "null" else _bounds(schema)
    items = format_html(" of {}", _type(schema["items"])) if name == "array" else ""
    return format_html("{}{}{}", text, bounds, items)


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
