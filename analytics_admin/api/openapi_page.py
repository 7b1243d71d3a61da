"""The OpenAPI document in the words of a page: what each endpoint takes and answers, row by row.

Knows the document alone, and no endpoint.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

Document = Mapping[str, Any]
BASIC = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "object",
    "array": "list",
    "null": "null",
}
FORMATS = {"date-time": "time (ISO 8601)", "uuid": "UUID"}
EXAMPLES = {"name": "catalog", "operation_id": "5b0f8a1e-8c5d-4f0e-9a55-3f1d6a1c7b42"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A parameter, or a field of a body."""

    name: str
    kind: SafeString
    about: SafeString
    place: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status with what it comes with."""

    status: str
    about: str
    kind: SafeString
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
    about: str
    is_open: bool
    parameters: Sequence[Field]
    body: Sequence[Field]
    curl: str
    asks: Sequence[Example]
    answers: Sequence[Answer]
    examples: Sequence[Example]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The endpoints of one subject."""

    name: str
    about: str
    endpoints: Sequence[Endpoint]


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """An object that answers are made of."""

    anchor: str
    name: str
    about: SafeString
    kind: SafeString
    fields: Sequence[Field]


def describe(document: Document, base: str) -> dict[str, Any]:
    """Return what the page shows; ``base`` is where the API is, for its ``curl`` lines."""
    return {
        "title": document["info"]["title"],
        "about": document["info"]["description"].split("\n\n"),
        "sections": [_section(document, tag, base) for tag in document["tags"]],
        "components": [
            _component(name, schema)
            for name, schema in document["components"]["schemas"].items()
            if not name.endswith("Body")  # those stand with their endpoints
        ],
    }


def _section(document: Document, tag: Document, base: str) -> Section:
    endpoints = [
        _endpoint(document, method.upper(), path, said, base)
        for path, methods in document["paths"].items()
        for method, said in methods.items()
        if tag["name"] in said["tags"]
    ]
    return Section(name=tag["name"], about=tag["description"], endpoints=endpoints)


def _endpoint(document: Document, method: str, path: str, said: Document, base: str) -> Endpoint:
    body = said.get("requestBody", {}).get("content", {}).get("application/json", {})
    ((_, answer),) = said["responses"]["200"]["content"].items()
    asks = _examples(body)
    return Endpoint(
        anchor=said["operationId"],
        method=method,
        path=path,
        summary=said["summary"],
        about=said.get("description", ""),
        is_open="security" not in said,
        parameters=[_parameter(it) for it in said.get("parameters", ())],
        body=_body_fields(_resolved(document, body["schema"])) if body else (),
        curl=_curl(method, path, said, asks, base),
        asks=asks,
        answers=[_answer(document, status, it) for status, it in said["responses"].items()],
        examples=_examples(answer),
    )


def _parameter(said: Document) -> Field:
    return Field(
        name=said["name"],
        kind=_kind(said["schema"]),
        about=_marked(said.get("description", "")),
        place=said["in"],
        required=said.get("required", False),
    )


def _body_fields(schema: Document) -> list[Field]:
    """Return the fields of a body, which can mostly do without them; an answer has all of its."""
    required = schema.get("required", ())
    return [replace(field, required=field.name in required) for field in _fields(schema)]


def _fields(schema: Document) -> list[Field]:
    return [
        Field(
            name=name,
            kind=_kind(inner),
            about=_marked(inner.get("description", "")),
        )
        for name, inner in schema.get("properties", {}).items()
    ]


def _component(name: str, schema: Document) -> Component:
    fields = _fields(schema)
    return Component(
        anchor=f"object-{name}",
        name=name,
        about=_marked(schema.get("description", "")),
        kind=SafeString("") if fields else _kind(schema),
        fields=fields,
    )


def _answer(document: Document, status: str, said: Document) -> Answer:
    said = _resolved(document, said)
    ((_, content),) = said["content"].items()
    schema = content["schema"]
    code = schema.get("properties", {}).get("code", {}) if status != "200" else {}
    return Answer(
        status=status,
        about=said["description"],
        kind=_kind(schema),
        codes=code.get("enum", ()),
        headers=list(said.get("headers", ())),
    )


def _examples(content: Document) -> list[Example]:
    return [
        Example(
            name=example.get("summary", name),
            text=json.dumps(example["value"], ensure_ascii=False),
        )
        for name, example in content.get("examples", {}).items()
    ]


def _curl(method: str, path: str, said: Document, asks: Sequence[Example], base: str) -> str:
    for name, value in EXAMPLES.items():
        path = path.replace(f"{{{name}}}", value)
    words = ["curl", *(() if method == "GET" else ("-X", method)), shlex.quote(base + path)]
    if "security" in said:
        words.append('-H "Authorization: Bearer $TOKEN"')
    if said.get("requestBody", {}).get("required"):
        words.append('-H "Content-Type: application/json"')
        words.append(f"-d {shlex.quote(asks[0].text)}")
    return " ".join(words)


def _resolved(document: Document, schema: Document) -> Document:
    """Return what stands where a reference points to."""
    if "$ref" not in schema:
        return schema
    found: Document = document
    for step in schema["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


def _kind(schema: Document) -> SafeString:
    """Return what a value can be, with a link to each object."""
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
        yield format_html_join(", ", "<code>{}</code>", ((json.dumps(it),) for it in values))
    else:
        yield from _plain_parts(schema)


def _plain_parts(schema: Document) -> Iterator[str]:
    types = schema.get("type", "anything")
    for number, name in enumerate([types] if isinstance(types, str) else types):
        yield " or " if number else ""
        if name == "string" and "format" in schema:
            yield FORMATS[schema["format"]]
        else:
            yield BASIC.get(name, name)
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


def _marked(text: str) -> SafeString:
    """Return the text with what stands between backticks as code."""
    parts = text.split("`")
    return format_html_join(
        "",
        "{}",
        ((format_html("<code>{}</code>", it) if n % 2 else it,) for n, it in enumerate(parts)),
    )
