"""The views of probes and metrics: without user, session and throttle, and never cached."""

import hmac
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, JsonResponse

from analytics_admin.conf import app_settings
from analytics_admin.monitoring.figures import read_figures
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


@monitoring_view
def metrics(request: HttpRequest) -> HttpResponse:
    """Show the fleet's metrics to who has METRICS_TOKEN."""
    token = app_settings().metrics_token
    if not token:
        return refuse(HTTPStatus.NOT_FOUND, "not_found", "METRICS_TOKEN is not set.")
    if not _has_token(request, token):
        response = refuse(HTTPStatus.UNAUTHORIZED, "not_authenticated", "Send METRICS_TOKEN.")
        response["WWW-Authenticate"] = "Bearer"
        return response
    try:
        from analytics_admin.monitoring.metrics import render
    except ImportError:
        detail = "Install prometheus-client, or this package with the extra metrics."
        return refuse(HTTPStatus.NOT_IMPLEMENTED, "not_installed", detail)
    page, content_type = render(read_figures(), request.headers.get("Accept", ""))
    return HttpResponse(page, content_type=content_type)


def _has_token(request: HttpRequest, token: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # Servers decode headers as Latin-1. Texts could not be compared in constant time.
    is_equal = hmac.compare_digest(given.encode("latin-1", "replace"), token.encode())
    return is_equal and scheme.lower() == "bearer"
