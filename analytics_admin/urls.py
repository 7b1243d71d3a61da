"""The REST API, for the host project to mount (the paths expect ``/api/v1/``).

Whatever else lies below the mount is a 404 in JSON: mount it after any other app that shares the
prefix.
"""

from django.urls import include, path, re_path

from analytics_admin.api.base import NotFoundView

app_name = "analytics_admin"
urlpatterns = [
    path("", include("analytics_admin.api.urls")),
    re_path("", NotFoundView.as_view()),
]
