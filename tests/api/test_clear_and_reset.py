"""The two endpoints as the documents describe them: exact answers, who may, what is on record."""

from io import BytesIO

import pytest
from django.contrib.auth.models import Permission
from django.core.cache import caches
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from django.test import Client
from rest_framework.renderers import JSONRenderer
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from analytics_admin.api.search_cache import ClearSearchCacheView
from analytics_admin.models import Operation
from analytics_admin.services import UnknownBreakers
from tests.support.api import (
    ACTS,
    CLEAR,
    REFRESH,
    RESET,
    TOKEN,
    assert_error,
    call,
    nothing_changes,
)
from tests.support.breakers import state_now, trip
from tests.support.cases import case

pytestmark = pytest.mark.django_db

DONE = {
    CLEAR: b'{"message":"Search cache cleared"}',
    RESET: b'{"message":"All circuit breakers reset successfully"}',
}
KIND = {CLEAR: "clear_search_cache", RESET: "reset_circuit_breakers"}
FAILED = {CLEAR: "Failed to clear cache: ", RESET: "Failed to reset circuit breakers: "}


@pytest.mark.parametrize("path", ACTS)
@pytest.mark.parametrize("user", ["superuser", "staff_user"])
def test_an_operators_act_answers_with_the_exact_body_and_is_on_record(
    client, mint, request, user, path
):
    operator = request.getfixturevalue(user)
    answer = call(client, path, mint(operator.username))
    assert answer.status_code == 200
    assert answer.content == DONE[path]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    row = Operation.objects.get()
    assert answer.headers["X-Operation-Id"] == str(row.pk)
    assert (row.kind, row.status, row.channel) == (KIND[path], "done", "api")
    assert (row.actor, row.user, row.reason) == (operator.username, operator, "")


def test_a_clear_empties_the_search_cache_and_keeps_breakers_and_other_caches(
    client, superuser, mint
):
    for alias in caches:
        caches[alias].set("key", "value")
    breaker = trip("kept")
    call(client, CLEAR, mint(), {"reason": "stale prices"})
    assert caches["search"].get("key") is None
    assert caches["default"].get("key") == caches["breakers"].get("key") == "value"
    assert state_now(breaker) == "open"
    assert Operation.objects.get().reason == "stale prices"


def test_a_reset_closes_every_breaker_and_keeps_the_search_cache(client, superuser, mint):
    caches["search"].set("key", "value")
    breakers = [trip("one"), trip("two")]
    call(client, RESET, mint(), {"reason": "backend is back"})
    assert [state_now(breaker) for breaker in breakers] == ["closed", "closed"]
    assert caches["search"].get("key") == "value"
    assert Operation.objects.get().reason == "backend is back"


@pytest.mark.parametrize("path", ACTS)
def test_an_act_can_be_done_twice(client, superuser, mint, path):
    ids = {call(client, path, mint()).headers["X-Operation-Id"] for _ in range(2)}
    assert {str(pk) for pk in Operation.objects.values_list("pk", flat=True)} == ids
    assert len(ids) == 2


@pytest.mark.parametrize("path", ACTS)
@pytest.mark.parametrize("body", [None, {"dry_run": True}, b"{", b"x" * 70_000])
def test_who_is_no_operator_gets_403_before_the_body_is_read_and_a_row_says_so(
    client, plain_user, mint, path, body
):
    with nothing_changes(rows=1):
        answer = call(client, path, mint("una"), body)
    assert_error(answer, 403, "permission_denied")
    assert answer.json()["detail"] == "Not authorized"
    row = Operation.objects.get()
    assert answer.headers["X-Operation-Id"] == str(row.pk)
    assert (row.kind, row.status, row.channel) == (KIND[path], "denied", "api")
    assert (row.actor, row.user) == ("una", plain_user)


@pytest.mark.usefixtures("superuser")
@pytest.mark.parametrize("path", ACTS)
def test_with_model_permissions_staff_need_the_one_of_the_act(
    client, staff_user, mint, settings, path
):
    settings.ANALYTICS_ADMIN = {"REQUIRE_MODEL_PERMISSIONS": True}
    other = next(kind for kind in KIND.values() if kind != KIND[path])
    staff_user.user_permissions.add(Permission.objects.get(codename=other))
    with nothing_changes(rows=1):
        assert_error(call(client, path, mint("sam")), 403, "permission_denied")
    staff_user.user_permissions.add(Permission.objects.get(codename=KIND[path]))
    assert call(client, path, mint("sam")).content == DONE[path]
    assert call(client, path, mint("admin")).content == DONE[path]


