"""The list of breakers as its address asks for it: state, part of the name, order, page."""

import re
from html import unescape

import pytest

from analytics_admin import services
from analytics_admin.services import Actor, set_breaker_control
from analytics_admin.services.breakers.queries import BREAKER_STATES
from tests.support.breakers import another, trip

BREAKERS = "/admin/analytics_admin/circuitbreaker/"
SHELL = Actor.system("root", channel="command")
HOSTILE = "<script>alert(1)</script> & \"'"


@pytest.fixture
def mixed(db):
    another("l.calm").acquire().succeed()
    for name in ("l.held", "l.off", "l.open"):
        trip(name)
    set_breaker_control(name="l.held", control="forced_open", actor=SHELL)
    set_breaker_control(name="l.off", control="disabled", actor=SHELL)


def listed(page):
    return re.findall(r'<th scope="row"><a[^>]*>([^<\s]+)</a></th>', page.text)


def shown(operator, **asked):
    return [name for name in listed(operator.get(BREAKERS, asked)) if name.startswith("l.")]


@pytest.mark.usefixtures("mixed")
def test_the_list_is_filtered_by_state_name_and_both(operator):
    assert shown(operator, state="open") == ["l.open"]
    assert shown(operator, state="forced_open") == ["l.held"]
    assert shown(operator, search=" L.O ") == ["l.open", "l.off"]
    assert shown(operator, search="l.o", state="disabled") == ["l.off"]


@pytest.mark.usefixtures("mixed")
def test_urgent_breakers_come_first_unless_the_order_by_name_is_asked_for(operator):
    assert shown(operator) == ["l.held", "l.open", "l.off", "l.calm"]
    assert shown(operator, sort="urgency") == ["l.held", "l.open", "l.off", "l.calm"]
    assert shown(operator, sort="name") == ["l.calm", "l.held", "l.off", "l.open"]


@pytest.mark.usefixtures("mixed")
def test_the_verdict_is_on_all_breakers_whatever_is_listed(operator):
    every = len(services.list_breakers())
    for asked in ({}, {"state": "closed"}, {"search": "l.calm"}, {"search": "none is called so"}):
        assert f"2 of {every} breakers open" in operator.get(BREAKERS, asked).text


@pytest.mark.usefixtures("mixed")
def test_the_form_shows_what_was_asked_for_and_offers_every_state(operator):
    page = operator.get(BREAKERS, {"state": "open", "search": HOSTILE, "sort": "name"}).text
    form = re.search(r'<form method="get".*?</form>', page, re.DOTALL)[0]
    assert f'value="{HOSTILE}"' in unescape(form)
    assert "<script>alert" not in page
    assert '<option value="open" selected>' in form
    assert '<option value="name" selected>' in form
    offered = re.search(r'<select name="state".*?</select>', form, re.DOTALL)[0]
    assert set(re.findall(r'<option value="(\w+)"', offered)) == set(BREAKER_STATES)
    assert "csrfmiddlewaretoken" not in form


@pytest.mark.usefixtures("mixed")
def test_a_filter_that_nothing_matches_says_so_and_leads_back_to_all(operator):
    page = operator.get(BREAKERS, {"search": "none is called so"})
    assert "No circuit breaker matches." in page.text
    assert f'<a href="{BREAKERS}">Show all</a>' in page.text
    assert listed(page) == []
    assert "Show all" not in operator.get(BREAKERS).text


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize(
    "asked",
    [
        {"state": "ajar"},
        {"state": "OPEN"},
        {"state": HOSTILE},
        {"sort": "size"},
        {"search": "x" * 101},
        {"search": "a\x00b"},
        {"state": "open", "sort": "size", "page": "x"},
    ],
)
def test_an_address_that_asks_for_what_is_none_lists_all_and_says_so(operator, asked):
    page = operator.get(BREAKERS, asked)
    assert page.status_code == 200
    assert "Unknown filter. Showing all circuit breakers." in page.text
    assert "<script>alert" not in page.text
    assert set(listed(page)) == {status.name for status in services.list_breakers()}


@pytest.mark.parametrize(
    "query", ["%ff%fe", "state=%ff", "page=%00", "search=%ed%a0%80", "a=b&a=c"]
)
@pytest.mark.usefixtures("mixed")
def test_an_address_of_odd_bytes_is_no_error(operator, query):
    assert operator.get(f"{BREAKERS}?{query}").status_code == 200


def test_the_other_pages_of_a_filtered_list_are_of_the_same_list(operator, settings):
    policies = {f"leaf&{number:03}".replace("&", "-"): {} for number in range(150)}
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "BREAKERS": policies}
    page = operator.get(BREAKERS, {"state": "closed", "search": "leaf-", "sort": "name"})
    (link,) = set(re.findall(r'<a href="(\?[^"]*page=2)"', page.text))
    assert "150 circuit breakers" in page.text
    second = operator.get(BREAKERS + unescape(link))
    assert len(listed(second)) == 50
    assert set(listed(page)) | set(listed(second)) == set(policies)


@pytest.mark.usefixtures("mixed")
def test_a_search_is_carried_in_links_as_it_was_given(operator, settings):
    policies = {f"many-{number:03}": {} for number in range(101)}
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "BREAKERS": policies}
    page = operator.get(BREAKERS, {"search": "-", "state": "closed"}).text
    assert "?search=-&amp;state=closed&amp;page=2" in page


@pytest.mark.usefixtures("mixed")
def test_the_usual_order_goes_without_saying_and_a_search_for_its_name_does_not(operator):
    trip("l.urgency")
    page = operator.get(BREAKERS, {"sort": "urgency", "search": "urgency", "state": ""}).text
    assert f'formaction="{BREAKERS}-/control/?search=urgency"' in page
    page = operator.get(BREAKERS, {"sort": "name", "page": "1"}).text
    assert f'formaction="{BREAKERS}-/control/?sort=name"' in page


def test_a_breaker_that_would_have_opened_says_so_in_the_list(operator):
    set_breaker_control(name=trip("l.watched").name, control="metrics_only", actor=SHELL)
    assert "would have opened" not in operator.get(BREAKERS).text
    another("l.watched", failure_threshold=1).acquire().fail()
    page = operator.get(BREAKERS).text
    assert "would have opened" in re.search(r"l\.watched</a>.*?</tr>", page, re.DOTALL)[0]
    assert page.count("would have opened") == 1
