"""The REST API, for the host project to mount (the paths expect ``/api/v1/``)."""

from django.urls import URLPattern, URLResolver

app_name = "analytics_admin"
urlpatterns: list[URLPattern | URLResolver] = []
