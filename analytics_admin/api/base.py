"""The endpoints: who calls, how often, whether they may, what they ask, what the service says."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from django.contrib.auth import authenticate, get_user_model
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import translation
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import (
    AuthenticationFailed,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    ValidationError,
)
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser, JSONParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView
from rest_framework_simplejwt.exceptions import TokenError

from analytics_admin.api.authentication import BearerAuthentication
from analytics_admin.api.exceptions import answer
from analytics_admin.api.parsers import read_object
from analytics_admin.api.permissions import IsAdminUser
from analytics_admin.api.serializers import (
    ClearBody,
    ClearCacheBody,
    RefreshBody,
    ResetBody,
    StrictSerializer,
    TokenBody,
)
from analytics_admin.api.throttling import LoginThrottle, WriteThrottle
from analytics_admin.services import (
    FAILURE_MESSAGES,
    Act,
    Actor,
    OperationResult,
    clear_search_cache,
    deny,
    non_atomic,
    reset_circuit_breakers,
    undo_clear,
)
from analytics_admin.tokens import (
    OperatorRefreshToken,
    issue_access_token,
    issue_refresh_token,
    user_of,
)


class _JSONNegotiation(BaseContentNegotiation):
    """Answer in JSON whatever the caller says to accept."""

    def select_parser(self, request: Request, parsers: Any) -> BaseParser:
        parser: BaseParser = parsers[0]
        return parser

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


class CompactJSON(JSONRenderer):
    compact = True
    ensure_ascii = False
    strict = True


class ApiView(APIView):
    """What all endpoints share; a host project's REST_FRAMEWORK settings change none of it."""

    authentication_classes: Sequence[type[BaseAuthentication]] = ()
    permission_classes: Sequence[type[BasePermission]] = ()
    throttle_classes: Sequence[type[BaseThrottle]] = ()
    parser_classes = (JSONParser,)
    renderer_classes = (CompactJSON,)
    content_negotiation_class = _JSONNegotiation
    versioning_class = None
    schema = None  # not in a site's own one: it could but guess
    http_method_names = ["get", "post", "put", "delete"]  # noqa: RUF012  Django's own annotation

    failure: str = "Failed to answer: %(reason)s"

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """Return the view outside ATOMIC_REQUESTS, whose rollback would take the audit row."""
        return non_atomic(super().as_view(**initkwargs))

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer in English whoever asks.

        REST Framework's own sentences would follow the caller's language, beside ours, which don't.
        """
        with translation.override("en"):
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check the request before its body: method, caller, rate, permission.

        The rate comes before the permission, whose refusal writes a row.
        """
        self.format_kwarg = None
        renderer, media_type = self.perform_content_negotiation(request)
        request.accepted_renderer, request.accepted_media_type = renderer, media_type
        request.version, request.versioning_scheme = None, None
        if request.method not in self.allowed_methods:
            raise MethodNotAllowed(str(request.method))
        self.perform_authentication(request)
        self.check_throttles(request)
        self.check_permissions(request)

    def get_exception_handler(self) -> Callable[..., Response]:
        return lambda error, context: answer(error, failure=self.failure)

    def get_authenticate_header(self, request: Request) -> str:
        return "Bearer"  # also where there is no authenticator, lest DRF make it a 403

    @property
    def default_response_headers(self) -> dict[str, str]:
        headers = {"Cache-Control": "no-store", "Content-Language": "en"}
        if self.allowed_methods:
            headers["Allow"] = ", ".join(self.allowed_methods)
        return headers

    def read_body(self, request: Request, serializer: type[StrictSerializer]) -> dict[str, Any]:
        """Return the body's fields, checked; those that were not sent are missing.

        A field in the URL is refused: ``?dry_run=true`` must not become an act, and a password
        does not belong into access logs.
        """
        in_url = dict(parse_qsl(request.META.get("QUERY_STRING", ""), keep_blank_values=True))
        if misplaced := sorted(in_url.keys() & serializer().fields.keys()):
            raise ValidationError({misplaced[0]: "Send it in the body, not in the URL."})
        body = serializer(data=read_object(request))
        body.is_valid(raise_exception=True)
        fields: dict[str, Any] = body.validated_data
        return fields

    def read_query(self, request: Request, serializer: type[StrictSerializer]) -> dict[str, Any]:
        """Return the options in the URL, checked; those that were not given are missing."""
        pairs = parse_qsl(request.META.get("QUERY_STRING", ""), keep_blank_values=True)
        given = dict(pairs)
        if len(given) != len(pairs):
            raise ValidationError("An option is given twice.")
        query = serializer(data=given)
        query.is_valid(raise_exception=True)
        options: dict[str, Any] = query.validated_data
        return options


