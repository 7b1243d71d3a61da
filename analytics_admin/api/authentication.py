"""Who calls: a bearer token in the ``Authorization`` header, and nothing else (no session)."""

from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework_simplejwt.exceptions import TokenError

from analytics_admin.tokens import OperatorAccessToken, user_of


class BearerAuthentication(BaseAuthentication):
    """Return the active user named by a valid access token."""

    def authenticate(self, request: Request) -> tuple[Any, OperatorAccessToken] | None:
        """Return user and token, or None when no bearer token was sent.

        Raises:
            AuthenticationFailed: one was sent, and does not hold.
        """
        scheme, _, credentials = request.META.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            token = OperatorAccessToken(credentials.strip())
            return user_of(token), token
        except TokenError as error:
            raise AuthenticationFailed(str(error), code="token_not_valid") from None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
