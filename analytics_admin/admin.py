"""Registers the console's pages with the Django admin."""

from django.contrib import admin

from analytics_admin.console.circuit_breakers import CircuitBreakerAdmin
from analytics_admin.console.operations import OperationAdmin
from analytics_admin.console.search_cache import SearchCacheAdmin
from analytics_admin.models import CircuitBreaker, Operation, SearchCache

admin.site.register(SearchCache, SearchCacheAdmin)
admin.site.register(CircuitBreaker, CircuitBreakerAdmin)
admin.site.register(Operation, OperationAdmin)
