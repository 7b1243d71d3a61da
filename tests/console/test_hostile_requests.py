"""What an adversary or an unlucky operator may send: no 500, no operation, no leak."""

import re
from urllib.parse import quote, urlencode

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client

from tests.support.console_pages import asked, told
from tests.support.operations import (
    click,
    denied,
    everything_that_acts_want,
    stage,
    state,
    submit,
)
from tests.support.routes import SECTION, console_routes, example

BREAKERS = f"{SECTION}circuitbreaker/"
CLEAR = f"{SECTION}searchcache/clear/"
PAGES = [f"{SECTION}searchcache/", BREAKERS, f"{BREAKERS}guarded/", f"{SECTION}operation/"]
LIVE = PAGES[:3]
ACTS = [
    CLEAR,
    f"{SECTION}searchcache/undo/",
    f"{BREAKERS}reset/",
    f"{BREAKERS}-/reset/",
    f"{BREAKERS}-/control/",
    f"{BREAKERS}guarded/reset/",
    f"{BREAKERS}guarded/control/",
    f"{BREAKERS}guarded/forget/",
]
SCRIPT = "<script>alert(1)</script>"
HOSTILE = [
    "%2e%2e",
    "%2e",
    "%00",
    "a%00b",
    "%0d%0aX-Injected:%201",
    quote(SCRIPT, safe=""),
    quote("\"'><img src=x onerror=alert(1)>", safe=""),
    quote("{{ request.META }}{% debug %}"),
    quote("é\u202e\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")),
    "%ED%A0%80",
    "%FF",
    "n" * 10_000,
    "guarded%20",
    "GUARDED",
    "*",
    "[a-z]*",
    "guarded%3Bx",
]
ADDRESSES = [*HOSTILE, "-1", "0", "1e9", "9" * 400, "", "%E2%80%AE", "a&a=b"]
REFRESH = {"X-Console-Refresh": "1"}


@pytest.fixture
def staged(db):
    return stage()


@pytest.fixture
def operator(client, superuser, staged):
    client.force_login(superuser)
    return client


def unharmed(answer, *, statuses):
    """Check an answer; an exception of the server's would have come through the client."""
    assert answer.status_code in statuses
    assert SCRIPT not in answer.text
    assert "X-Injected" not in answer
    assert answer.get("Location", SECTION).startswith(SECTION)
    return True


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_in_a_path_is_no_breaker(operator, name):
    before = state()
    for route in [route for route in console_routes() if "<str:name>" in route]:
        url = SECTION + route.replace("<str:name>", name)
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "CONFIRM"]:
            answer = click(operator, method, url, everything_that_acts_want())
            assert unharmed(answer, statuses={302, 404, 405})
            if answer.status_code == 302:  # back to the breaker's page, which says that it is none
                assert operator.get(answer.url).status_code in {404, 302}
    assert (state(), denied()) == (before, 0)


@pytest.mark.parametrize("value", ADDRESSES)
def test_a_hostile_address_shows_a_page_all_the_same(operator, value):
    options = ["page", "state", "search", "sort", "q", "o", "e", "p", "all", "status", "kind"]
    queries = [
        "&".join(f"{option}={value}" for option in options),
        f"page=1&page={value}&search=a&search={value}&{value}={value}",
    ]
    # The page of the breakers reads most of its address; the others take their turns.
    turn = ADDRESSES.index(value)
    for number, page in enumerate(PAGES):
        for query in queries if page == BREAKERS else [queries[(turn + number) % 2]]:
            answer = operator.get(f"{page}?{query}", headers=REFRESH)
            assert unharmed(answer, statuses={200, 302})  # the admin drops what it can't use
            assert answer.status_code == 200 or page == f"{SECTION}operation/"


@pytest.mark.parametrize("url", [CLEAR, *ACTS[3:6]])
@pytest.mark.parametrize("confirmed", [{}, {"confirmed": "yes"}], ids=["asked", "confirmed"])
@pytest.mark.one_database
def test_ten_thousand_names_are_refused_quickly(operator, settings, url, confirmed):
    before = state()
    sent = {
        **confirmed,
        "names": [f"n{number}" for number in range(10_000)],
        "generations": ["x"] * 10_000,
        "control": "disabled",
        "for_seconds": "900",
        "expected_generation": "x",
        "mode": "no such mode",
    }
    assert submit(operator, url, sent).status_code == 400
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = None  # of a host that has lifted Django's limit
    assert unharmed(submit(operator, url, sent), statuses={200, 302, 404})
    if "-/" in url:
        assert len(told(operator.get(BREAKERS))[-1][1]) <= 500
        assert state() == before


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("reason=" + "x" * 3_000_000, "application/x-www-form-urlencoded"),
        ('{"confirmed": "yes"}', "application/json"),
        ("confirmed=yes", "text/plain"),
        ("confirmed=yes", "application/x-www-form-urlencoded; charset=utf-16"),
        ("confirmed=yes", "multipart/form-data"),
        ("confirmed=yes", "multipart/form-data; boundary=" + "b" * 300),
        ('--b\r\nContent-Disposition: form-data; name="x', "multipart/form-data; boundary=b"),
        ("%00=%00&=&&&%ff=%ff", "application/x-www-form-urlencoded"),
        ("", ""),
    ],
)
def test_a_body_of_another_kind_acts_on_nothing(operator, body, kind):
    before = state()
    for url in ACTS:
        answer = operator.generic("POST", url, body, content_type=kind)
        assert unharmed(answer, statuses={200, 302, 400, 404}), url
        assert (state(), denied()) == (before, 0), url


