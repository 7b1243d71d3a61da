"""What the endpoints are for, take and answer: what their code does not say of itself."""

from dataclasses import dataclass, field
from typing import Any

from analytics_admin.api import audit, base, breakers, serializers
from analytics_admin.api.schema import DocumentationView, SchemaView
from analytics_admin.api.search_cache import SearchCacheView
from tests.tools.openapi.answers import Schema, ref
from tests.tools.openapi.errors import LOGIN_ERRORS, OPERATION_ERRORS, READ_ERRORS

SEARCH_CACHE, BREAKERS = "Search cache", "Circuit breakers"
TRAIL, TOKENS, API = "Audit trail", "Tokens", "This API"
TAGS = {
    SEARCH_CACHE: "What it holds and is worth; to clear it, and to undo that.",
    BREAKERS: "Those of the whole fleet: to look at them, and to deal with them.",
    TRAIL: "Every act on record, through whichever door it came.",
    TOKENS: "To sign in.",
    API: "Its description.",
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
    answer: Schema
    errors: tuple[str, ...]
    about: str = ""
    query: type[serializers.StrictSerializer] | None = None
    body: type[serializers.StrictSerializer] | None = None
    headers: tuple[str, ...] = ()
    conditional: bool = False
    """Whether it honours If-Match."""
    media_type: str = "application/json"
    asks: dict[str, Any] = field(default_factory=dict)
    """Examples of bodies, by what they are for."""
    answers: dict[str, Any] = field(default_factory=dict)
    """Examples of what it answers."""


def one_of(*names: str) -> Schema:
    return {"oneOf": [ref(name) for name in names]}


def question(**about: Any) -> Endpoint:
    return Endpoint(**{"errors": READ_ERRORS} | about)


def act(*further: str, **about: Any) -> Endpoint:
    """Describe an act; ``further`` are errors that it has beside those of all acts."""
    return Endpoint(errors=(*OPERATION_ERRORS, *further), headers=("X-Operation-Id",), **about)


def act_on_one(*further: str, **about: Any) -> Endpoint:
    """Describe an act on the breaker in its path."""
    errors = ("NoSuchBreaker", "BreakerChanged", *further)
    answer = one_of("Moved", "BreakerPlan")
    return act(*errors, tag=BREAKERS, answer=answer, conditional=True, **about)


ENDPOINTS: dict[tuple[type, str], Endpoint] = {
    (SearchCacheView, "GET"): question(
        name="describe_search_cache",
        tag=SEARCH_CACHE,
        summary="Tell what the search cache holds and is worth",
        about="A store that is down is part of the answer: what is not known is null.",
        query=serializers.CacheQuery,
        answer=ref("SearchCacheStatus"),
    ),
    (base.ClearSearchCacheView, "POST"): act(
        name="clear_search_cache",
        tag=SEARCH_CACHE,
        summary="Clear the search cache",
        about="Without a body: all of it, at once.",
        body=serializers.ClearCacheBody,
        answer=one_of("Cleared", "ClearedInPart", "ClearPlan"),
        asks={
            "Say why": {"reason": "prices were imported again"},
            "Softly": {"mode": "soft"},
            "By tags": {"tags": ["products"]},
            "Change nothing": {"dry_run": True},
        },
        answers={"Cleared": CLEARED},
    ),
    (base.UndoClearView, "POST"): act(
        "NothingToUndo",
        name="undo_clear",
        tag=SEARCH_CACHE,
        summary="Take back the last soft clear",
        body=serializers.ClearBody,
        answer=one_of("Undone", "UndoPlan"),
        asks={"Change nothing": {"dry_run": True}},
        answers={"Undone": {"message": "Soft clear undone"}},
    ),
    (breakers.BreakerListView, "GET"): question(
        name="page_breakers",
        tag=BREAKERS,
        summary="List circuit breakers by pages",
        query=serializers.BreakersQuery,
        answer=ref("BreakerPage"),
        errors=(*READ_ERRORS, "NoSuchPage", "Unknown"),
    ),
    (base.ResetCircuitBreakersView, "POST"): act(
        "NoSuchBreaker",
        name="reset_circuit_breakers",
        tag=BREAKERS,
        summary="Reset circuit breakers: all of them, or some",
        about="With names or only_open the answer tells what became of each. An unknown name "
        "refuses the whole request.",
        body=serializers.ResetBody,
        answer=one_of("AllReset", "Moved", "BreakerPlan"),
        asks={
            "Say why": {"reason": "backend is back"},
            "Those that are not closed": {"only_open": True},
            "Some": {"names": ["catalog"]},
            "Change nothing": {"dry_run": True},
        },
        answers={
            "All": ALL_RESET,
            "Some": {"message": "1 circuit breakers reset successfully", "results": [MOVED]},
            "Dry run": {"message": "Dry run: 1 circuit breakers would be reset", "preview": PLAN},
        },
    ),
    (breakers.BreakerView, "GET"): question(
        name="describe_breaker",
        tag=BREAKERS,
        summary="Tell all that is known of one circuit breaker",
        answer=ref("BreakerDetail"),
        headers=("ETag",),
        errors=(*READ_ERRORS, "NoSuchBreaker", "Unknown"),
    ),
    (breakers.BreakerView, "DELETE"): act_on_one(
        "BreakerInUse",
        name="forget_breaker",
        summary="Take a mistyped or retired name off the list",
        body=serializers.ClearBody,
        answers={
            "Forgotten": {
                "message": "Circuit breaker catlog forgotten",
                "results": [{"name": "catlog", "from": "closed", "to": "forgotten"}],
            }
        },
    ),
    (breakers.BreakerResetView, "POST"): act_on_one(
        name="reset_breaker",
        summary="Reset one circuit breaker",
        body=serializers.ClearBody,
        answers={"Reset": {"message": "1 circuit breakers reset successfully", "results": [MOVED]}},
    ),
    (breakers.BreakerControlView, "PUT"): act_on_one(
        name="set_breaker_control",
        summary="Hold one circuit breaker, or release it",
        body=serializers.ControlBody,
        asks={
            "Hold": {"control": "forced_open", "for_seconds": 900, "reason": "being restored"},
            "Release": {"control": "automatic"},
        },
        answers={
            "Held": {
                "message": "Circuit breaker catalog set to forced_open",
                "results": [{"name": "catalog", "from": "closed", "to": "forced_open"}],
            }
        },
    ),
    (breakers.BreakerProbeView, "POST"): act_on_one(
        "BreakerNotOpen",
        name="allow_probe",
        summary="Let a probe through an open circuit breaker now",
        body=serializers.ClearBody,
    ),
    (audit.OperationListView, "GET"): question(
        name="page_operations",
        tag=TRAIL,
        summary="List the acts on record, newest first",
        about="With an until in the past the pages stay what they are while acts go on.",
        query=serializers.OperationsQuery,
        answer=ref("OperationPage"),
        errors=(*READ_ERRORS, "NoSuchPage"),
    ),
    (audit.OperationView, "GET"): question(
        name="describe_operation",
        tag=TRAIL,
        summary="Tell one act on record",
        answer=ref("Operation"),
        errors=(*READ_ERRORS, "NoSuchOperation"),
    ),
    (base.TokenView, "POST"): Endpoint(
        name="sign_in",
        tag=TOKENS,
        summary="Sign in with user name and password",
        body=serializers.TokenBody,
        answer=ref("TokenPair"),
        asks={"Sign in": {"username": "admin", "password": "…"}},
        errors=(*LOGIN_ERRORS, "NoAccount"),
    ),
    (base.TokenRefreshView, "POST"): Endpoint(
        name="refresh_token",
        tag=TOKENS,
        summary="Exchange a refresh token for a new access token",
        body=serializers.RefreshBody,
        answer=ref("AccessToken"),
        asks={"Refresh": {"refresh": "…"}},
        errors=(*LOGIN_ERRORS, "NoRefreshToken"),
    ),
    (SchemaView, "GET"): Endpoint(
        name="schema",
        tag=API,
        summary="Describe this API as OpenAPI 3.1",
        about="Open to anybody: it holds nothing of the site.",
        answer={"type": "object", "required": ["openapi", "info", "paths"]},
        errors=("InvalidOption",),
    ),
    (DocumentationView, "GET"): Endpoint(
        name="docs",
        tag=API,
        summary="Describe this API as a page for people",
        about="Open to anybody; it needs no other host and no JavaScript.",
        answer={"type": "string"},
        media_type="text/html",
        errors=("InvalidOption",),
    ),
}
