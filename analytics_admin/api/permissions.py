"""The API's permission, decided by the function that all interfaces share."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from analytics_admin.permissions import is_allowed


class IsAdminUser(BasePermission):
    """Permits active staff and superusers; by setting, staff also need the model permission."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return is_allowed(request.user, view.permission or view.action)
