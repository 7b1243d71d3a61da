"""The login endpoints: a pair of tokens for a password, a new access token for a refresh token."""

from django.contrib.auth import authenticate, get_user_model
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_simplejwt.exceptions import TokenError

from analytics_admin.api.base import ApiView
from analytics_admin.api.serializers import RefreshBody, TokenBody
from analytics_admin.api.throttling import LoginThrottle
from analytics_admin.tokens import (
    OperatorRefreshToken,
    issue_access_token,
    issue_refresh_token,
    user_of,
)


class TokenView(ApiView):
    """Log in with user name and password for an access and a refresh token."""

    throttle_classes = (LoginThrottle,)
    failure = "Failed to sign in: %(reason)s"

    def post(self, request: Request) -> Response:
        login = self.read_body(request, TokenBody)
        credentials = {get_user_model().USERNAME_FIELD: login["username"]}
        user = authenticate(request._request, password=login["password"], **credentials)
        if user is None or not user.is_active:
            raise AuthenticationFailed("No active account with these credentials")
        return Response({"access": issue_access_token(user), "refresh": issue_refresh_token(user)})


class TokenRefreshView(ApiView):
    """Exchange a refresh token for a new access token."""

    throttle_classes = (LoginThrottle,)
    failure = "Failed to refresh the token: %(reason)s"

    def post(self, request: Request) -> Response:
        refresh = self.read_body(request, RefreshBody)["refresh"]
        try:
            user = user_of(OperatorRefreshToken(refresh))
        except TokenError as error:
            raise AuthenticationFailed(str(error), code="token_not_valid") from None
        return Response({"access": issue_access_token(user)})
