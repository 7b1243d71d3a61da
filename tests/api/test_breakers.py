"""The endpoints of circuit breakers: what they answer, who may, what they refuse and leave."""

import pytest
from django.contrib.auth.models import Permission

from analytics_admin import services
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from tests.support.api import assert_error, nothing_changes
from tests.support.breakers import another, state_now, trip
from tests.support.stopwatch import Stopwatch

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("superuser")]

LIST = "/api/v1/analytics/circuit-breakers"
ONE = f"{LIST}/api.open"
RESET = f"{ONE}/reset"
CONTROL = f"{ONE}/control"
PROBE = f"{ONE}/probe"
READS = [LIST, ONE]
HOLD = {"control": "disabled", "for_seconds": 900, "reason": "deploy"}
ACTS = {
    "reset": ("POST", RESET, {}),
    "control": ("PUT", CONTROL, HOLD),
    "probe": ("POST", PROBE, {}),
    "forget": ("DELETE", ONE, {}),
}
ROUTES = [
    ("GET", LIST),
    ("GET", ONE),
    ("POST", RESET),
    ("PUT", CONTROL),
    ("POST", PROBE),
    ("DELETE", ONE),
]


@pytest.fixture(autouse=True)
def breaker():
    another("api.calm").acquire().succeed()
    return trip("api.open")


@pytest.fixture
def act(request, send):
    """Each act: called with an If-Match, or without."""
    method, path, body = ACTS[request.param]

    def act(**headers):
        return send(method, path, body, **headers)

    return act


each_act = pytest.mark.parametrize("act", ACTS, indirect=True)


def names(answer):
    return [row["name"] for row in answer.json()["results"]]


def test_the_list_has_every_breaker_as_numbers(send):
    answer = send("GET", f"{LIST}?search=api.")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    body = answer.json()
    assert {key: body[key] for key in ("count", "page", "pages")} == {
        "count": 2,
        "page": 1,
        "pages": 1,
    }
    calm, tripped = body["results"]
    assert (calm["name"], calm["state"], calm["retry_after"]) == ("api.calm", "closed", None)
    assert (tripped["name"], tripped["state"], tripped["control"]) == (
        "api.open",
        "open",
        "automatic",
    )
    assert 0 < tripped["retry_after"] <= 60


@pytest.mark.parametrize(
    ("query", "listed"),
    [
        ("search=API.", ["api.calm", "api.open"]),
        ("search=api.&state=open", ["api.open"]),
        ("search=api.&state=forced_open", []),
        ("search=api.&page_size=1", ["api.calm"]),
        ("search=api.&page_size=1&page=2", ["api.open"]),
        ("search=%3Cb%3E", []),
        ("state=open&search=", ["api.open"]),
        ("search=api.&sort=name", ["api.calm", "api.open"]),
        ("search=api.&sort=urgency", ["api.open", "api.calm"]),
        ("search=api.&sort=urgency&page_size=1&page=2", ["api.calm"]),
    ],
)
def test_the_list_is_filtered_and_paged(send, query, listed):
    assert names(send("GET", f"{LIST}?{query}")) == listed


@pytest.mark.parametrize("query", ["", "search=api.calm", "state=half_open", "page_size=1"])
def test_the_states_are_those_of_all_breakers_whatever_is_listed(send, query):
    trip("api.second")
    states = send("GET", f"{LIST}?{query}").json()["states"]
    assert states["open"] == 2
    assert states["closed"] == len(services.list_breakers(state="closed"))
    assert sum(states.values()) == len(services.list_breakers())


NO_OPTIONS = [
    ("state=ajar", "state"),
    ("state=", "state"),
    ("state=open&state=closed", "twice"),
    ("sort=size", "sort"),
    ("sort=", "sort"),
    ("sort=name&sort=name", "twice"),
    ("page=0", "page"),
    ("page=-1", "page"),
    ("page=one", "page"),
    ("page=", "page"),
    ("page=99999999999999999999", "page"),
    ("page_size=0", "page_size"),
    ("page_size=101", "page_size"),
    (f"search={'x' * 101}", "search"),
    ("search=%00", "search"),
    ("stat=open", "stat"),
    ("limit=5", "limit"),
    ("format=api", "format"),
]


def test_an_option_that_cannot_be_understood_is_400(send):
    for query, words in NO_OPTIONS:
        assert_error(send("GET", f"{LIST}?{query}"), 400, "invalid", words)


def test_a_page_beyond_the_last_is_404(send):
    assert_error(send("GET", f"{LIST}?search=api.&page=2"), 404, "not_found", "the last one is 1")