@pytest.mark.parametrize("path", ACTS)
def test_a_read_only_site_refuses_acts_with_403_and_still_previews(
    client, superuser, mint, settings, path
):
    settings.ANALYTICS_ADMIN = {"READ_ONLY": True}
    with nothing_changes():
        assert_error(call(client, path, mint()), 403, "read_only")
        assert call(client, path, mint(), {"dry_run": True}).status_code == 200


@pytest.mark.usefixtures("superuser")
@pytest.mark.parametrize("path", ACTS)
@pytest.mark.parametrize("body", [None, {"reason": ""}, {"reason": "  "}])
def test_a_site_that_asks_for_reasons_refuses_an_act_without_one(
    client, mint, settings, path, body
):
    settings.ANALYTICS_ADMIN = {"REQUIRE_REASON": True}
    with nothing_changes():
        assert_error(call(client, path, mint(), body), 400, "reason_required", "reason")
    assert call(client, path, mint(), {"reason": "x"}).status_code == 200


@pytest.mark.parametrize("path", [*ACTS, TOKEN, REFRESH])
def test_only_post_does_anything(client, superuser, mint, path):
    with nothing_changes():
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            with case(method):
                answer = client.generic(method, path, headers={"Authorization": f"Bearer {mint()}"})
                assert answer.status_code == 405
                assert answer.headers["Allow"] == "POST"
                assert answer.headers["Cache-Control"] == "no-store"
                if method != "HEAD":
                    assert_error(answer, 405, "method_not_allowed", method)


def test_a_get_by_who_may_not_act_is_no_refused_act(client, plain_user, mint):
    headers = {"Authorization": f"Bearer {mint('una')}"}
    assert client.get(CLEAR, headers=headers).status_code == 405
    assert not Operation.objects.exists()


OTHER_PATHS = [
    f"{CLEAR}/",
    f"{RESET}/",
    f"{TOKEN}/",
    f"{CLEAR}.json",
    f"{CLEAR}%00",
    f"{CLEAR}%0A",
    "/api/v1/analytics/Cache/clear",
    "/api/v1/",
    "/api/v1/analytics",
    "/api/v1/nothing/here",
]


@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
def test_any_other_path_is_a_404_in_json(client, superuser, mint, method):
    with nothing_changes():
        for path in OTHER_PATHS:
            with case(path):
                answer = client.generic(method, path, headers={"Authorization": f"Bearer {mint()}"})
                assert_error(answer, 404, "not_found")


@pytest.mark.parametrize("path", ACTS)
@pytest.mark.parametrize(
    "accept", ["text/html", "application/xml", "application/json; indent=4", ""]
)
def test_the_answer_is_json_whatever_the_caller_accepts(client, superuser, mint, path, accept):
    answer = call(client, f"{path}?format=api", mint(), headers={"Accept": accept})
    assert answer.content == DONE[path]
    assert answer.headers["Content-Type"] == "application/json"


class Hostile:
    """Stands for any class that a host project may have as its default."""

    def __init__(self, *args, **kwargs):
        raise AssertionError("a default of the host was asked")


@pytest.fixture
def hostile_defaults(monkeypatch):
    """What a host's REST_FRAMEWORK does to APIView and JSONRenderer, at import and later."""
    for policy in ("authentication", "permission", "throttle", "parser", "renderer"):
        monkeypatch.setattr(APIView, f"{policy}_classes", [Hostile])
    for policy in ("content_negotiation", "metadata", "versioning"):
        monkeypatch.setattr(APIView, f"{policy}_class", Hostile)
    for name, value in {"compact": False, "ensure_ascii": True}.items():
        monkeypatch.setattr(JSONRenderer, name, value)
    later = {"EXCEPTION_HANDLER": Hostile, "UNAUTHENTICATED_USER": None, "FORMAT_SUFFIX_KWARG": "x"}
    for name, value in later.items():
        monkeypatch.setattr(api_settings, name, value, raising=False)


@pytest.mark.usefixtures("superuser", "plain_user", "hostile_defaults")
@pytest.mark.parametrize("path", ACTS)
def test_a_hosts_rest_framework_settings_change_nothing(client, mint, path):
    answer = call(client, path, mint())
    assert answer.content == DONE[path]
    assert answer.headers["Content-Type"] == "application/json"
    with nothing_changes(rows=1):
        assert_error(call(client, path, None), 401, "not_authenticated")
        assert_error(call(client, path, mint("una")), 403, "permission_denied")
        assert_error(call(client, path, mint(), b"x=1"), 400, "invalid_json")
        assert_error(call(client, path, mint(), {"größe": 1}), 400, "invalid", "größe")
        assert_error(client.get(path), 405, "method_not_allowed")
        assert_error(client.post("/api/v1/nothing"), 404, "not_found")


