"""Request bodies: whatever is ambiguous is rejected before anything is done."""

import json
from io import BytesIO

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.core.cache import caches

from analytics_admin.models import Operation
from tests.support.api import ACTS, CLEAR, RESET, assert_error, call, nothing_changes
from tests.support.breakers import state_now, trip
from tests.support.cases import case

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("superuser")]

DEEP = b'{"reason":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
NOT_JSON = {
    "one brace": b"{",
    "a blank": b" ",
    "a list": b"[]",
    "a text": b'"dry_run"',
    "null": b"null",
    "a number": b"1",
    "two objects": b"{}{}",
    "a trailing comma": b'{"dry_run":true,}',
    "a key twice": b'{"dry_run":true,"dry_run":false}',
    "a nested key twice": b'{"reason":{"a":1,"a":2}}',
    "NaN": b'{"reason":NaN}',
    "infinity": b'{"reason":-Infinity}',
    "nested too deep": DEEP,
    "a level too deep": b'{"reason":' + b"[" * 500 + b"]" * 500 + b"}",
    "a number of 5,000 digits": b'{"reason":' + b"9" * 5000 + b"}",
    "not UTF-8": b'{"reason":"\xff"}',
    "UTF-16": '{"dry_run":true}'.encode("utf-16"),
    "half a surrogate pair": b'{"reason":"\\ud800"}',
    "half a surrogate pair as key": b'{"\\udfff":1}',
    "a form": b"dry_run=true",
}


@pytest.fixture
def unthrottled(settings):
    settings.ANALYTICS_ADMIN = {"THROTTLE_RATES": {"write": None}}


@pytest.mark.parametrize("path", ACTS)
@pytest.mark.usefixtures("unthrottled")
def test_a_body_that_is_no_json_object_is_400(client, mint, path):
    with nothing_changes():
        for name, body in NOT_JSON.items():
            with case(name):
                assert_error(call(client, path, mint(), body), 400, "invalid_json")


WRONG_FIELDS = {
    "unknown": ({"dryrun": True}, "dryrun"),
    "unknown beside a known one": ({"reason": "x", "Dry_run": True}, "Dry_run"),
    "unknown and very long": ({"x" * 5000: 1}, "x" * 100),
    "dry_run as text": ({"dry_run": "true"}, "dry_run"),
    "dry_run as number": ({"dry_run": 1}, "dry_run"),
    "dry_run null": ({"dry_run": None}, "dry_run"),
    "dry_run as list": ({"dry_run": [True]}, "dry_run"),
    "dry_run as object": ({"dry_run": {}}, "dry_run"),
    "reason null": ({"reason": None}, "reason"),
    "reason as number": ({"reason": 5}, "reason"),
    "reason as boolean": ({"reason": True}, "reason"),
    "reason as list": ({"reason": ["x"]}, "reason"),
    "reason with NUL": ({"reason": "a\0b"}, "reason"),
    "reason too long": ({"reason": "x" * 501}, "reason"),
}
WRONG_RESET_FIELDS = {
    "names null": ({"names": None}, "names"),
    "names empty": ({"names": []}, "names"),
    "names a text": ({"names": "kept"}, "names"),
    "names an object": ({"names": {"kept": 1}}, "names"),
    "a name null": ({"names": ["kept", None]}, "names[1]"),
    "a name a number": ({"names": [1]}, "names[0]"),
    "a name a list": ({"names": [["kept"]]}, "names[0]"),
    "a name empty": ({"names": [""]}, "names[0]"),
    "a name too long": ({"names": ["x" * 101]}, "names[0]"),
    "a name with NUL": ({"names": ["a\0"]}, "names[0]"),
    "too many names": ({"names": ["n"] * 10_001}, "names"),
    "only_open as text": ({"only_open": "yes"}, "only_open"),
    "only_open null": ({"only_open": None}, "only_open"),
}


@pytest.mark.parametrize(
    ("path", "wrong"), [*((path, WRONG_FIELDS) for path in ACTS), (RESET, WRONG_RESET_FIELDS)]
)
@pytest.mark.usefixtures("unthrottled")
def test_a_wrong_field_is_400_and_named(client, mint, path, wrong):
    with nothing_changes():
        for which, (body, name) in wrong.items():
            with case(which):
                assert_error(call(client, path, mint(), body), 400, "invalid", name)


def test_an_error_about_very_many_entries_stays_short(client, mint):
    answer = call(client, RESET, mint(), {"names": [1] * 9000})
    assert_error(answer, 400, "invalid", "names[0]")
    assert len(answer.content) < 2500