def test_one_breaker_is_shown_in_full_with_its_generation_as_etag(send):
    answer = send("GET", ONE)
    body = answer.json()
    assert answer.headers["ETag"] == f'"{body["generation"]}"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert (body["state"], body["counts"]["calls"]) == ("open", 0)  # since it opened
    assert (body["failure_rate"], body["slow_call_rate"], body["window"]) == (None, None, None)
    assert body["policy"]["failure_threshold"] == 1
    assert body["policy"]["record_exceptions"] == ["builtins.Exception"]
    assert [row["cause"] for row in body["transitions"]] == ["consecutive_failures"]


@pytest.mark.parametrize("path", READS)
def test_a_head_request_answers_without_a_body(send, path):
    answer = send("HEAD", path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_reading_changes_nothing(send):
    with nothing_changes():
        for path in (*READS, f"{LIST}/nope"):
            send("GET", path)


def test_an_option_on_one_breaker_is_400(send):
    assert_error(send("GET", f"{ONE}?state=open"), 400, "invalid", "state")


NO_NAMES = ["api.nope", "api.open%0A", "api.open%00", "%3Cscript%3E", "x" * 300, "..", "%ff"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "", None), ("POST", "/reset", {}), ("POST", "/probe", {}), ("DELETE", "", {})],
)
def test_an_unknown_name_is_404_and_is_created_nowhere(send, method, path, body):
    with nothing_changes():
        for name in NO_NAMES:
            answer = send(method, f"{LIST}/{name}{path}", body)
            assert_error(answer, 404, "unknown_breaker")


def test_an_unknown_name_is_not_held(send):
    with nothing_changes():
        answer = send("PUT", f"{LIST}/api.nope/control", HOLD)
    assert_error(answer, 404, "unknown_breaker", "api.nope")


def test_a_reset_says_what_it_was_and_is_and_leaves_the_others(send, breaker):
    other = trip("api.other")
    answer = send("POST", RESET, {"reason": "backend is back"})
    moved = {"name": "api.open", "from": "open", "to": "closed"}
    message = "1 circuit breaker reset successfully"
    assert (answer.status_code, answer.json()) == (200, {"message": message, "results": [moved]})
    assert (state_now(breaker), state_now(other)) == ("closed", "open")
    row = Operation.objects.get(pk=answer.headers["X-Operation-Id"])
    assert (row.status, row.reason, row.channel) == ("done", "backend is back", "api")


def test_a_hold_says_what_it_was_and_is_and_is_on_record(send, breaker):
    answer = send("PUT", CONTROL, HOLD)
    moved = {"name": "api.open", "from": "open", "to": "disabled"}
    message = "Circuit breaker api.open set to disabled"
    assert (answer.status_code, answer.json()) == (200, {"message": message, "results": [moved]})
    assert state_now(breaker) == "disabled"
    row = Operation.objects.get(pk=answer.headers["X-Operation-Id"])
    assert row.targets == {"names": ["api.open"], "control": "disabled", "for_seconds": 900.0}
    shown = send("GET", ONE).json()
    assert (shown["control"], shown["held_by"], shown["hold_reason"]) == (
        "disabled",
        "admin",
        "deploy",
    )
    assert shown["held_until"].endswith("Z")


def test_a_hold_can_be_for_ever_and_be_released(send, breaker):
    send("PUT", CONTROL, {"control": "forced_open", "for_seconds": "ever"})
    assert send("GET", ONE).json()["held_until"] is None
    answer = send("PUT", CONTROL, {"control": "automatic"})
    assert answer.json()["results"] == [
        {"name": "api.open", "from": "forced_open", "to": "half_open"}
    ]


NO_CONTROLS = [
    ({}, "control"),
    ({"control": None}, "control"),
    ({"control": "open"}, "control"),
    ({"control": ["disabled"]}, "control"),
    ({"control": {}}, "control"),
    ({"control": True}, "control"),
    ({**HOLD, "for_seconds": "900"}, "for_seconds"),
    ({**HOLD, "for_seconds": "Ever"}, "for_seconds"),
    ({**HOLD, "for_seconds": None}, "for_seconds"),
    ({**HOLD, "for_seconds": True}, "for_seconds"),
    ({**HOLD, "for_seconds": []}, "for_seconds"),
    ({**HOLD, "for_seconds": 0}, "for_seconds"),
    ({**HOLD, "for_seconds": -900}, "for_seconds"),
    ({**HOLD, "for_seconds": 10**400}, "for_seconds"),
    ({"control": "automatic", "for_seconds": 900}, "for_seconds"),
    ({**HOLD, "reason": "x" * 501}, "reason"),
    ({**HOLD, "reason": 5}, "reason"),
    ({**HOLD, "dry_run": "false"}, "dry_run"),
    ({**HOLD, "until": "tomorrow"}, "until"),
]


