"""System checks that ask the breakers' store itself; only ``check --deploy`` runs them."""

from typing import Any

from django.core.checks import CheckMessage, Info, Warning, register

from analytics_admin.breakers import runtime
from analytics_admin.breakers.registry import overridden_options
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.checks.settings import TAG, check_settings, check_stores
from analytics_admin.stores.client import StoreUnavailable


@register(TAG, deploy=True)
def check_breaker_store(**kwargs: Any) -> list[CheckMessage]:
    """Find a store that can lose breakers: by eviction, or at its restart."""
    if any(issue.is_serious() for issue in [*check_settings(), *check_stores()]):
        return []
    found: list[CheckMessage] = []
    try:
        store = runtime.operator_store()
        if not isinstance(store, RedisStore):
            return []
        if store.may_evict():
            text = "The breakers' store drops any key when its memory is full, breakers too."
            hint = "Set its maxmemory-policy to noeviction or to one of the volatile policies."
            found.append(Warning(text, hint=hint, id=f"{TAG}.W006"))
        if not store.is_persistent():
            text = "The breakers' store keeps nothing on disk: a restart closes every breaker."
            hint = "Switch on appendonly, or snapshots, if an open breaker should outlive it."
            found.append(Warning(text, hint=hint, id=f"{TAG}.W007"))
    except StoreUnavailable as error:
        text = f"The breakers' store could not be asked how it keeps its data: {error.reason}."
        found.append(Info(text, hint="Run this check where the site runs.", id=f"{TAG}.I001"))
    return found


@register(TAG)
def check_policies(**kwargs: Any) -> list[CheckMessage]:
    """Find breakers for which code and settings say different things."""
    if any(issue.is_serious() for issue in check_settings()):
        return []
    return [
        Info(
            f"BREAKERS['{name}'] overrides what the code says of {', '.join(options)}.",
            hint="The settings win. If that is not meant, take the option out of one of them.",
            id=f"{TAG}.I002",
        )
        for name, options in overridden_options().items()
    ]
