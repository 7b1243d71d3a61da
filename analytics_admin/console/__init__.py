"""The console: the app's pages in the Django admin."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite


def register(site: "AdminSite") -> None:
    """Put the console's pages into an admin site; the default one has them already.

    Raises:
        AlreadyRegistered: the site has them already.
    """
    from analytics_admin.console.audit.admin import OperationAdmin
    from analytics_admin.console.breakers.admin import CircuitBreakerAdmin
    from analytics_admin.console.search_cache.admin import SearchCacheAdmin
    from analytics_admin.models import CircuitBreaker, Operation, SearchCache

    site.register(SearchCache, SearchCacheAdmin)
    site.register(CircuitBreaker, CircuitBreakerAdmin)
    site.register(Operation, OperationAdmin)
