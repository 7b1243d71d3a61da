"""The login endpoints: a pair of tokens for a password, a new access token for a refresh token."""

from typing import Any

from django.contrib.auth import authenticate, get_user_model
from django.core.exceptions import MultipleObjectsReturned
from rest_framework.exceptions import AuthenticationFailed, NotFound, Throttled
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_simplejwt.exceptions import TokenError

from analytics_admin.api.base import ApiView
from analytics_admin.api.serializers import RefreshBody, TokenBody
from analytics_admin.api.throttling import AccountThrottle, LoginThrottle
from analytics_admin.conf import app_settings
from analytics_admin.services.accounts import UNUSABLE_NAME, parse_username
from analytics_admin.tokens import (
    exchange_refresh_token,
    issue_access_token,
    issue_refresh_token,
)


class LoginView(ApiView):
    """A view that hands out tokens, unless TOKEN_ENDPOINT is off."""

    throttle_classes = (LoginThrottle,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if not app_settings().token_endpoint:
            raise NotFound("This site hands out no tokens for passwords")
        super().initial(request, *args, **kwargs)


class TokenView(LoginView):
    """Log in with user name and password for an access and a refresh token."""

    failure = "Failed to sign in: %(reason)s"

    def post(self, request: Request) -> Response:
        login = self.read_body(request, TokenBody)
        throttle = AccountThrottle(login["username"])
        if not throttle.allow_request(request, self):
            raise Throttled(throttle.wait())
        user = _authenticate(request, login["username"], login["password"])
        if user is None or not user.is_active:
            raise AuthenticationFailed("No active account with these credentials")
        throttle.take_back()
        return Response({"access": issue_access_token(user), "refresh": issue_refresh_token(user)})


class TokenRefreshView(LoginView):
    """Exchange a refresh token for a new access token."""

    failure = "Failed to refresh the token: %(reason)s"

    def post(self, request: Request) -> Response:
        refresh = self.read_body(request, RefreshBody)["refresh"]
        try:
            return Response(exchange_refresh_token(refresh))
        except TokenError as error:
            raise AuthenticationFailed(str(error), code="token_not_valid") from None


def _authenticate(request: Request, username: str, password: str) -> Any:
    """Return the user with this name and password, or None."""
    name = parse_username(username)
    if name is None:
        return None
    # Of a text, an error is the site's own; of another value, it is that no account has it.
    unusable = () if isinstance(name, str) else UNUSABLE_NAME
    credentials = {get_user_model().USERNAME_FIELD: name}
    try:
        return authenticate(request._request, password=password, **credentials)
    except (MultipleObjectsReturned, *unusable):
        return None
