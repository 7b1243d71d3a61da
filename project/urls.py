"""URLs of the site: the Django admin, the REST API and the demo search."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from project.demo.views import search_view

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    *([path("api/v1/search", search_view, name="search")] if settings.DEMO_SEARCH else []),
    path("api/v1/", include("analytics_admin.urls")),
]