@pytest.mark.parametrize(
    "field",
    [
        {"reason": "a\x00b"},
        {"reason": "x" * 501},
        {"reason": "x" * 501, "confirmed": ["yes", "no"]},
        {"control": ["disabled", "of no kind"], "mode": ["hard", "of no kind"]},
        {"for_seconds": "nan", "mode": "HARD"},
        {"for_seconds": "-1", "mode": "\x00"},
        {"for_seconds": ["900", "1e308"], "mode": SCRIPT},
        {"expected_generation": "\x00", "generations": ["\x00"], "tags": "\x00"},
        {"expected_generation": "g" * 5000, "generations": ["g" * 5000], "tags": "t" * 5000},
        {"names": ["guarded", "guarded"], "tags": "a," * 200},
        {"names": [SCRIPT], "generations": [SCRIPT], "tags": SCRIPT * 100, "control": SCRIPT},
    ],
    ids=str,
)
def test_a_field_that_is_twice_there_or_of_the_wrong_kind_harms_nothing(operator, field):
    for url in ACTS:
        stage()
        sent = {**everything_that_acts_want(), **field}
        for confirmed in ({}, {"confirmed": "yes"}):
            assert unharmed(operator.post(url, {**confirmed, **sent}), statuses={200, 302}), url
        if SCRIPT in str(field):  # no other field could show it
            assert SCRIPT not in operator.get(BREAKERS).text, url
    assert SCRIPT not in operator.get(BREAKERS).text


def test_a_file_in_place_of_a_field_is_no_such_field(operator, tmp_path):
    before = state()
    (tmp_path / "confirmed").write_text("yes")
    for url in ACTS:
        with (tmp_path / "confirmed").open() as file:
            answer = operator.post(url, {"confirmed": file})
        assert unharmed(answer, statuses={200, 302})
    assert state() == before


TAGS = ["*", 'W/"x"', '"', '""', "x" * 10_000, '"a", "b"', "é", "\x00", "None", SCRIPT]


@pytest.mark.parametrize("url", LIVE)
@pytest.mark.one_database
def test_a_tag_that_is_none_gets_the_page(operator, url):
    for tag in TAGS:
        answer = operator.get(url, headers={**REFRESH, "If-None-Match": tag})
        assert unharmed(answer, statuses={200}), tag
        assert re.fullmatch(r'"[0-9a-f]{32}"', answer["ETag"]), tag


@pytest.mark.parametrize("headers", [{}, REFRESH, {**REFRESH, "If-None-Match": "*"}], ids=len)
def test_anonymous_visitors_learn_nothing_from_any_address(client, staged, headers):
    for route in console_routes():
        url = SECTION + example(route, staged)
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            answer = client.generic(method, url, headers=headers)
            assert answer.status_code == 302
            assert answer.url.startswith("/admin/login/?next=")
            assert answer.content == b""
            assert "ETag" not in answer


@pytest.mark.parametrize("headers", [{}, REFRESH, {**REFRESH, "If-None-Match": "*"}], ids=len)
def test_staff_without_the_view_learn_nothing_from_any_page(client, settings, staff_user, headers):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_MODEL_PERMISSIONS": True}
    client.force_login(staff_user)
    stage()
    for url in PAGES:
        answer = client.get(url, headers=headers)
        assert answer.status_code == 403
        assert "guarded" not in answer.text
        assert "ETag" not in answer


def tag_of(client, url, **headers):
    answer = client.get(url, headers={**REFRESH, **headers})
    assert answer.status_code == 200
    return answer["ETag"]


def is_fresh(client, url, tag):
    answer = client.get(url, headers={**REFRESH, "If-None-Match": tag})
    return answer.status_code == 304


def test_a_page_is_its_readers_own(operator, django_user_model, still_drawing):
    tag = tag_of(operator, BREAKERS)
    assert is_fresh(operator, BREAKERS, tag)
    other = Client()
    other.force_login(django_user_model.objects.create_superuser("ada"))
    assert not is_fresh(other, BREAKERS, tag)


@pytest.mark.parametrize("change", ["permission", "superuser", "sign-in", "read-only"])
def test_other_rights_and_another_sign_in_make_another_page(
    client, settings, staff_user, staged, still_drawing, change
):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_MODEL_PERMISSIONS": True}
    view, reset = (
        Permission.objects.get(codename=codename)
        for codename in ("view_console", "reset_circuit_breakers")
    )
    staff_user.user_permissions.set([view])
    client.force_login(staff_user)
    sign_in(client, "sam")
    tag = tag_of(client, BREAKERS)
    assert is_fresh(client, BREAKERS, tag)
    if change == "permission":
        staff_user.user_permissions.add(reset)
    elif change == "superuser":
        get_user_model().objects.update(is_superuser=True)
    elif change == "read-only":
        settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "READ_ONLY": True}
    else:  # in another tab; the forms of this one want another token now
        client.post("/admin/logout/")
        sign_in(client, "sam")
    assert not is_fresh(client, BREAKERS, tag)


