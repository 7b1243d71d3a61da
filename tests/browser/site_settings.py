"""The site as browsers meet it in these tests: itself, under the strictest content policy."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from project.settings import *  # noqa: F403  a settings module extends another in this way
from project.settings import MIDDLEWARE


def strict_content_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = "default-src 'self'"
        return response

    return middleware


MIDDLEWARE = ["tests.browser.site_settings.strict_content_policy", *MIDDLEWARE]