def test_a_control_that_is_not_asked_for_properly_is_400_and_nothing_is_done(send):
    with nothing_changes():
        for body, word in NO_CONTROLS:
            assert_error(send("PUT", CONTROL, body), 400, "invalid", word)


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_number_beyond_all_numbers_is_no_hold_for_ever(client, mint, number):
    body = f'{{"control": "disabled", "for_seconds": {number}}}'
    with nothing_changes():
        answer = client.generic(
            "PUT",
            CONTROL,
            body.encode(),
            content_type="application/json",
            headers={"Authorization": f"Bearer {mint()}"},
        )
    assert_error(answer, 400, "invalid", "for_seconds")


def test_options_of_an_act_in_the_url_are_refused(send):
    with nothing_changes():
        assert_error(send("POST", f"{RESET}?dry_run=true"), 400, "invalid", "dry_run")
        assert_error(send("PUT", f"{CONTROL}?for_seconds=5", HOLD), 400, "invalid", "for_seconds")
        assert_error(send("DELETE", f"{ONE}?dry_run=true"), 400, "invalid", "dry_run")


def test_a_dry_run_changes_nothing_and_says_what_would_happen(send):
    with nothing_changes():
        reset = send("POST", RESET, {"dry_run": True})
        held = send("PUT", CONTROL, {**HOLD, "dry_run": True})
        gone = send("DELETE", ONE, {"dry_run": True})
    assert (reset.json()["preview"]["count"], reset.status_code) == (1, 200)
    rows = [{"name": "api.open", "from": "open", "to": "disabled"}]
    assert held.json()["preview"] == {"count": 1, "breakers": rows}
    rows = [{"name": "api.open", "from": "open", "to": "forgotten"}]
    assert gone.json() == {
        "message": "Dry run: circuit breaker api.open would be forgotten",
        "preview": {"count": 1, "breakers": rows},
    }
    assert "X-Operation-Id" not in {**reset.headers, **held.headers, **gone.headers}


@each_act
def test_an_act_on_the_view_that_its_caller_has_is_done(send, act):
    assert act(If_Match=send("GET", ONE).headers["ETag"]).status_code == 200


@each_act
@pytest.mark.parametrize("tags", ['"stale"', '""', '"a", "b"', 'W/"a"', '"a",,', '"*"'])
def test_an_act_on_a_stale_view_is_412_and_changes_nothing_but_its_row(send, act, tags):
    now = send("GET", ONE).headers["ETag"]
    with nothing_changes(rows=1):
        answer = act(If_Match=tags)
    assert_error(answer, 412, "breaker_moved", "api.open")
    assert answer.headers["ETag"] == now
    row = Operation.objects.get(pk=answer.headers["X-Operation-Id"])
    assert (row.status, row.error) == ("failed", "the breaker has changed meanwhile")


@each_act
def test_a_weak_tag_never_matches_and_one_of_several_is_enough(send, act):
    now = send("GET", ONE).headers["ETag"]
    assert_error(act(If_Match=f"W/{now}"), 412, "breaker_moved")
    assert_error(act(If_Match=f'"x", W/{now}'), 412, "breaker_moved")
    assert act(If_Match=f'"x" , , {now}').status_code == 200


@each_act
def test_a_star_matches_whatever_the_breaker_is(act):
    assert act(If_Match="*").status_code == 200


@each_act
def test_a_dry_run_on_a_stale_view_is_412_without_a_row(send, request, act):
    method, path, body = ACTS[request.node.callspec.params["act"]]
    with nothing_changes():
        answer = send(method, path, {**body, "dry_run": True}, If_Match='"stale"')
    assert_error(answer, 412, "breaker_moved")
    assert "X-Operation-Id" not in answer.headers


