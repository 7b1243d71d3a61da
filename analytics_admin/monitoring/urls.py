"""URLs of probes and metrics; include them where load balancers and Prometheus ask for them."""

from django.urls import path

from analytics_admin.monitoring.views import healthz, metrics, readyz

app_name = "analytics_admin_monitoring"
urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
]
