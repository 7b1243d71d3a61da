"""Operations on many circuit breakers, and breakers that have the name of such an operation."""

import pytest

from analytics_admin.breakers import CircuitOpenError
from analytics_admin.models import Operation
from analytics_admin.services import describe_breaker
from tests.support.api import assert_error, nothing_changes
from tests.support.breakers import another, rest_engines, trip

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("superuser")]

BREAKERS = "/api/v1/analytics/circuit-breakers"
NAMES = ["many.one", "many.three", "many.two"]
MANY = {
    "control": ("PUT", {"control": "disabled", "for_seconds": 60}, "disabled"),
    "probe": ("POST", {}, "half_open"),
    "forget": ("POST", {}, None),
}
MESSAGES = {
    "control": "3 circuit breakers set to disabled",
    "probe": "3 circuit breakers allow a probe",
    "forget": "3 circuit breakers forgotten",
}
PLANS = {
    "control": "Dry run: 3 circuit breakers would be set to disabled",
    "probe": "Dry run: 3 circuit breakers would allow a probe",
    "forget": "Dry run: 3 circuit breakers would be forgotten",
}
each_act = pytest.mark.parametrize("act", MANY)


@pytest.fixture(autouse=True)
def staged() -> None:
    for name in NAMES:
        trip(name)


@each_act
def test_many_breakers_are_changed_by_one_operation(send, act):
    method, body, state = MANY[act]
    names = [*reversed(NAMES), NAMES[0]]  # one of them twice
    answer = send(method, f"{BREAKERS}/{act}", {**body, "names": names, "reason": "why"})
    assert (answer.status_code, answer.json()["message"]) == (200, MESSAGES[act])
    results = answer.json()["results"]
    assert [(row["name"], row["from"]) for row in results] == [(name, "open") for name in NAMES]
    row = Operation.objects.get()
    assert (row.targets["names"], row.outcome["count"], row.reason) == (NAMES, 3, "why")
    assert answer.headers["X-Operation-Id"] == str(row.pk)
    if state is None:
        listed = {row["name"] for row in send("GET", BREAKERS).json()["results"]}
        assert listed.isdisjoint(NAMES)  # others may be declared in this process
    else:
        assert {describe_breaker(name).status.state for name in NAMES} == {state}


@each_act
def test_a_dry_run_changes_none_of_them(send, act):
    method, body, _ = MANY[act]
    with nothing_changes():
        answer = send(method, f"{BREAKERS}/{act}", {**body, "names": NAMES, "dry_run": True})
    assert (answer.status_code, answer.json()["message"]) == (200, PLANS[act])
    assert answer.json()["preview"]["count"] == 3


@each_act
@pytest.mark.parametrize(
    ("names", "status", "code"),
    [
        (["many.one", "many.tow"], 404, "unknown_breaker"),
        ([], 400, "invalid"),
        (None, 400, "invalid"),
        ("many.one", 400, "invalid"),
        ([1], 400, "invalid"),
    ],
)
def test_an_unusable_list_of_names_changes_nothing(send, act, names, status, code):
    method, body, _ = MANY[act]
    asked = body if names is None else {**body, "names": names}
    with nothing_changes():
        assert_error(send(method, f"{BREAKERS}/{act}", asked), status, code)


@pytest.mark.parametrize(
    ("act", "code"), [("probe", "breaker_not_open"), ("forget", "breaker_kept")]
)
def test_one_that_does_not_qualify_keeps_all_as_they_are(send, act, code):
    send("PUT", f"{BREAKERS}/control", {"names": ["many.two"], "control": "disabled"})
    with nothing_changes():
        answer = send("POST", f"{BREAKERS}/{act}", {"names": NAMES})
    assert_error(answer, 409, code, "many.two")


