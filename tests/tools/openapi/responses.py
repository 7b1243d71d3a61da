"""JSON schemas of the responses, derived from the dataclasses behind them."""

import ast
import inspect
import re
import textwrap
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from analytics_admin.breakers.policy import BreakerPolicy
from analytics_admin.breakers.status import BreakerStatus
from analytics_admin.caching.clear.hard import ClearPreview
from analytics_admin.caching.clear.soft import SoftClearPreview, UndoableClear
from analytics_admin.caching.clear.tags import TagClearPreview
from analytics_admin.services.audit_pages import MAX_COUNTED, MAX_EXAMINED
from analytics_admin.services.audit_queries import (
    OPERATION_CHANNELS,
    OPERATION_KINDS,
    OPERATION_STATUSES,
)
from analytics_admin.services.breakers.operations import CONTROLS
from analytics_admin.services.breakers.processes import ProcessStatus
from analytics_admin.services.breakers.queries import BREAKER_STATES
from analytics_admin.services.breakers.types import BreakerDetail
from analytics_admin.services.search_cache.queries import SearchCacheStatus

Schema = dict[str, Any]

BASIC = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},
    UUID: {"type": "string", "format": "uuid"},
    Any: {},
}
TEXT, NUMBER = BASIC[str], BASIC[int]
JSON_TERMS = {"None": "null", "True": "`true`", "False": "`false`", "``": "`"}
# What the types do not express.
CHOICES = {
    ("BreakerStatus", "state"): BREAKER_STATES,
    ("BreakerStatus", "control"): CONTROLS,
    ("LastClear", "mode"): ("hard", "soft", "tags"),
}
TYPE_OVERRIDES = {
    ("BreakerDetail", "policy"): BreakerPolicy,
    ("BreakerDetail", "other_policies"): Sequence[BreakerPolicy],
    ("BreakerPolicy", "record_exceptions"): Sequence[str],
    ("BreakerPolicy", "ignore_exceptions"): Sequence[str],
    ("BreakerPolicy", "record_result"): str | None,
}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def choice(words: Iterable[str]) -> Schema:
    return {"type": "string", "enum": list(words)}


def listed(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def record(properties: Mapping[str, Schema], description: str = "", **more: Any) -> Schema:
    """Return the schema of an object in which all properties are required."""
    text = {"description": description} if description else {}
    required = list(properties)
    return {"type": "object", **text, "required": required, "properties": properties, **more}


class Components:
    """The schema components: derived from dataclasses, or written by hand."""

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}
        for cls in (BreakerStatus, BreakerDetail, ProcessStatus, SearchCacheStatus):
            self.of(cls)
        self.schemas["BreakerDetail"] = self._flat_detail()
        self.schemas |= {
            "Operation": operation(),
            "OperationPage": operation_page(),
            "BreakerRow": record(
                {
                    **self.schemas.pop("BreakerStatus")["properties"],
                    "since": {
                        **BASIC[datetime],
                        "type": ["string", "null"],
                        "description": "When it entered its state; null if it was never used.",
                    },
                    "cause": {**TEXT, "description": "Of its last transition; empty without one."},
                    "rejected": {**NUMBER, "description": "Calls rejected in five minutes."},
                },
                "A circuit breaker in a list.",
            ),
            "BreakerPage": page_of("BreakerRow", states=states()),
            "ProcessList": record(
                {"count": NUMBER, "current": NUMBER, "results": listed(ref("ProcessStatus"))},
                "The processes that use circuit breakers; current is how many of them are.",
            ),
            "ClearedInPart": message_like("^Search cache cleared (softly: |for )"),
            "Undone": exactly("Soft clear undone"),
            "Moved": results(),
            "AllReset": exactly("All circuit breakers reset successfully"),
            "Cleared": exactly("Search cache cleared"),
            "ClearPlan": dry_run(
                {
                    "anyOf": [
                        self.of(ClearPreview),
                        self.of(SoftClearPreview),
                        self.of(TagClearPreview),
                    ]
                }
            ),
            "UndoPlan": dry_run(self.of(UndoableClear)),
            "BreakerPlan": dry_run(record({"count": NUMBER, "breakers": listed(ref("Move"))})),
            "Move": record(
                {"name": TEXT, "from": TEXT, "to": TEXT}, "A breaker's state before and after."
            ),
            "Error": record({"detail": TEXT, "code": TEXT}, additionalProperties=False),
            "TokenPair": record({"access": TEXT, "refresh": TEXT}, "Both are bearer tokens."),
            # A new refresh token comes too where the site rotates them.
            "AccessToken": {
                **record({"access": TEXT}),
                "properties": {"access": TEXT, "refresh": TEXT},
            },
        }

    def of(self, hint: Any) -> Schema:
        """Return the schema of a type; a dataclass becomes a component."""
        if hint in BASIC:
            return BASIC[hint]
        origin, inner = get_origin(hint), get_args(hint)
        if origin in {Union, types.UnionType}:
            return self._nullable([kind for kind in inner if kind is not type(None)])
        if origin is Literal:
            return choice(inner)
        if origin in {tuple, list, Sequence}:
            return listed(self.of(inner[0]))
        if origin is Mapping:
            return {"type": "object", "additionalProperties": self.of(inner[1])}
        assert hasattr(hint, "__dataclass_fields__"), hint
        if hint.__name__ not in self.schemas:
            self.schemas[hint.__name__] = {}  # it may be recursive
            self.schemas[hint.__name__] = self._of_fields(hint)
        return ref(hint.__name__)

    def _nullable(self, hints: Sequence[Any]) -> Schema:
        (hint,) = hints
        schema = self.of(hint)
        if "enum" in schema:
            schema = {**schema, "enum": [*schema["enum"], None]}
        if "type" in schema:
            return {**schema, "type": [schema["type"], "null"]}
        return {"oneOf": [schema, {"type": "null"}]}

    def _of_fields(self, cls: type) -> Schema:
        hints, docs = get_type_hints(cls), field_docs(cls)
        properties = {}
        for item in fields(cls):
            where = (cls.__name__, item.name)
            schema = self.of(TYPE_OVERRIDES.get(where, hints[item.name]))
            if where in CHOICES:
                schema = choice(CHOICES[where])
            text = {"description": docs[item.name]} if item.name in docs else {}
            properties[item.name] = {**schema, **text}
        return record(properties, in_json_terms(inspect.getdoc(cls) or "").split("\n\n")[0])

    def _flat_detail(self) -> Schema:
        detail = self.schemas["BreakerDetail"]["properties"]
        rest = {name: schema for name, schema in detail.items() if name not in {"status", "at"}}
        return record(
            {**self.schemas["BreakerStatus"]["properties"], **rest}, "One breaker in detail."
        )


