"""The probes' views. They know no user, no session and no throttle, and are never cached."""

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, JsonResponse

from analytics_admin.monitoring.health import DEPENDENCIES, OK, ask_dependencies
from analytics_admin.services.audit import non_atomic

View = Callable[[HttpRequest], HttpResponse]


def monitoring_view(view: View) -> View:
    """Answer GET and HEAD only, outside of every transaction; nobody may keep the answer."""

    @wraps(view)
    def answer(request: HttpRequest) -> HttpResponse:
        if request.method in {"GET", "HEAD"}:
            response = view(request)
        else:
            response = refuse(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "Use GET.")
            response["Allow"] = "GET, HEAD"
        response["Cache-Control"] = "no-store"
        response["X-Content-Type-Options"] = "nosniff"
        return response

    return non_atomic(answer)  # type: ignore[no-any-return]


def refuse(status: HTTPStatus, code: str, detail: str) -> HttpResponse:
    """Return an error as the REST API has them."""
    return JsonResponse({"detail": detail, "code": code}, status=status)


@monitoring_view
def healthz(request: HttpRequest) -> HttpResponse:
    """Say that this process answers. Asks nobody else."""
    return JsonResponse({"status": OK})


@monitoring_view
def readyz(request: HttpRequest) -> HttpResponse:
    """Say whether the database and both stores answer; 503 if one does not.

    ``?exclude=`` leaves one out, and may be repeated.
    """
    excluded = request.GET.getlist("exclude")
    if unknown := [name for name in excluded if name not in DEPENDENCIES]:
        detail = f"exclude takes {', '.join(DEPENDENCIES)}, not {unknown[0]!r}"
        return refuse(HTTPStatus.BAD_REQUEST, "invalid", detail)
    answers = ask_dependencies([name for name in DEPENDENCIES if name not in excluded])
    is_ready = all(answer == OK for answer in answers.values())
    body = {"status": "ready" if is_ready else "unavailable", "checks": answers}
    if is_ready:
        return JsonResponse(body)
    response = JsonResponse(body, status=HTTPStatus.SERVICE_UNAVAILABLE)
    # Django would log an error, and mail it, for each of the probes; health.py logs the first.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response