@pytest.mark.parametrize("path", ACTS)
@pytest.mark.parametrize("query", ["dry_run=true", "x=1&dry_run", "reason=x", "dry%5Frun=1"])
def test_a_field_in_the_url_is_400_and_no_act(client, mint, path, query):
    with nothing_changes():
        answer = call(client, f"{path}?{query}", mint())
    assert_error(answer, 400, "invalid", "in the body")


@pytest.mark.parametrize("path", ACTS)
@pytest.mark.parametrize("query", ["_=1", "&".join(["x=1"] * 2000), "%00=%ff"])
def test_anything_else_in_the_url_means_nothing(client, mint, path, query):
    assert call(client, f"{path}?{query}", mint()).status_code == 200


@pytest.mark.parametrize("path", ACTS)
@pytest.mark.parametrize("field", ["names", "only_open"])
def test_options_of_a_reset_are_unknown_to_a_clear(client, mint, path, field):
    if path == CLEAR:
        with nothing_changes():
            assert_error(call(client, path, mint(), {field: True}), 400, "invalid", field)


@pytest.mark.parametrize("path", ACTS)
@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/json; charset=utf-16",
        "application/json; charset=bz2_codec",
        "application/xml",
        "",
    ],
)
def test_a_body_of_another_content_type_is_415_and_told_which_one_to_send(
    client, mint, path, content_type
):
    with nothing_changes():
        answer = call(client, path, mint(), b'{"dry_run":true}', content_type=content_type)
    assert_error(answer, 415, "unsupported_media_type", "application/json")


@pytest.mark.parametrize("path", ACTS)
@pytest.mark.parametrize(
    "content_type", ["", "application/x-www-form-urlencoded", "text/plain", "multipart/form-data"]
)
def test_an_empty_body_of_any_content_type_is_no_body(client, mint, path, content_type):
    answer = call(client, path, mint(), b"", content_type=content_type)
    assert answer.status_code == 200
    assert Operation.objects.get().status == "done"


@pytest.mark.parametrize("path", ACTS)
@pytest.mark.parametrize("content_type", ["application/json; charset=UTF-8", "Application/JSON"])
def test_json_may_say_its_charset(client, mint, path, content_type):
    answer = call(client, path, mint(), {"dry_run": True}, content_type=content_type)
    assert "preview" in answer.json()


@pytest.mark.parametrize("path", ACTS)
@pytest.mark.parametrize("coding", ["chunked", "gzip, chunked", "identity", ""])
def test_a_body_in_a_transfer_coding_is_411(client, mint, path, coding):
    with nothing_changes():
        answer = call(
            client, path, mint(), {"dry_run": True}, headers={"Transfer-Encoding": coding}
        )
    assert_error(answer, 411, "length_required", "Content-Length")


@pytest.mark.parametrize("path", ACTS)
@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "+5", "0x10", "5, 5", "\uff11", "9" * 30])
def test_a_content_length_that_is_no_number_is_400(client, mint, path, length):
    with nothing_changes():
        answer = call(client, path, mint(), {"dry_run": True}, CONTENT_LENGTH=length)
    assert_error(answer, 400, "invalid", "Content-Length")


@pytest.mark.parametrize("path", ACTS)
def test_a_body_shorter_than_it_says_is_400(client, mint, path):
    cut = {"wsgi.input": BytesIO(b'{"dry_run":true}'), "CONTENT_LENGTH": "17"}
    with nothing_changes():
        answer = call(client, path, mint(), {"dry_run": True}, **cut)
    assert_error(answer, 400, "truncated")


@pytest.mark.parametrize("path", ACTS)
def test_a_body_over_the_limit_is_413_and_not_read(client, mint, path):
    fits, too_large = (b'{"dry_run":true}' + b" " * (65_536 - 16 + extra) for extra in (0, 1))
    assert call(client, path, mint(), fits).status_code == 200
    with nothing_changes():
        assert_error(call(client, path, mint(), too_large), 413, "body_too_large", "65536")
        lying = call(client, path, mint(), b"{}", CONTENT_LENGTH=str(10**18))
    assert_error(lying, 413, "body_too_large")


@pytest.mark.parametrize("path", ACTS)
def test_a_lower_limit_of_the_host_holds_too(client, mint, settings, path):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    with nothing_changes():
        assert_error(call(client, path, mint(), {"dry_run": True}), 413, "body_too_large")