def test_of_two_operators_with_the_same_view_one_gets_412_and_nothing_is_lost(send, staff_user):
    seen = send("GET", ONE).headers["ETag"]
    assert send("PUT", CONTROL, HOLD, If_Match=seen).status_code == 200
    late = send("PUT", CONTROL, {"control": "forced_open"}, sub="sam", If_Match=seen)
    assert late.status_code == 412
    assert send("GET", ONE).json()["held_by"] == "admin"
    assert send("POST", RESET, {}, sub="sam", If_Match=late.headers["ETag"]).status_code == 200


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_who_has_no_token_is_401(send, method, path):
    with nothing_changes():
        answer = send(method, path, sub=None)
    assert_error(answer, 401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.usefixtures("plain_user")
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_who_is_no_operator_is_403_and_only_a_refused_act_leaves_a_row(send, method, path):
    with nothing_changes(rows=0 if method == "GET" else 1):
        answer = send(method, path, sub="una")
    assert_error(answer, 403, "permission_denied")
    assert answer.json()["detail"] == "Not authorized"


@pytest.mark.parametrize(
    ("method", "path", "body", "codename"),
    [
        ("GET", LIST, None, "view_console"),
        ("GET", ONE, None, "view_console"),
        ("POST", RESET, {}, "reset_circuit_breakers"),
        ("PUT", CONTROL, HOLD, "control_circuit_breakers"),
        ("POST", PROBE, {}, "control_circuit_breakers"),
        ("DELETE", ONE, {}, "control_circuit_breakers"),
    ],
)
def test_with_model_permissions_staff_need_the_one_of_the_endpoint(
    send, staff_user, settings, method, path, body, codename
):
    settings.ANALYTICS_ADMIN = {"REQUIRE_MODEL_PERMISSIONS": True}
    assert_error(send(method, path, body, sub="sam"), 403, "permission_denied")
    staff_user.user_permissions.add(Permission.objects.get(codename=codename))
    assert send(method, path, body, sub="sam").status_code == 200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (LIST, "GET, HEAD"),
        (ONE, "GET, HEAD, DELETE"),
        (RESET, "POST"),
        (CONTROL, "PUT"),
        (PROBE, "POST"),
    ],
)
def test_a_method_that_is_not_allowed_does_nothing(send, path, allowed):
    with nothing_changes():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - {*allowed.split(", ")}:
            answer = send(method, path)
            assert_error(answer, 405, "method_not_allowed", method)
            assert answer.headers["Allow"] == allowed, method


def test_reads_are_not_counted_among_the_writes(send, settings, counted_together):
    settings.ANALYTICS_ADMIN = {"THROTTLE_RATES": {"write": "1/min"}}
    assert [send("GET", path).status_code for path in READS * 2] == [200] * 4
    assert send("PUT", CONTROL, HOLD).status_code == 200
    assert_error(send("POST", RESET, {}), 429, "throttled")
    assert_error(send("DELETE", ONE), 429, "throttled")
    assert send("GET", LIST).status_code == 200


def test_a_read_only_site_is_read_and_not_changed(send, settings):
    settings.ANALYTICS_ADMIN = {"READ_ONLY": True}
    assert send("GET", ONE).status_code == 200
    with nothing_changes():
        assert_error(send("PUT", CONTROL, HOLD), 403, "read_only")
        assert_error(send("POST", RESET, {}), 403, "read_only")
        assert_error(send("DELETE", ONE), 403, "read_only")


@pytest.mark.usefixtures("lost")
@pytest.mark.parametrize("path", READS)
@pytest.mark.one_database
def test_with_the_store_down_the_state_is_unknown_within_a_second(send, path):
    watch = Stopwatch()
    answer = send("GET", path)
    assert watch.seconds < 1
    assert_error(answer, 503, "store_unavailable", "The state is unknown: the store ")
    assert "hunter2" not in answer.text


@each_act
@pytest.mark.parametrize(
    ("lost", "tags"),
    [("stopped", None), ("frozen", None), ("stopped", '"a"'), ("frozen", '"a", "b"')],
    indirect=["lost"],
)
@pytest.mark.usefixtures("lost")
@pytest.mark.one_database
def test_with_the_store_down_an_act_is_500_and_on_record(act, tags):
    watch = Stopwatch()
    answer = act(**({"If_Match": tags} if tags else {}))
    looks = 2 if tags == '"a", "b"' else 1  # the first tells which of the tags is meant
    assert watch.seconds < looks * 0.5 + 0.4
    assert_error(answer, 500, "store_unavailable", "Failed to ")
    row = Operation.objects.get(pk=answer.headers["X-Operation-Id"])
    assert row.status == "failed"


def test_hostile_words_come_back_as_they_were_said(send):
    hostile = '<script>alert("x")</script>\x1b[31m {{ 7*7 }}'
    actor = Actor.system("root", channel="command")
    services.set_breaker_control(name="api.open", control="disabled", actor=actor, reason=hostile)
    answer = send("GET", ONE)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["hold_reason"] == hostile
