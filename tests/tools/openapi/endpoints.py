"""Descriptions of the endpoints that their code does not contain."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from analytics_admin.api import audit, breakers, login, search_cache, serializers
from analytics_admin.api.schema import DocumentationView, SchemaView
from tests.tools.openapi.errors import (
    ACKNOWLEDGED,
    ERRORS,
    LOGIN_ERRORS,
    OPERATION_ERRORS,
    RATE,
    READ_ERRORS,
    REPLAYED,
    WARNING,
)
from tests.tools.openapi.responses import Schema, ref

SEARCH_CACHE, BREAKERS = "Search cache", "Circuit breakers"
AUDIT, TOKENS, API = "Audit trail", "Tokens", "This API"
TAGS = {
    SEARCH_CACHE: "Read its status, clear it, or undo a soft clear.",
    BREAKERS: "Read, reset, hold, probe or forget the circuit breakers of the whole fleet.",
    AUDIT: "Read the recorded operations of all channels.",
    TOKENS: "Log in and refresh tokens.",
    API: "Descriptions of this API.",
}
MOVED = {"name": "catalog", "from": "open", "to": "closed"}
CLEARED = {"message": "Search cache cleared"}
ALL_RESET = {"message": "All circuit breakers reset successfully"}
PLAN = {"count": 1, "breakers": [MOVED]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method of one path."""

    name: str
    tag: str
    summary: str
    response: Schema
    errors: tuple[str, ...]
    description: str = ""
    query: type[serializers.StrictSerializer] | None = None
    body: type[serializers.StrictSerializer] | None = None
    headers: tuple[str, ...] = ()
    conditional: bool = False
    """Whether it supports If-Match."""
    repeatable: bool = False
    """Whether it supports Idempotency-Key."""
    media_type: str = "application/json"
    request_examples: dict[str, Any] = field(default_factory=dict)
    """Examples of request bodies by title."""
    response_examples: dict[str, Any] = field(default_factory=dict)
    """Examples of response bodies by title."""


def one_of(*names: str) -> Schema:
    return {"oneOf": [ref(name) for name in names]}


def reading(**fields: Any) -> Endpoint:
    return Endpoint(**{"errors": READ_ERRORS} | fields)


def operation(*further: str, headers: Sequence[str] = (), **fields: Any) -> Endpoint:
    """Describe an operation; ``further`` adds errors to those of all operations.

    An error of its own stands for the shared one of the same status, whose codes it has, too.
    """
    own = {ERRORS[name].status for name in further}
    shared = [name for name in OPERATION_ERRORS if ERRORS[name].status not in own]
    return Endpoint(
        errors=(*shared, *further),
        headers=("X-Operation-Id", REPLAYED, *RATE, *headers),
        repeatable=True,
        **fields,
    )


def breaker_operation(*further: str, awaits: bool = True, **fields: Any) -> Endpoint:
    """Describe an operation on the breaker in the path; ``awaits``: until all processes obey."""
    return operation(
        *("NoSuchBreaker", "BreakerChanged", *further),
        headers=[ACKNOWLEDGED] if awaits else [],
        tag=BREAKERS,
        response=one_of("Moved", "BreakerPlan"),
        conditional=True,
        **fields,
    )


def breakers_operation(*further: str, awaits: bool = True, **fields: Any) -> Endpoint:
    """Describe an operation on the breakers that the body names."""
    return operation(
        *("NoSuchBreaker", *further),
        headers=[ACKNOWLEDGED] if awaits else [],
        tag=BREAKERS,
        description="One operation on record. One unknown name rejects the whole request. A "
        "breaker that has the name of this path is read by GET and forgotten by DELETE.",
        response=one_of("Moved", "BreakerPlan"),
        **fields,
    )


