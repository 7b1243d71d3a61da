"""URLs of the site: the Django admin, the REST API, monitoring and the demo search."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("", include("analytics_admin.monitoring.urls")),
]
if settings.DEMO_SEARCH:
    from project.demo.views import search_view  # declares the demo's breakers

    urlpatterns += [path("api/v1/search", search_view, name="search")]
urlpatterns += [path("api/v1/", include("analytics_admin.urls"))]