@pytest.mark.django_db(transaction=True)  # the view runs in a thread with its own connection
@pytest.mark.parametrize("path", ACTS)
def test_under_asgi_a_body_without_a_length_is_411(mint, path):
    with nothing_changes():
        status, body = ask_asgi(path, mint(), b'{"dry_run":true}')
    assert (status, body["code"]) == (411, "length_required")
    status, body = ask_asgi(path, mint(), b'{"dry_run":true}', ("content-length", "16"))
    assert body.keys() == {"message", "preview"}
    status, body = ask_asgi(path, mint(), b"")
    assert (status, body.keys()) == (200, {"message"})


@async_to_sync
async def ask_asgi(path: str, token: str, body: bytes, *headers: tuple[str, str]):
    """POST as an ASGI server does that leaves the length out, as HTTP/2 may."""
    sent = [
        ("host", "testserver"),
        ("authorization", f"Bearer {token}"),
        ("content-type", "application/json"),
        *headers,
    ]
    scope = {
        "type": "http",
        "http_version": "2",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in sent],
    }
    server = ApplicationCommunicator(get_asgi_application(), scope)
    await server.send_input({"type": "http.request", "body": body, "more_body": False})
    start = await server.receive_output(timeout=10)
    answer = await server.receive_output(timeout=10)
    return start["status"], json.loads(answer["body"])


@pytest.mark.parametrize("path", ACTS)
def test_a_dry_run_changes_nothing_and_leaves_no_row(client, mint, path):
    with nothing_changes():
        answer = call(client, path, mint(), {"dry_run": True, "reason": "just looking"})
    assert answer.status_code == 200
    assert answer.json().keys() == {"message", "preview"}
    assert answer.json()["message"].startswith("Dry run: ")
    assert isinstance(answer.json()["preview"], dict)
    assert "X-Operation-Id" not in answer.headers


def test_the_preview_of_a_reset_says_which_breakers_and_from_where(client, mint):
    trip("one")
    preview = call(client, RESET, mint(), {"dry_run": True, "names": ["one"]}).json()["preview"]
    assert preview == {"count": 1, "breakers": [{"name": "one", "from": "open", "to": "closed"}]}


@pytest.mark.parametrize("path", ACTS)
def test_dry_run_false_is_the_act(client, mint, path):
    caches["search"].set("a", 1)
    answer = call(client, path, mint(), {"dry_run": False, "reason": " x " + "ü" * 497})
    assert answer.json().keys() == {"message"}
    assert Operation.objects.get().reason == "x " + "ü" * 497


def test_named_breakers_are_reset_and_no_other_and_duplicates_count_once(client, mint):
    one, two = trip("one"), trip("two")
    answer = call(client, RESET, mint(), {"names": ["two", "two"]})
    assert answer.json() == {
        "message": "1 circuit breaker reset successfully",
        "results": [{"name": "two", "from": "open", "to": "closed"}],
    }
    assert answer.headers["X-Operation-Id"] == str(Operation.objects.get().pk)
    assert (state_now(one), state_now(two)) == ("open", "closed")


def test_only_open_answers_with_its_results_also_when_there_are_none(client, mint):
    trip("one")
    answer = call(client, RESET, mint(), {"only_open": True})
    assert answer.json()["results"] == [{"name": "one", "from": "open", "to": "closed"}]
    answer = call(client, RESET, mint(), {"only_open": True})
    assert answer.status_code == 200
    assert answer.json() == {"message": "0 circuit breakers reset successfully", "results": []}


def test_an_unknown_name_is_404_and_resets_and_creates_nothing(client, mint):
    with nothing_changes():
        answer = call(client, RESET, mint(), {"names": ["kept", "nope", "bad name!"]})
    assert_error(answer, 404, "unknown_breaker", "nope", "bad name!")
    assert "kept" not in answer.json()["detail"]
    assert "X-Operation-Id" not in answer.headers


def test_a_dry_run_with_an_unknown_name_is_404_too(client, mint):
    with nothing_changes():
        answer = call(client, RESET, mint(), {"names": ["nope"], "dry_run": True})
    assert_error(answer, 404, "unknown_breaker", "nope")


def test_very_many_unknown_names_are_not_all_echoed(client, mint):
    names = [f"nope-{number:04}" for number in range(3000)]
    with nothing_changes():
        answer = call(client, RESET, mint(), {"names": names})
    assert_error(answer, 404, "unknown_breaker", "nope-0000", "and 2980 more")
    assert json.dumps(answer.json()).count("nope-") == 20