@pytest.mark.usefixtures("superuser")
def test_no_csrf_token_is_asked_for(mint):
    strict = Client(enforce_csrf_checks=True)
    for path in ACTS:
        assert call(strict, path, mint()).content == DONE[path]
    login = {"username": "admin", "password": "pw-admin"}
    assert call(strict, TOKEN, None, login).status_code == 200


def lose(error):
    def execute(run, sql, params, many, context):
        raise error

    return execute


LOST = {
    "gone": (OperationalError("could not connect to host db.internal user hunter2"), "not answer"),
    "locked": (OperationalError("database is locked"), "locked"),
    "closed": (InterfaceError("connection already closed"), "not answer"),
    "not migrated": (DatabaseError("no such table: auth_user"), "not migrated"),
}


@pytest.mark.usefixtures("superuser")
@pytest.mark.parametrize("path", ACTS)
@pytest.mark.parametrize("case", LOST)
def test_a_database_that_fails_before_authentication_is_the_documents_500(
    client, mint, path, case, caplog
):
    error, words = LOST[case]
    with nothing_changes(), connection.execute_wrapper(lose(error)):
        answer = call(client, path, mint())
    assert_error(answer, 500, "database_unavailable", words)
    assert answer.json()["detail"].startswith(f"{FAILED[path]}the database ")
    assert "hunter2" not in answer.text + caplog.text


@pytest.mark.parametrize("path", ACTS)
def test_a_database_that_fails_at_the_audit_row_means_nothing_is_done(
    client, superuser, mint, path
):
    def locked(run, sql, params, many, context):
        if "analytics_admin_operation" in sql:
            raise OperationalError("database is locked")
        return run(sql, params, many, context)

    with nothing_changes(), connection.execute_wrapper(locked):
        answer = call(client, path, mint())
    assert_error(answer, 500, "audit_unavailable", FAILED[path], "locked")
    assert "X-Operation-Id" not in answer.headers


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        (TOKEN, {"username": "admin", "password": "pw-admin"}, "Failed to sign in: "),
        (REFRESH, None, "Failed to refresh the token: "),
    ],
)
def test_signing_in_says_that_the_database_fails(client, superuser, path, body, sentence):
    if body is None:
        pair = call(client, TOKEN, None, {"username": "admin", "password": "pw-admin"}).json()
        body = {"refresh": pair["refresh"]}
    with connection.execute_wrapper(lose(OperationalError("gone"))):
        answer = call(client, path, None, body)
    assert_error(answer, 500, "database_unavailable", sentence)
    assert "pw-admin" not in answer.text


def test_what_nobody_foresaw_is_a_500_in_json_that_keeps_the_errors_text_to_itself(
    client, superuser, mint, caplog
):
    broken = lose(LookupError("redis://:hunter2@store"))
    with nothing_changes(), connection.execute_wrapper(broken):
        answer = call(client, CLEAR, mint())
    assert_error(answer, 500, "internal_error", "Failed to clear cache: ", "LookupError")
    assert "hunter2" not in answer.text + caplog.text
    assert "in user_of" in caplog.text  # where it broke


def test_a_list_of_unknown_names_is_cut():
    names = [f"n{number:02}" for number in range(25)]
    handle = ClearSearchCacheView().get_exception_handler()
    detail = handle(UnknownBreakers(names), {}).data["detail"]
    assert detail.endswith("n19 and 5 more")


@pytest.fixture
def atomic_requests(transactional_db, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


@pytest.mark.usefixtures("atomic_requests", "superuser", "plain_user")
@pytest.mark.parametrize("path", ACTS)
def test_under_atomic_requests_acts_work_and_their_rows_stay(client, mint, settings, path):
    assert call(client, path, mint()).content == DONE[path]
    assert call(client, path, mint("una")).status_code == 403
    nowhere = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "unix:///nowhere/s.sock"}
    settings.CACHES = dict.fromkeys(("default", "search", "breakers"), nowhere)
    answer = call(client, path, mint())
    assert_error(answer, 500, "store_unavailable", FAILED[path])
    rows = Operation.objects.order_by("started_at").values_list("status", flat=True)
    assert list(rows) == ["done", "denied", "failed"]


def test_a_connection_that_breaks_while_the_body_is_read_is_400(client, superuser, mint):
    class Broken(BytesIO):
        def read(self, *args):
            raise OSError("connection reset")

    with nothing_changes():
        answer = call(client, CLEAR, mint(), {"dry_run": True}, **{"wsgi.input": Broken()})
    assert_error(answer, 400, "truncated")
