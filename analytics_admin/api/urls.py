"""The paths of the endpoints, without a trailing slash."""

from django.urls import include, path

from analytics_admin.api.audit import OperationListView, OperationView
from analytics_admin.api.auth import TokenRefreshView, TokenView
from analytics_admin.api.breakers import (
    BreakerControlView,
    BreakerListView,
    BreakerProbeView,
    BreakerResetView,
    BreakerView,
    ResetCircuitBreakersView,
)
from analytics_admin.api.schema import DocumentationView, SchemaView
from analytics_admin.api.search_cache import ClearSearchCacheView, SearchCacheView, UndoClearView

breaker_operations = [
    path("reset", BreakerResetView.as_view(), name="circuit-breaker-reset"),
    path("control", BreakerControlView.as_view(), name="circuit-breaker-control"),
    path("probe", BreakerProbeView.as_view(), name="circuit-breaker-probe"),
]
urlpatterns = [
    path("analytics/cache", SearchCacheView.as_view(), name="cache"),
    path("analytics/cache/clear", ClearSearchCacheView.as_view(), name="cache-clear"),
    path("analytics/cache/undo", UndoClearView.as_view(), name="cache-undo"),
    path(
        "analytics/circuit-breakers/reset",
        ResetCircuitBreakersView.as_view(),
        name="circuit-breakers-reset",
    ),
    path("analytics/circuit-breakers", BreakerListView.as_view(), name="circuit-breakers"),
    path("analytics/circuit-breakers/<str:name>", BreakerView.as_view(), name="circuit-breaker"),
    path("analytics/circuit-breakers/<str:name>/", include(breaker_operations)),
    path("analytics/operations", OperationListView.as_view(), name="operations"),
    path("analytics/operations/<uuid:operation_id>", OperationView.as_view(), name="operation"),
    path("auth/token", TokenView.as_view(), name="token"),
    path("auth/token/refresh", TokenRefreshView.as_view(), name="token-refresh"),
    path("schema", SchemaView.as_view(), name="schema"),
    path("docs", DocumentationView.as_view(), name="docs"),
]
