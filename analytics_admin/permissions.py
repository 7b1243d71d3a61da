"""Who may do what, in the console, the API and the services. Commands need no permission."""

from typing import Any

from analytics_admin.conf import app_settings
from analytics_admin.models import Operation

Kind = Operation.Kind

VIEW_CONSOLE = "view_console"
CLEAR_PART = "clear_search_cache_part"
"""To clear by tags, functions or keys, and to undo that; who may clear everything may, too."""

# Operations without a permission of their own name.
_PERMISSION_OF: dict[str, str] = {
    Kind.UNDO_CLEAR: Kind.CLEAR_SEARCH_CACHE,
    Kind.SWEEP_SEARCH_CACHE: Kind.CLEAR_SEARCH_CACHE,
    Kind.FORGET_CIRCUIT_BREAKER: Kind.CONTROL_CIRCUIT_BREAKERS,
    Kind.ALLOW_PROBE: Kind.CONTROL_CIRCUIT_BREAKERS,
}


def permission_of(action: str) -> str:
    """Return the permission that an operation's kind, VIEW_CONSOLE or CLEAR_PART requires."""
    return f"analytics_admin.{_PERMISSION_OF.get(action, action)}"


def is_operator(user: Any) -> bool:
    """Say whether the user is active and superuser or staff. Works with any user model."""
    if not getattr(user, "is_active", False):
        return False
    return bool(getattr(user, "is_superuser", False) or getattr(user, "is_staff", False))


def is_allowed(user: Any, action: str) -> bool:
    """Say whether the user may run an operation of this kind, or see the console (VIEW_CONSOLE).

    Without ``REQUIRE_MODEL_PERMISSIONS`` every operator may do everything.
    """
    if not is_operator(user):
        return False
    if getattr(user, "is_superuser", False) or not app_settings().require_model_permissions:
        return True
    if action == CLEAR_PART and user.has_perm(permission_of(Kind.CLEAR_SEARCH_CACHE)):
        return True
    return bool(user.has_perm(permission_of(action)))
