"""Who may see and do what in the console: users x pages x methods, and that nothing else acts."""

import re

import pytest
from django.contrib.auth.models import Permission
from django.core.cache import caches
from django.db import connections
from django.test import Client

from analytics_admin.models import Operation
from analytics_admin.services import describe_breaker
from tests.support.breakers import trip

pytestmark = pytest.mark.one_database

SEARCH_CACHE = "/admin/analytics_admin/searchcache/"
BREAKERS = "/admin/analytics_admin/circuitbreaker/"
OPERATIONS = "/admin/analytics_admin/operation/"
CLEAR = f"{SEARCH_CACHE}clear/"
RESET = f"{BREAKERS}reset/"
RESET_SELECTED = f"{BREAKERS}-/reset/"
CONTROL_SELECTED = f"{BREAKERS}-/control/"
FORGET = f"{BREAKERS}guarded/forget/"
PAGES = [SEARCH_CACHE, BREAKERS, OPERATIONS]
PERMISSION_OF = {
    CLEAR: "clear_search_cache",
    RESET: "reset_circuit_breakers",
    RESET_SELECTED: "reset_circuit_breakers",
    CONTROL_SELECTED: "control_circuit_breakers",
    FORGET: "control_circuit_breakers",
}
ACTS = list(PERMISSION_OF)
KIND_OF = {**PERMISSION_OF, FORGET: "forget_circuit_breaker"}
CONFIRMED = {
    "confirmed": "yes",
    "reason": "a try",
    "names": ["guarded"],
    "generations": [""],
    "control": "disabled",
    "for_seconds": "900",
}


@pytest.fixture(autouse=True)
def something_to_change(db):
    caches["search"].set("query", "answer")
    trip("guarded")


def nothing_changed():
    kept = caches["search"].get("query") == "answer"
    return kept and describe_breaker("guarded").status.state == "open"


def signed_in(user, **options):
    client = Client(**options)
    client.force_login(user)
    return client


def grant(user, *codenames):
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    return type(user).objects.get(pk=user.pk)


