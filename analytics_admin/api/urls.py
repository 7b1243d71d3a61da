"""The endpoints' paths, exact and without a trailing slash."""

from django.urls import path

from analytics_admin.api.views import (
    ClearSearchCacheView,
    ResetCircuitBreakersView,
    TokenRefreshView,
    TokenView,
)

urlpatterns = [
    path("analytics/cache/clear", ClearSearchCacheView.as_view(), name="cache-clear"),
    path(
        "analytics/circuit-breakers/reset",
        ResetCircuitBreakersView.as_view(),
        name="circuit-breakers-reset",
    ),
    path("auth/token", TokenView.as_view(), name="token"),
    path("auth/token/refresh", TokenRefreshView.as_view(), name="token-refresh"),
]
