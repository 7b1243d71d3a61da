"""URLs of the REST API; include them under ``/api/v1/``.

Any other path below is a 404 in JSON: include them after other apps with the same prefix.
"""

from django.urls import include, path, re_path

from analytics_admin.api.base import NotFoundView

app_name = "analytics_admin"
urlpatterns = [
    path("", include("analytics_admin.api.urls")),
    re_path("", NotFoundView.as_view()),
]