def operation() -> Schema:
    """Return the schema of a row of the audit trail, as in the API."""
    time = BASIC[datetime]
    return record(
        {
            "id": BASIC[UUID],
            "kind": choice(OPERATION_KINDS),
            "status": choice(OPERATION_STATUSES[:-1]),
            "interrupted": {**BASIC[bool], "description": "Started over ten minutes ago."},
            "channel": choice(OPERATION_CHANNELS),
            "actor": {**TEXT, "description": "The actor's name."},
            "reason": {**TEXT, "description": "The reason given; may be empty."},
            "targets": {"description": "What was requested; depends on the kind."},
            "outcome": {"description": "What was done; depends on the kind."},
            "message": {**TEXT, "description": "The result message; empty unless done."},
            "error": {**TEXT, "description": "The error message; may be empty."},
            "client": {
                "type": ["object", "null"],
                "additionalProperties": TEXT,
                "description": "Where it came from, as far as that is known.",
            },
            "started_at": time,
            "finished_at": {**time, "type": ["string", "null"]},
            "duration_ms": {"type": ["number", "null"], "description": "Milliseconds."},
        },
        "One recorded operation.",
    )


def page_of(item: str, **more: Schema) -> Schema:
    numbers = {name: {"type": "integer", "minimum": 0} for name in ("count", "page", "pages")}
    return record({**numbers, **more, "results": listed(ref(item))}, "One page of a list.")


def operation_page() -> Schema:
    number = {"type": ["integer", "null"], "minimum": 0}
    return record(
        {
            "count": {
                **number,
                "description": f"How many operations match, at most {MAX_COUNTED:,}; null for a "
                "page by cursor.",
            },
            "count_capped": {**BASIC[bool], "description": "More operations match than `count`."},
            "search_capped": {
                **BASIC[bool],
                "description": f"The search stopped after {MAX_EXAMINED:,} operations, of which "
                "`count` match; `next_cursor` goes on.",
            },
            "page": {**number, "description": "The page number; null for a page by cursor."},
            "pages": {
                **number,
                "description": "How many pages `count` fills; null for a page by cursor.",
            },
            "next_cursor": {
                "type": ["string", "null"],
                "description": "The cursor of the page after this one; null at the end.",
            },
            "results": listed(ref("Operation")),
        },
        "One page of the audit trail.",
    )


def states() -> Schema:
    counts = {state: {"type": "integer", "minimum": 0} for state in BREAKER_STATES}
    description = "Number of breakers by state, over all breakers."
    return {"type": "object", "description": description, "properties": counts}


def exactly(message: str) -> Schema:
    """Return the schema of a body with exactly this message."""
    return record({"message": {"const": message}}, additionalProperties=False)


def message_like(pattern: str) -> Schema:
    message = {"type": "string", "pattern": pattern}
    return record({"message": message}, additionalProperties=False)


def results() -> Schema:
    properties = {"message": TEXT, "results": listed(ref("Move"))}
    return record(properties, "The result for each breaker.", additionalProperties=False)


def dry_run(preview: Schema) -> Schema:
    message = {"type": "string", "pattern": "^Dry run: "}
    description = "The result of a dry run, which changes nothing."
    properties = {"message": message, "preview": preview}
    return record(properties, description, additionalProperties=False)


def field_docs(cls: type) -> dict[str, str]:
    """Return the docstring below each field, in JSON's terms."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body
    docs = {}
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            docs[field.target.id] = in_json_terms(" ".join(text.value.value.split()))
    return docs


def in_json_terms(text: str) -> str:
    return re.sub(r"\b(?:None|True|False)\b|``", lambda match: JSON_TERMS[match[0]], text)