def sign_in(client, name, *, to=SECTION):
    """Sign in through the form; return the page that it leads to."""
    login = f"/admin/login/?{urlencode({'next': to})}"
    token = token_in(client.get(login))
    fields = {"username": name, "password": f"pw-{name}", "next": to, "csrfmiddlewaretoken": token}
    return client.post(login, fields, follow=True)


def token_in(page):
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    return found[1] if found else ""


@pytest.fixture
def careful(superuser, staged):
    """A browser that is asked for tokens, signed in."""
    browser = Client(enforce_csrf_checks=True)
    sign_in(browser, "admin")
    return browser


def ask(browser, url):
    """Press the button; return what the confirm page would send."""
    page = browser.get(BREAKERS)
    sent = {**everything_that_acts_want(), "csrfmiddlewaretoken": token_in(page)}
    confirm = browser.post(url, sent)
    assert confirm.status_code == 200
    fields = asked(confirm, url)
    return {**sent, **fields, "csrfmiddlewaretoken": token_in(confirm)}


@pytest.mark.parametrize("url", ACTS)
@pytest.mark.one_database
def test_a_session_that_ends_before_the_confirmation_acts_on_nothing_and_says_so(careful, url):
    before, confirm = state(), ask(careful, url)
    careful.cookies.pop("sessionid")
    answer = careful.post(url, confirm)
    assert (answer.status_code, answer.url) == (302, f"/admin/login/?next={quote(url)}")
    page = sign_in(careful, "admin", to=url)
    assert page.status_code == 200
    assert page.request["PATH_INFO"] in PAGES
    assert told(page) == [("info", "Nothing was done. Press the button again.")]
    assert (state(), denied()) == (before, 0)
    again = ask(careful, url)
    assert careful.post(url, again).status_code == 302
    assert state() != before


@pytest.mark.parametrize("url", ACTS)
@pytest.mark.one_database
def test_a_confirm_page_of_before_another_sign_in_acts_on_nothing(careful, url):
    before, confirm = state(), ask(careful, url)
    token = token_in(careful.get(BREAKERS))
    careful.post("/admin/logout/", {"csrfmiddlewaretoken": token})
    sign_in(careful, "admin")
    assert careful.post(url, confirm).status_code == 403
    assert (state(), denied()) == (before, 0)


@pytest.mark.parametrize("url", ACTS)
@pytest.mark.parametrize("evil", ["//evil.example", "https://evil.example/", "\\\\evil.example"])
@pytest.mark.one_database
def test_no_answer_leads_to_another_site(operator, url, evil):
    fields = {"next": evil, "back": evil, "redirect_to": evil, "_to": evil, "search": evil}
    address = f"{url}?{urlencode(fields)}"
    for confirmed in ({}, {"confirmed": "yes"}):
        sent = {**everything_that_acts_want(), **fields, **confirmed}
        answer = operator.post(address, sent, headers={"Referer": "https://evil.example/"})
        assert unharmed(answer, statuses={200, 302})
        led = {answer.get("Location", ""), *re.findall(r'(?:href|action)="([^"]*)"', answer.text)}
        assert [link for link in led if not re.match(r"(?:/(?![/\\])|\?|#|$)", link)] == []


def test_every_answer_forbids_caching_framing_and_foreign_scripts(operator, staged):
    for route in console_routes():
        url = SECTION + example(route, staged)
        sent = everything_that_acts_want()
        answers = [operator.get(url, headers=headers) for headers in ({}, REFRESH)]
        answers += [click(operator, method, url, sent) for method in ("POST", "PUT", "HEAD")]
        answers.append(Client().get(url))
        for answer in answers:
            if answer.status_code not in {403, 404}:  # bare: they tell nothing
                assert {"no-store", "private"} <= set(answer["Cache-Control"].split(", ")), route
            assert answer["X-Frame-Options"] == "DENY"
            assert answer["X-Content-Type-Options"] == "nosniff"
            assert answer["Referrer-Policy"] == "same-origin"
            assert "default-src 'self'" in answer["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
            assert "Cookie" in answer["Vary"], route


def test_a_304_forbids_as_much_and_brings_nothing(operator, still_drawing):
    tag = tag_of(operator, BREAKERS)
    answer = operator.get(BREAKERS, headers={**REFRESH, "If-None-Match": tag})
    assert (answer.status_code, answer.content, answer["ETag"]) == (304, b"", tag)
    assert {"no-store", "private"} <= set(answer["Cache-Control"].split(", "))
    assert {"X-Console-Refresh", "Cookie"} <= set(re.split(r",\s*", answer["Vary"]))
