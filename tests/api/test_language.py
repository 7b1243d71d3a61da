"""The API's words: programs match them, so they are English whatever the caller reads."""

import pytest
from django.utils import translation

from tests.support.api import CLEAR, RESET, TOKEN, call

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("superuser")]

GERMAN = {"Accept-Language": "de"}
DRY_RUN = {"dry_run": True}
ENGLISH = {
    "no token": (lambda mint: (CLEAR, None, None), 401),
    "a token that does not hold": (lambda mint: (CLEAR, "no.token.atall", None), 401),
    "no such path": (lambda mint: ("/api/v1/nothing", mint(), None), 404),
    "a wrong type": (lambda mint: (CLEAR, mint(), {"dry_run": "ja"}), 400),
    "a missing field": (lambda mint: (TOKEN, None, {}), 400),
    "a NUL": (lambda mint: (RESET, mint(), {"reason": "a\0b"}), 400),
    "an act": (lambda mint: (RESET, mint(), DRY_RUN), 200),
}


@pytest.fixture(autouse=True)
def _site_in_the_callers_language(settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    with translation.override(translation.get_language()):  # the middleware's choice outlives it
        yield


@pytest.mark.parametrize("case", ENGLISH)
def test_an_answer_is_the_same_in_whatever_language_it_is_asked_for(client, mint, case):
    request, status = ENGLISH[case]
    path, token, body = request(mint)
    plain = call(client, path, token, body)
    german = call(client, path, token, body, headers=GERMAN)
    assert plain.status_code == german.status_code == status
    assert german.content == plain.content
    assert german.headers["Content-Language"] == "en"


def test_a_method_that_is_none_is_refused_in_english(client):
    answer = client.get(CLEAR, headers=GERMAN)
    assert answer.json()["detail"] == 'Method "GET" not allowed.'


def test_the_site_around_the_api_keeps_the_callers_language(client):
    call(client, CLEAR, None, headers=GERMAN)
    assert translation.get_language() == "de"
    assert "Anmelden" in client.get("/admin/login/", headers=GERMAN).text
