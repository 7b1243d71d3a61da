"""Base views: authentication, throttling, permission, request parsing and responses."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import translation
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import (
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    ValidationError,
)
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from analytics_admin.api.authentication import BearerAuthentication
from analytics_admin.api.exceptions import error_response
from analytics_admin.api.idempotency import read_repeat
from analytics_admin.api.parsers import read_object
from analytics_admin.api.permissions import IsAdminUser
from analytics_admin.api.serializers import StrictSerializer
from analytics_admin.api.throttling import RateThrottle, WriteThrottle
from analytics_admin.permissions import VIEW_CONSOLE
from analytics_admin.services.audit import Actor, client_of, non_atomic
from analytics_admin.services.breakers.types import BreakerPage
from analytics_admin.services.runner import FAILURE_MESSAGES, OperationResult, deny


class _JSONNegotiation(DefaultContentNegotiation):
    """Responds in JSON whatever the client accepts."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


class CompactJSON(JSONRenderer):
    compact = True
    ensure_ascii = False
    strict = True


class ApiView(APIView):
    """The base of all endpoints; a project's REST_FRAMEWORK settings do not affect it."""

    authentication_classes: Sequence[type[BaseAuthentication]] = ()
    permission_classes: Sequence[type[BasePermission]] = ()
    throttle_classes: Sequence[type[BaseThrottle]] = ()
    parser_classes = (JSONParser,)
    renderer_classes = (CompactJSON,)
    content_negotiation_class = _JSONNegotiation
    format_kwarg = None  # no suffix of a path selects a renderer
    schema = None  # keeps out of a site's own generated schema, which could only guess
    http_method_names = ["get", "head", "post", "put", "delete"]  # noqa: RUF012  Django's own annotation

    failure: str = "Failed to answer: %(reason)s"
    _throttles: Sequence[BaseThrottle] = ()
    body: Mapping[str, Any] = {}

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """Return the view exempt from ATOMIC_REQUESTS, whose rollback would drop the audit row."""
        return non_atomic(super().as_view(**initkwargs))

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Respond in English, whatever the caller's language.

        REST Framework would translate its own messages, but not ours beside them.
        """
        with translation.override("en"):
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check the request before its body: method, authentication, rate, permission.

        Rate comes before permission, because a denial writes a row.
        """
        if request.method not in self.allowed_methods:
            raise MethodNotAllowed(str(request.method))
        self.perform_authentication(request)
        self.check_throttles(request)
        self.check_permissions(request)

    def get_exception_handler(self) -> Callable[..., Response]:
        return lambda error, context: error_response(error, failure=self.failure)

    def get_authenticate_header(self, request: Request) -> str:
        return "Bearer"  # even without an authenticator, or DRF would turn a 401 into a 403

    @property
    def default_response_headers(self) -> dict[str, str]:
        headers = {"Cache-Control": "no-store", "Content-Language": "en"}
        if self.allowed_methods:
            headers["Allow"] = ", ".join(self.allowed_methods)
        return headers

    def check_throttles(self, request: Request) -> None:
        self._throttles = self.get_throttles()
        for throttle in self._throttles:
            if not throttle.allow_request(request, self):
                self.throttled(request, throttle.wait() or 1)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Add what the client should know of its rate."""
        answer = super().finalize_response(request, response, *args, **kwargs)
        for throttle in self._throttles:
            if isinstance(throttle, RateThrottle):
                for name, value in throttle.headers().items():
                    answer[name] = value
        return answer

    def read_body(self, request: Request, serializer: type[StrictSerializer]) -> dict[str, Any]:
        """Return the validated fields of the body, without those that were not sent.

        Body fields in the URL are rejected: a ``?dry_run=true`` must not be ignored, and a
        password must not reach access logs.
        """
        options = dict(_query_pairs(request))
        if misplaced := sorted(options.keys() & serializer().fields.keys()):
            raise ValidationError({misplaced[0]: "Send it in the body, not in the URL."})
        self.body = read_object(request)
        return _validate(serializer(data=self.body))

    def read_query(self, request: Request, serializer: type[StrictSerializer]) -> dict[str, Any]:
        """Return the validated options of the URL, without those that were not sent."""
        pairs = _query_pairs(request)
        options = dict(pairs)
        if len(options) != len(pairs):
            raise ValidationError("An option is given twice.")
        return _validate(serializer(data=options))


class OperatorView(ApiView):
    """An endpoint for operators with the permission of its action; only writes are throttled."""

    authentication_classes = (BearerAuthentication,)
    permission_classes = (IsAdminUser,)

    action: str  # an operation's kind, or VIEW_CONSOLE
    permission = ""
    """What suffices for some of the requests, if that is less; the service decides by the body."""

    def get_exception_handler(self) -> Callable[..., Response]:
        failure = FAILURE_MESSAGES.get(self.action, self.failure)
        return lambda error, context: error_response(error, failure=failure)

    def perform_authentication(self, request: Request) -> None:
        if request.auth is None:
            raise NotAuthenticated

    @property
    def actor(self) -> Actor:
        """The user of the request, whose body has been read, as an actor on the API channel."""
        return Actor.from_user(
            self.request.user,
            channel="api",
            client=client_of(self.request._request),
            repeat=read_repeat(self.request, self.body),
        )

    def get_throttles(self) -> list[BaseThrottle]:
        return [] if self.action == VIEW_CONSOLE else [WriteThrottle()]

    def permission_denied(
        self, request: Request, message: str | None = None, code: str | None = None
    ) -> NoReturn:
        if self.action == VIEW_CONSOLE:
            raise PermissionDenied("Not authorized")
        client = client_of(request._request)
        raise deny(self.action, actor=Actor.from_user(request.user, channel="api", client=client))


class ReadView(OperatorView):
    """An endpoint that reads."""

    action = VIEW_CONSOLE
    failure = "The state is unknown: %(reason)s"


class NotFoundView(ApiView):
    """Responds to every path without an endpoint."""

    def initial(self, request: HttpRequest, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotFound


def operation_response(result: OperationResult) -> Response:
    """Return the response to an operation or its dry run."""
    body: dict[str, Any] = {"message": result.message}
    if result.preview is not None:
        body["preview"] = result.preview
    if result.results is not None:
        body["results"] = result.results
    headers = {"X-Operation-Id": str(result.operation_id)} if result.operation_id else {}
    if result.acknowledged is not None:
        headers["X-Acknowledged"] = result.acknowledged.figures
    if result.warnings:
        headers["X-Warning"] = "; ".join(result.warnings)
    if result.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(body, headers=headers)


def page_response(page: BreakerPage, items: Iterable[Any], **extra: Any) -> Response:
    """Return the response with the rows of one page; a page beyond the last is not found."""
    if page.page > page.pages:
        raise NotFound(f"There is no page {page.page}: the last one is {page.pages}")
    position = {"count": page.count, "page": page.page, "pages": page.pages}
    return Response({**position, **extra, "results": list(items)})


def _query_pairs(request: Request) -> list[tuple[str, str]]:
    return parse_qsl(request.META.get("QUERY_STRING", ""), keep_blank_values=True)


def _validate(serializer: StrictSerializer) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    validated: dict[str, Any] = serializer.validated_data
    return validated
