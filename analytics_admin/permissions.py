"""Who may do what: one function answers for the admin, the API and the commands."""

from enum import StrEnum
from typing import Any

from analytics_admin.conf import app_settings


class Act(StrEnum):
    """What an operator can do here."""

    VIEW_CONSOLE = "view_console"
    CLEAR_SEARCH_CACHE = "clear_search_cache"
    UNDO_CLEAR = "undo_clear"
    SWEEP_SEARCH_CACHE = "sweep_search_cache"
    RESET_CIRCUIT_BREAKERS = "reset_circuit_breakers"
    CONTROL_CIRCUIT_BREAKERS = "control_circuit_breakers"
    FORGET_CIRCUIT_BREAKER = "forget_circuit_breaker"
    ALLOW_PROBE = "allow_probe"

    @property
    def permission(self) -> str:
        return f"analytics_admin.{_PERMISSION_OF.get(self, self)}"


# The acts that have no permission of their own name.
_PERMISSION_OF = {
    Act.UNDO_CLEAR: Act.CLEAR_SEARCH_CACHE,
    Act.SWEEP_SEARCH_CACHE: Act.CLEAR_SEARCH_CACHE,
    Act.FORGET_CIRCUIT_BREAKER: Act.CONTROL_CIRCUIT_BREAKERS,
    Act.ALLOW_PROBE: Act.CONTROL_CIRCUIT_BREAKERS,
}


def is_operator(user: Any) -> bool:
    """Say whether the user is active and superuser or staff; works with any user model."""
    if not getattr(user, "is_active", False):
        return False
    return bool(getattr(user, "is_superuser", False) or getattr(user, "is_staff", False))


def is_allowed(user: Any, act: Act) -> bool:
    """Say whether the user may do the act, under ``REQUIRE_MODEL_PERMISSIONS`` as it is set."""
    if not is_operator(user):
        return False
    if getattr(user, "is_superuser", False) or not app_settings().require_model_permissions:
        return True
    return bool(user.has_perm(act.permission))
