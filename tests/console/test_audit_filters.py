"""The audit trail is filtered and searched; an address that asks for nonsense breaks nothing."""

import json
from datetime import datetime, timedelta
from html import unescape

import pytest
from django.utils import timezone

from analytics_admin.breakers import circuit_breaker
from analytics_admin.services import (
    Actor,
    clear_search_cache,
    reset_circuit_breakers,
    set_breaker_control,
)
from tests.support.audit import EXPORT, HOSTILE, LIST, page_of, record, shown
from tests.support.breakers import trip
from tests.support.cases import case

NONSENSE = [
    {"status": "nonsense"},
    {"started_at__gte": "nonsense"},
    {"started_at__gte": "0001-01-01 00:00:00+14:00"},
    {"started_at__lt": "9999-12-31 23:59:59-14:00"},
    {"started_at__year": "99999999"},
    {"reason__regex": "("},
    {"targets__contains": "x"},
    {"user__password__startswith": "pbkdf2"},
    {"user_id__exact": "9" * 40},
    {"no_such_field": "1"},
    {"kind__exact": "a\x00b"},
    {"actor": "\x00"},
    {"older_than": "nonsense"},
    {"older_than": "1-2"},
    {"q": "a\x00b"},
    {"q": "a " * 2000},
    {"o": ".".join(["1"] * 2100)},
]
ODD = [
    {"q": '"'},
    {"q": "'"},
    {"q": "\\"},
    {"q": "%_[]()*+?"},
    {"q": '\N{SNOWMAN}\\"'},
    {"kind__exact": "nonsense"},
    {"channel__exact": ""},
    {"o": "nonsense.-99.7"},
    {"status": ""},
    {"actor": ""},
    {"all": ""},
    {"_facets": "True"},
    {"_facets": "True", "status": "started", "actor": "ada", "q": "ada"},
    {"p": "nonsense"},
]


def found(operator, **query):
    return set(shown(operator.get(LIST, query)))


def test_the_list_is_filtered_by_kind_channel_status_and_date(operator):
    today = str(timezone.now().replace(hour=0, minute=0, second=0))
    clear = record(started_at=timezone.now() - timedelta(days=40))
    reset = record(kind="reset_circuit_breakers", channel="command", status="failed")
    assert found(operator, kind__exact="clear_search_cache") == {clear.pk}
    assert found(operator, channel__exact="command") == {reset.pk}
    assert found(operator, status="failed") == {reset.pk}
    assert found(operator, started_at__gte=today) == {reset.pk}
    assert found(operator, status="failed", channel__exact="api") == set()


def test_the_list_is_filtered_by_actor_also_one_who_has_not_acted_lately(operator):
    long_ago = timezone.now() - timedelta(days=400)
    old = record(actor="grace hopper & co", started_at=long_ago)
    for number in range(600):
        record(actor=f"ada-{number % 30}")
    page = operator.get(LIST)
    assert "?actor=ada-" in page.text
    assert page.text.count("?actor=") == 20
    assert "grace" not in page.text
    chosen = operator.get(LIST, {"actor": "grace hopper & co"})
    assert shown(chosen) == [old.pk]
    assert "grace hopper &amp; co" in chosen.text
    assert found(operator, actor="grace") == set()


def test_the_page_of_a_row_leads_to_all_operations_of_its_actor(operator):
    name = f"o'neil & sons/+ {HOSTILE}"
    row = record(actor=name)
    record()
    actor = operator.get(page_of(row)).text.split('id="aa-actor"')[1].split("</dd>")[0]
    link = unescape(actor.split('href="')[1].split('"')[0])
    assert shown(operator.get(link)) == [row.pk]


def test_the_list_is_searched_by_actor_reason_error_and_id(operator):
    row = record(actor="grace", reason="ticket 4711", error="the store is away")
    record()
    for words in ["grace", "ticket 4711", "GRACE 4711", "is away", str(row.pk), str(row.pk)[:13]]:
        assert found(operator, q=words) == {row.pk}, words
    assert found(operator, q="nobody") == set()


def test_a_breakers_name_finds_what_was_done_to_it_and_no_other(operator, superuser):
    for name in ("shop.catalog", "billing"):
        circuit_breaker(name, failure_threshold=1)
        trip(name)
    actor = Actor.from_user(superuser)
    hold = set_breaker_control(name="shop.catalog", control="disabled", actor=actor)
    other = set_breaker_control(name="billing", control="forced_open", actor=actor)
    named = reset_circuit_breakers(actor=actor, names=["shop.catalog", "billing"])
    trip("billing")
    rest = reset_circuit_breakers(actor=actor)  # moves billing alone
    clear_search_cache(actor=actor)
    both = {named.operation_id}
    assert found(operator, q="shop.catalog") == {hold.operation_id, *both}
    assert found(operator, q="CATALOG") == {hold.operation_id, *both}
    assert found(operator, q="billing") == {other.operation_id, rest.operation_id, *both}
    assert found(operator, q="billing catalog") == both


@pytest.mark.parametrize("tag", ["Ørsted", "prices", "日本"])
def test_a_tag_finds_its_clears(operator, superuser, tag):
    actor = Actor.from_user(superuser)
    cleared = clear_search_cache(actor=actor, tags=[tag, "more"])
    clear_search_cache(actor=actor, tags=["others"])
    assert found(operator, q=tag) == {cleared.operation_id}
    assert found(operator, q=f"{tag} more") == {cleared.operation_id}


@pytest.mark.parametrize("page", [LIST, EXPORT])
def test_an_address_that_asks_for_nonsense_leads_to_the_whole_list_and_says_so(operator, page):
    row = record()
    for query in NONSENSE:
        with case(query):
            answer = operator.get(page, query, follow=True)
            assert answer.status_code == 200
            assert answer.redirect_chain
            assert all(url.startswith(LIST) for url, _status in answer.redirect_chain)
            assert shown(answer) == [row.pk]
            (message,) = answer.context["messages"]
            assert str(message) == "Unknown filter. Showing all operations."


def test_a_site_without_time_zones_is_asked_for_times_without_one(operator, settings):
    settings.USE_TZ = False
    row = record(started_at=datetime(2026, 7, 1, 22, 30))  # noqa: DTZ001
    assert found(operator, started_at__gte="2026-07-01 22:00:00") == {row.pk}
    answer = operator.get(LIST, {"started_at__gte": "2026-07-01 22:00:00+00:00"}, follow=True)
    assert answer.redirect_chain == [(f"{LIST}?e=1", 302)]
    assert operator.get(EXPORT).status_code == operator.get(page_of(row)).status_code == 200


@pytest.mark.parametrize("page", [LIST, EXPORT])
def test_an_odd_address_is_answered(operator, page):
    record(targets={"tags": ['a"b\\c', "\N{SNOWMAN}"]})
    for query in ODD:
        with case(query):
            answer = operator.get(page, query)
            assert answer.status_code == 200
            if page == EXPORT:
                json.loads(answer.getvalue())