class OperatorView(ApiView):
    """An endpoint for operators who may do its act; a question is not counted nor recorded."""

    authentication_classes = (BearerAuthentication,)
    permission_classes = (IsAdminUser,)

    act: Act

    def perform_authentication(self, request: Request) -> None:
        if request.auth is None:
            raise NotAuthenticated

    def get_throttles(self) -> list[BaseThrottle]:
        return [] if self.act is Act.VIEW_CONSOLE else [WriteThrottle()]

    def permission_denied(
        self, request: Request, message: str | None = None, code: str | None = None
    ) -> NoReturn:
        if self.act is Act.VIEW_CONSOLE:
            raise PermissionDenied("Not authorized")
        raise deny(self.act, actor=actor_of(request))


class ClearSearchCacheView(OperatorView):
    act = Act.CLEAR_SEARCH_CACHE
    failure = FAILURE_MESSAGES[act]

    def post(self, request: Request) -> Response:
        options = self.read_body(request, ClearCacheBody)
        return report(clear_search_cache(actor=actor_of(request), **options))


class UndoClearView(OperatorView):
    act = Act.UNDO_CLEAR
    failure = FAILURE_MESSAGES[act]

    def post(self, request: Request) -> Response:
        options = self.read_body(request, ClearBody)
        return report(undo_clear(actor=actor_of(request), **options))


class ResetCircuitBreakersView(OperatorView):
    act = Act.RESET_CIRCUIT_BREAKERS
    failure = FAILURE_MESSAGES[act]

    def post(self, request: Request) -> Response:
        options = self.read_body(request, ResetBody)
        return report(reset_circuit_breakers(actor=actor_of(request), **options))


class TokenView(ApiView):
    """Sign in with user name and password for a pair of tokens."""

    throttle_classes = (LoginThrottle,)
    failure = "Failed to sign in: %(reason)s"

    def post(self, request: Request) -> Response:
        given = self.read_body(request, TokenBody)
        credentials = {get_user_model().USERNAME_FIELD: given["username"]}
        user = authenticate(request._request, password=given["password"], **credentials)
        if user is None or not user.is_active:
            raise AuthenticationFailed("No active account with these credentials")
        return Response({"access": issue_access_token(user), "refresh": issue_refresh_token(user)})


class TokenRefreshView(ApiView):
    """Exchange a refresh token for a new access token."""

    throttle_classes = (LoginThrottle,)
    failure = "Failed to refresh the token: %(reason)s"

    def post(self, request: Request) -> Response:
        given = self.read_body(request, RefreshBody)
        try:
            user = user_of(OperatorRefreshToken(given["refresh"]))
        except TokenError as error:
            raise AuthenticationFailed(str(error), code="token_not_valid") from None
        return Response({"access": issue_access_token(user)})


class NotFoundView(ApiView):
    """Answers every path that no endpoint has."""

    def initial(self, request: HttpRequest, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotFound


def actor_of(request: Request) -> Actor:
    """Return who asks, and that it was by the API."""
    return Actor.from_user(request.user, channel="api")


def report(result: OperationResult) -> Response:
    """Say what the act says, and nothing beside it."""
    body: dict[str, Any] = {"message": result.message}
    if result.preview is not None:
        body["preview"] = result.preview
    if result.results is not None:
        body["results"] = result.results
    headers = {"X-Operation-Id": str(result.operation_id)} if result.operation_id else {}
    return Response(body, headers=headers)
