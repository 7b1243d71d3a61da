"""Authentication by a bearer token in the ``Authorization`` header; sessions do not count."""

from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework_simplejwt.exceptions import TokenError

from analytics_admin.tokens import OperatorAccessToken, user_of


class BearerAuthentication(BaseAuthentication):
    """Authenticates the active user of a valid access token."""

    def authenticate(self, request: Request) -> tuple[Any, OperatorAccessToken] | None:
        """Return user and token, or None without a bearer token.

        Raises:
            AuthenticationFailed: the token is not valid.
        """
        scheme, _, credentials = request.META.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            token = OperatorAccessToken(credentials.strip())
            return user_of(token), token
        except TokenError as error:
            raise AuthenticationFailed(str(error), code="token_not_valid") from None
