"""Who may call what: asks the one function that answers for all doors."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from analytics_admin.services import is_allowed


class IsAdminUser(BasePermission):
    """Let operators through: active, and superuser or staff, with the act's permission if asked."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return is_allowed(request.user, view.act)
