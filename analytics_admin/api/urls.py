"""The paths of the endpoints, without a trailing slash."""

from django.urls import include, path

from analytics_admin.api import audit, breakers, login, schema, search_cache

breaker_operations = [
    path("reset", breakers.BreakerResetView.as_view(), name="circuit-breaker-reset"),
    path("control", breakers.BreakerControlView.as_view(), name="circuit-breaker-control"),
    path("probe", breakers.BreakerProbeView.as_view(), name="circuit-breaker-probe"),
]
urlpatterns = [
    path("analytics/cache", search_cache.SearchCacheView.as_view(), name="cache"),
    path("analytics/cache/clear", search_cache.ClearSearchCacheView.as_view(), name="cache-clear"),
    path("analytics/cache/undo", search_cache.UndoClearView.as_view(), name="cache-undo"),
    *(
        path(
            f"analytics/circuit-breakers/{view.name}",
            view.as_view(),
            name=f"circuit-breakers-{view.name}",
        )
        for view in (
            breakers.BreakersResetView,
            breakers.BreakersControlView,
            breakers.BreakersProbeView,
            breakers.BreakersForgetView,
        )
    ),
    path("analytics/circuit-breakers", breakers.BreakerListView.as_view(), name="circuit-breakers"),
    path(
        "analytics/circuit-breakers/<str:name>",
        breakers.BreakerView.as_view(),
        name="circuit-breaker",
    ),
    path("analytics/circuit-breakers/<str:name>/", include(breaker_operations)),
    path("analytics/processes", breakers.ProcessListView.as_view(), name="processes"),
    path("analytics/operations", audit.OperationListView.as_view(), name="operations"),
    path(
        "analytics/operations/<uuid:operation_id>", audit.OperationView.as_view(), name="operation"
    ),
    path("auth/token", login.TokenView.as_view(), name="token"),
    path("auth/token/refresh", login.TokenRefreshView.as_view(), name="token-refresh"),
    path("schema", schema.SchemaView.as_view(), name="schema"),
    path("docs", schema.DocumentationView.as_view(), name="docs"),
]