ENDPOINTS: dict[tuple[type, str], Endpoint] = {
    (search_cache.SearchCacheView, "GET"): reading(
        name="describe_search_cache",
        tag=SEARCH_CACHE,
        summary="Get the status of the search cache",
        description="If the store is down, unknown values are null.",
        query=serializers.CacheQuery,
        response=ref("SearchCacheStatus"),
    ),
    (search_cache.ClearSearchCacheView, "POST"): operation(
        headers=[WARNING],
        name="clear_search_cache",
        tag=SEARCH_CACHE,
        summary="Clear the search cache",
        description="Without a body, clears all of it at once.",
        body=serializers.ClearCacheBody,
        response=one_of("Cleared", "ClearedInPart", "ClearPlan"),
        request_examples={
            "With a reason": {"reason": "prices were imported again"},
            "Soft": {"mode": "soft"},
            "By tags": {"tags": ["products"]},
            "By functions": {"functions": ["shop.search.find"]},
            "By keys": {"keys": [["search", "lamp", 1]]},
            "Change nothing": {"dry_run": True},
        },
        response_examples={"Cleared": CLEARED},
    ),
    (search_cache.UndoClearView, "POST"): operation(
        "NothingToUndo",
        name="undo_clear",
        tag=SEARCH_CACHE,
        summary="Undo the last soft clear",
        description="With tags or functions, undoes the last soft clear of each of these.",
        body=serializers.UndoBody,
        response=one_of("Undone", "UndoPlan"),
        request_examples={"Change nothing": {"dry_run": True}},
        response_examples={"Undone": {"message": "Soft clear undone"}},
    ),
    (breakers.BreakerListView, "GET"): reading(
        name="page_breakers",
        tag=BREAKERS,
        summary="List circuit breakers",
        query=serializers.BreakersQuery,
        response=ref("BreakerPage"),
        errors=(*READ_ERRORS, "NoSuchPage", "Unknown"),
    ),
    (breakers.BreakersResetView, "POST"): operation(
        "NoSuchBreaker",
        headers=[ACKNOWLEDGED],
        name="reset_circuit_breakers",
        tag=BREAKERS,
        summary="Reset all circuit breakers, or some",
        description="With names or only_open the response lists each breaker. One unknown name "
        "rejects the whole request.",
        body=serializers.ResetBody,
        response=one_of("AllReset", "Moved", "BreakerPlan"),
        request_examples={
            "With a reason": {"reason": "backend is back"},
            "Not closed": {"only_open": True},
            "Some": {"names": ["catalog"]},
            "Change nothing": {"dry_run": True},
        },
        response_examples={
            "All": ALL_RESET,
            "Some": {"message": "1 circuit breaker reset successfully", "results": [MOVED]},
            "Dry run": {"message": "Dry run: 1 circuit breaker would be reset", "preview": PLAN},
        },
    ),
    (breakers.BreakersControlView, "PUT"): breakers_operation(
        name="set_breaker_controls",
        summary="Hold or release some circuit breakers",
        body=serializers.ControlNamesBody,
        request_examples={
            "Hold": {"names": ["catalog", "prices"], "control": "disabled", "for_seconds": 900},
            "Release": {"names": ["catalog", "prices"], "control": "automatic"},
        },
    ),
    (breakers.BreakersProbeView, "POST"): breakers_operation(
        "BreakerNotOpen",
        name="allow_probes",
        summary="Allow a probe of some open circuit breakers now",
        body=serializers.NamesBody,
        request_examples={"Some": {"names": ["catalog", "prices"]}},
    ),
    (breakers.BreakersForgetView, "POST"): breakers_operation(
        "BreakerInUse",
        awaits=False,
        name="forget_breakers",
        summary="Forget some mistyped or retired circuit breakers",
        body=serializers.NamesBody,
        request_examples={"Some": {"names": ["catlog"]}},
    ),
    (breakers.BreakerView, "GET"): reading(
        name="describe_breaker",
        tag=BREAKERS,
        summary="Get one circuit breaker in detail",
        response=ref("BreakerDetail"),
        headers=("ETag",),
        errors=(*READ_ERRORS, "NoSuchBreaker", "Unknown"),
    ),
    (breakers.BreakerView, "DELETE"): breaker_operation(
        "BreakerInUse",
        awaits=False,
        name="forget_breaker",
        summary="Forget a mistyped or retired circuit breaker",
        body=serializers.OperationBody,
        response_examples={
            "Forgotten": {
                "message": "Circuit breaker catlog forgotten",
                "results": [{"name": "catlog", "from": "closed", "to": "forgotten"}],
            }
        },
    ),
    (breakers.BreakerResetView, "POST"): breaker_operation(
        name="reset_breaker",
        summary="Reset one circuit breaker",
        body=serializers.OperationBody,
        response_examples={
            "Reset": {"message": "1 circuit breaker reset successfully", "results": [MOVED]}
        },
    ),
    (breakers.BreakerControlView, "PUT"): breaker_operation(
        name="set_breaker_control",
        summary="Hold or release one circuit breaker",
        body=serializers.ControlBody,
        request_examples={
            "Hold": {"control": "forced_open", "for_seconds": 900, "reason": "being restored"},
            "Release": {"control": "automatic"},
        },
        response_examples={
            "Held": {
                "message": "Circuit breaker catalog set to forced_open",
                "results": [{"name": "catalog", "from": "closed", "to": "forced_open"}],
            }
        },
    ),
    (breakers.BreakerProbeView, "POST"): breaker_operation(
        "BreakerNotOpen",
        name="allow_probe",
        summary="Allow a probe of an open circuit breaker now",
        body=serializers.OperationBody,
    ),
    (breakers.ProcessListView, "GET"): reading(
        name="list_processes",
        tag=BREAKERS,
        summary="List the processes that use circuit breakers",
        response=ref("ProcessList"),
        errors=(*READ_ERRORS, "Unknown"),
    ),
    (audit.OperationListView, "GET"): reading(
        name="page_operations",
        tag=AUDIT,
        summary="List recorded operations, newest first",
        description="With an until in the past, new operations do not shift the pages. A page by "
        "cursor shifts never, and takes no longer the further it is. A search may find nothing on "
        "a page that has a next_cursor.",
        query=serializers.OperationsQuery,
        response=ref("OperationPage"),
        errors=(*READ_ERRORS, "NoSuchPage"),
    ),
    (audit.OperationView, "GET"): reading(
        name="describe_operation",
        tag=AUDIT,
        summary="Get one recorded operation",
        response=ref("Operation"),
        errors=(*READ_ERRORS, "NoSuchOperation"),
    ),
    (login.TokenView, "POST"): Endpoint(
        name="sign_in",
        tag=TOKENS,
        summary="Log in with user name and password",
        body=serializers.TokenBody,
        response=ref("TokenPair"),
        request_examples={"Log in": {"username": "admin", "password": "…"}},
        errors=(*LOGIN_ERRORS, "NoAccount"),
    ),
    (login.TokenRefreshView, "POST"): Endpoint(
        name="refresh_token",
        tag=TOKENS,
        summary="Exchange a refresh token for a new access token",
        body=serializers.RefreshBody,
        response=ref("AccessToken"),
        request_examples={"Refresh": {"refresh": "…"}},
        errors=(*LOGIN_ERRORS, "NoRefreshToken"),
    ),
    (SchemaView, "GET"): Endpoint(
        name="schema",
        tag=API,
        summary="Get this API's OpenAPI 3.1 document",
        description="Public: it contains no data of the site.",
        response={"type": "object", "required": ["openapi", "info", "paths"]},
        errors=("InvalidOption",),
    ),
    (DocumentationView, "GET"): Endpoint(
        name="docs",
        tag=API,
        summary="Get this API's documentation page",
        description="Public; needs no other host and no JavaScript.",
        response={"type": "string"},
        media_type="text/html",
        errors=("InvalidOption",),
    ),
}