@pytest.fixture
def model_permissions(settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_MODEL_PERMISSIONS": True}


@pytest.mark.parametrize("method", ["get", "post"])
def test_anonymous_visitors_are_sent_to_the_login(client, method):
    for url in PAGES + ACTS:
        answer = getattr(client, method)(url, CONFIRMED if method == "post" else None)
        assert answer.status_code == 302, url
        assert answer.url.startswith("/admin/login/?next="), url
        assert nothing_changed(), url
        assert not Operation.objects.exists(), url


@pytest.mark.parametrize("method", ["get", "post"])
def test_users_who_are_not_staff_are_sent_to_the_login(plain_user, method):
    client = signed_in(plain_user)
    for url in PAGES + ACTS:
        answer = getattr(client, method)(url, CONFIRMED if method == "post" else None)
        assert answer.status_code == 302, url
        assert answer.url.startswith("/admin/login/?next="), url
        assert nothing_changed(), url


@pytest.mark.parametrize("url", PAGES)
def test_staff_see_every_page_without_model_permissions(staff_user, url):
    assert signed_in(staff_user).get(url).status_code == 200


@pytest.mark.parametrize("url", PAGES + ACTS)
@pytest.mark.usefixtures("model_permissions")
def test_with_model_permissions_seeing_needs_view_console(staff_user, url):
    assert signed_in(staff_user).get(url).status_code == 403
    allowed = signed_in(grant(staff_user, "view_console")).get(url)
    assert allowed.status_code == (302 if url in ACTS else 200)


@pytest.mark.usefixtures("model_permissions")
def test_the_sidebar_shows_the_section_to_those_alone_who_may_see_it(staff_user):
    assert "Analytics admin" not in signed_in(staff_user).get("/admin/").text
    page = signed_in(grant(staff_user, "view_console")).get("/admin/").text
    for name in ["Analytics admin", "Search cache", "Circuit breakers", "Operations"]:
        assert name in page
    assert "/add/" not in page


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete", "options"])
def test_only_post_acts(superuser, method):
    client = signed_in(superuser)
    for url in ACTS:
        answer = getattr(client, method)(f"{url}?confirmed=yes")
        assert answer.status_code == (302 if method in {"get", "head"} else 405), url
        assert nothing_changed(), url
        assert not Operation.objects.exists(), url


@pytest.mark.parametrize("url", [SEARCH_CACHE, BREAKERS])
def test_a_page_refuses_post(superuser, url):
    assert signed_in(superuser).post(url, CONFIRMED).status_code == 405
    assert nothing_changed()


@pytest.mark.parametrize("data", [{}, CONFIRMED])
def test_a_post_without_csrf_token_is_refused(superuser, data):
    client = signed_in(superuser, enforce_csrf_checks=True)
    for url in ACTS:
        assert client.post(url, data).status_code == 403, url
        assert nothing_changed(), url
        assert not Operation.objects.exists(), url


@pytest.mark.parametrize("url", ACTS)
@pytest.mark.parametrize("held", ["nothing", "the view", "all but its own", "its own alone"])
@pytest.mark.usefixtures("model_permissions")
def test_a_forged_post_is_refused_and_leaves_a_denied_row(staff_user, url, held):
    own = PERMISSION_OF[url]
    codenames = {
        "nothing": [],
        "the view": ["view_console"],
        "all but its own": {"view_console", *PERMISSION_OF.values()} - {own},
        "its own alone": [own],  # may act, but not through a console they can't see
    }[held]
    client = signed_in(grant(staff_user, *codenames))
    for data in ({}, CONFIRMED):
        assert client.post(url, data).status_code == 403, data
        row = Operation.objects.get()
        assert (row.kind, row.status) == (KIND_OF[url], "denied")
        assert (row.channel, row.actor) == ("admin", "sam")
        row.delete()
    assert nothing_changed()


@pytest.mark.parametrize("url", ACTS)
@pytest.mark.parametrize("data", [{}, CONFIRMED])
@pytest.mark.usefixtures("model_permissions")
def test_the_denied_row_survives_atomic_requests(staff_user, monkeypatch, url, data):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    assert signed_in(grant(staff_user, "view_console")).post(url, data).status_code == 403
    assert Operation.objects.get().status == "denied"


@pytest.mark.parametrize(
    ("url", "permissions"),
    [
        (SEARCH_CACHE, ["clear_search_cache"]),
        (BREAKERS, ["reset_circuit_breakers", "control_circuit_breakers"]),
    ],
)
@pytest.mark.usefixtures("model_permissions")
def test_who_may_not_act_sees_the_button_disabled_and_the_permission(staff_user, url, permissions):
    page = signed_in(grant(staff_user, "view_console")).get(url).text
    assert 'disabled aria-describedby="aa-disabled-reason"' in page
    for permission in permissions:
        assert f"Requires the permission analytics_admin.{permission}." in page
    allowed = grant(staff_user, "view_console", *permissions)
    assert " disabled" not in signed_in(allowed).get(url).text


@pytest.mark.usefixtures("model_permissions")
def test_a_list_can_be_ticked_by_those_who_may_do_something_with_it(staff_user):
    staff_user = grant(staff_user, "view_console")
    ticks = r'<input type="checkbox"[^>]* disabled>'
    assert re.search(ticks, signed_in(staff_user).get(BREAKERS).text)
    staff_user = grant(staff_user, "control_circuit_breakers")
    page = signed_in(staff_user).get(BREAKERS).text
    assert not re.search(ticks, page)
    assert re.search(r"<button[^>]* disabled [^>]*>Reset selected<", page)
    assert re.search(r'<button[^>]* value="disabled">Disable selected<', page)


@pytest.mark.parametrize(
    ("page", "act"),
    [
        (SEARCH_CACHE, CLEAR),
        (BREAKERS, RESET),
        (BREAKERS, RESET_SELECTED),
        (BREAKERS, CONTROL_SELECTED),
        (f"{BREAKERS}guarded/", FORGET),
    ],
)
@pytest.mark.parametrize("data", [{}, CONFIRMED])
def test_a_read_only_site_shows_why_its_buttons_are_disabled(superuser, settings, page, act, data):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "READ_ONLY": True}
    client = signed_in(superuser)
    assert "This site is read-only" in client.get(page).text
    assert re.search(r'disabled aria-describedby="aa-\w*-?disabled-reason"', client.get(page).text)
    answer = client.post(act, data, follow=True)
    assert [str(message) for message in answer.context["messages"]] == [
        "This site is read-only: operations are switched off."
    ]
    assert nothing_changed()
    assert not Operation.objects.exists()


@pytest.mark.parametrize("model", ["searchcache", "circuitbreaker"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_the_tableless_models_have_no_other_pages(superuser, model, method):
    client = signed_in(superuser)
    for page in ["add/", "1/change/", "1/delete/", "1/history/", "1/"]:
        answer = getattr(client, method)(f"/admin/analytics_admin/{model}/{page}")
        # Beneath the breakers lie pages of theirs by name: none takes POST, and these names have
        # none.
        named = (model, method) == ("circuitbreaker", "post") and page in {"add/", "1/"}
        assert answer.status_code == (405 if named else 404), page


def test_every_page_forbids_caching(superuser):
    for url in PAGES:
        assert "no-store" in signed_in(superuser).get(url)["Cache-Control"]