@pytest.mark.parametrize("name", ["reset", "control", "probe", "forget"])
def test_a_breaker_with_the_name_of_an_operation_is_read_and_forgotten_there(send, name):
    path = f"{BREAKERS}/{name}"
    allowed = "PUT" if name == "control" else "POST"
    for method in ("GET", "DELETE", "HEAD"):
        answer = send(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    another(name).acquire().succeed()
    answer = send("GET", path)
    assert (answer.status_code, answer.json()["name"]) == (200, name)
    assert answer.headers["ETag"]
    assert send("GET", path, sub=None).status_code == 405
    assert send("PUT", f"{path}/control", {"control": "disabled"}).status_code == 200
    assert_error(send("DELETE", path), 409, "breaker_kept")
    send("PUT", f"{path}/control", {"control": "automatic"})
    stale = send("DELETE", path, If_Match='"stale"')
    assert_error(stale, 412, "breaker_moved")
    assert send("DELETE", path).json()["message"] == f"Circuit breaker {name} forgotten"
    assert send("GET", path).status_code == 405


def test_who_may_only_look_may_not_forget_such_a_breaker(send, staff_user, settings):
    another("forget").acquire().succeed()
    settings.ANALYTICS_ADMIN = {"REQUIRE_MODEL_PERMISSIONS": True}
    assert_error(send("GET", f"{BREAKERS}/forget", sub="sam"), 403, "permission_denied")
    assert_error(send("DELETE", f"{BREAKERS}/forget", sub="sam"), 403, "permission_denied")
    assert describe_breaker("forget")


@pytest.mark.usefixtures("counted_together")
def test_an_act_says_what_is_left_of_its_rate(send, settings):
    settings.ANALYTICS_ADMIN = {"THROTTLE_RATES": {"write": "2/min"}}
    for left, status in ((1, 200), (0, 200), (0, 429)):
        answer = send("POST", f"{BREAKERS}/reset")
        assert answer.status_code == status
        assert answer.headers["RateLimit-Policy"] == '"write";q=2;w=60'
        scope, remaining, seconds = answer.headers["RateLimit"].split(";")
        assert (scope, remaining) == ('"write"', f"r={left}")
        assert 0 < int(seconds.removeprefix("t=")) <= 60
    assert "RateLimit" not in send("GET", BREAKERS).headers
    settings.ANALYTICS_ADMIN = {"THROTTLE_RATES": {"write": None}}
    assert "RateLimit" not in send("POST", f"{BREAKERS}/reset").headers


def test_an_error_lists_the_choices_and_the_likely_one(send):
    def detail(method, path, body=None):
        return send(method, f"/api/v1/analytics/{path}", body).json()["detail"]

    one = "circuit-breakers/many.one"
    assert detail("PUT", f"{one}/control", {"control": "disable"}) == (
        "control: One of automatic, forced_open, disabled, metrics_only. Did you mean 'disabled'?"
    )
    assert detail("PUT", f"{one}/control", {"control": 7}) == (
        "control: One of automatic, forced_open, disabled, metrics_only."
    )
    assert detail("POST", "cache/clear", {"mode": "sofd"}) == (
        "mode: One of hard, soft. Did you mean 'soft'?"
    )
    assert (
        detail("GET", "circuit-breakers?sate=open") == "sate: Unknown field. Did you mean 'state'?"
    )
    trip("catalog")
    expected = "Unknown circuit breakers: catlog. Did you mean 'catalog'?"
    assert detail("GET", "circuit-breakers/catlog") == expected
    assert detail("POST", "circuit-breakers/reset", {"names": ["catlog"]}) == expected
    assert detail("GET", "circuit-breakers/xyz") == "Unknown circuit breakers: xyz"


def test_a_row_of_the_list_says_since_when_why_and_what_it_rejects(send):
    with pytest.raises(CircuitOpenError):
        another("many.one").acquire()
    another("many.calm").acquire().succeed()
    rest_engines()
    rows = {row["name"]: row for row in send("GET", BREAKERS).json()["results"]}
    assert (rows["many.one"]["cause"], rows["many.one"]["rejected"]) == ("consecutive_failures", 1)
    detail = send("GET", f"{BREAKERS}/many.one").json()
    assert rows["many.one"]["since"] == detail["since"]
    assert (rows["many.calm"]["cause"], rows["many.calm"]["rejected"]) == ("", 0)
