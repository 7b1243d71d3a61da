"""From button to message: the confirm page, the operation, what it leaves behind."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.core.cache import caches
from django.db import connection, connections
from django.urls import reverse

from analytics_admin import services
from analytics_admin.breakers import circuit_breaker
from analytics_admin.console.breakers.list import tone, verdict
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from tests.support.console_pages import told

SEARCH_CACHE = "/admin/analytics_admin/searchcache/"
CLEAR = "/admin/analytics_admin/searchcache/clear/"
BREAKERS = "/admin/analytics_admin/circuitbreaker/"
RESET = "/admin/analytics_admin/circuitbreaker/reset/"
CLEARED = "Search cache cleared"
RESET_ALL = "All circuit breakers reset successfully"
HOSTILE = "<script>alert(1)</script> & \"'"


@pytest.fixture
def searches():
    caches["search"].set_many({f"query-{number}": number for number in range(3)})
    caches["default"].set("session-like", "stays")


def trip(name):
    breaker = circuit_breaker(name, failure_threshold=1)
    with pytest.raises(ValueError, match="down"), breaker:
        raise ValueError("down")
    return breaker


def states():
    return {status.name: status.state for status in services.list_breakers()}


@pytest.mark.usefixtures("searches")
def test_the_search_cache_page_says_what_is_there(operator):
    page = operator.get(SEARCH_CACHE).text
    facts = dict(re.findall(r'<dd id="aa-([a-z-]+)">(.*?)</dd>', page, re.DOTALL))
    assert "Reachable" in facts["store"]
    assert facts["keys"] == "3"
    assert "Never" in facts["last-clear"]
    assert "Dedicated: a clear empties the whole database" in page
    assert "<code>search</code>" in page


def test_the_search_cache_page_says_when_who_and_why_of_the_last_clear(operator):
    services.clear_search_cache(actor=Actor.system("nightly"), reason=HOSTILE)
    page = operator.get(SEARCH_CACHE).text
    assert "by nightly" in page
    assert "<q>&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;&#x27;</q>" in page
    assert "<script>alert" not in page


def test_a_shared_database_is_called_shared(operator, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "SEARCH_CACHE_DEDICATED": False}
    assert "Shared: a clear removes only the keys of this alias" in operator.get(SEARCH_CACHE).text


@pytest.mark.usefixtures("searches")
def test_the_clear_button_asks_before_anything_happens(operator):
    page = operator.post(CLEAR)
    assert page.status_code == 200
    assert "3 keys will be removed." in page.text
    assert "as <strong>admin</strong>" in page.text
    assert "Yes, clear the search cache" in page.text
    assert caches["search"].get("query-1") == 1
    assert not Operation.objects.exists()


@pytest.mark.usefixtures("searches")
def test_a_confirmed_clear_empties_the_search_cache_alone(operator, superuser):
    answer = operator.post(CLEAR, {"confirmed": "yes", "reason": " stale prices "})
    assert (answer.status_code, answer.url) == (302, SEARCH_CACHE)
    assert told(operator.get(SEARCH_CACHE)) == [("success", CLEARED)]
    assert caches["search"].get_many([f"query-{number}" for number in range(3)]) == {}
    assert caches["default"].get("session-like") == "stays"
    row = Operation.objects.get()
    assert (row.kind, row.status, row.channel) == ("clear_search_cache", "done", "admin")
    assert (row.actor, row.user, row.reason) == ("admin", superuser, "stale prices")


def test_the_breakers_page_lists_every_registered_breaker(operator):
    trip("page.tripped")
    circuit_breaker("page.calm")
    page = operator.get(BREAKERS).text
    rows = dict(re.findall(r'<th scope="row"><a[^>]*>(\S+)</a></th>(.*?)</tr>', page, re.DOTALL))
    assert set(rows) == set(states())
    assert re.search(r"aa-bad.*✕</span>&nbsp;Open", rows["page.tripped"])
    assert re.search(r"aa-good.*✓</span>&nbsp;Closed", rows["page.calm"])
    assert re.search(
        r'data-aa-as="countdown" data-aa-over="ready to probe">[01]:\d\d<', rows["page.tripped"]
    )
    assert "ready to probe" not in rows["page.calm"]
    assert f"1 of {len(rows)} breakers open" in page


def test_the_page_registers_nothing(operator):
    before = states()
    operator.get(BREAKERS)
    operator.post(RESET)
    assert states() == before


@pytest.mark.parametrize(
    ("given", "line", "color"),
    [
        ({"closed": 0}, "No circuit breaker is registered yet", "quiet"),
        ({"closed": 3, "open": 0}, "0 of 3 breakers open", "good"),
        ({"closed": 0, "open": 1}, "1 of 1 breaker open", "bad"),
        ({"closed": 1, "half_open": 1}, "0 of 2 breakers open", "warn"),
        ({"closed": 1, "open": 1, "forced_open": 1}, "2 of 3 breakers open", "bad"),
        ({"closed": 9999, "open": 1}, "1 of 10,000 breakers open", "bad"),
    ],
)
def test_the_verdict_counts_the_breakers_that_refuse_calls(given, line, color):
    assert (verdict(given), tone(given)) == (line, color)


def test_reset_asks_first_and_shows_each_breaker_with_its_state(operator):
    trip("asked.tripped")
    page = operator.post(RESET).text
    assert "Reset all circuit breakers?" in page
    assert f"{len(states())} circuit breakers will be closed" in page
    first_row = page.partition("<tbody>")[2].partition("</tr>")[0]
    assert "asked.tripped" in first_row  # what will change comes first
    assert "Open" in first_row
    assert states()["asked.tripped"] == "open"


def test_a_confirmed_reset_closes_every_breaker(operator):
    trip("all.one")
    trip("all.two")
    answer = operator.post(RESET, {"confirmed": "yes", "only_open": "False"}, follow=True)
    assert told(answer) == [("success", RESET_ALL)]
    assert set(states().values()) == {"closed"}
    assert Operation.objects.get().targets == {"names": "all", "only_open": False}


def test_only_the_open_ones_are_reset_when_asked_for(operator):
    trip("open.one")
    page = operator.post(RESET, {"only_open": "True"}).text
    assert "Reset the open circuit breakers?" in page
    assert "1 circuit breaker will be closed" in page
    hidden = re.search(r'<input type="hidden" name="only_open" value="(\w+)"', page)
    answer = operator.post(RESET, {"confirmed": "yes", "only_open": hidden[1]}, follow=True)
    assert told(answer) == [("success", "1 circuit breaker reset successfully")]
    assert states()["open.one"] == "closed"
    assert Operation.objects.get().targets["only_open"] is True


@pytest.mark.parametrize(
    ("url", "pressed", "words", "done"),
    [
        (CLEAR, {}, "There is nothing to remove.", CLEARED),
        (
            RESET,
            {"only_open": "True"},
            "There is nothing to reset.",
            "0 circuit breakers reset successfully",
        ),
    ],
)
def test_where_nothing_would_change_the_page_says_so_calmly_and_still_acts(
    operator, url, pressed, words, done
):
    page = operator.post(url, pressed).text
    assert re.search(rf'<p class="aa-verdict aa-quiet">{words}</p>', page)
    assert "aa-warn" not in page
    answer = operator.post(url, {"confirmed": "yes", **pressed}, follow=True)
    assert told(answer) == [("success", done)]


@pytest.mark.parametrize("url", [CLEAR, RESET])
@pytest.mark.parametrize(
    ("reason", "complaint"),
    [
        ("", "This field is required."),
        ("   ", "This field is required."),
        ("x" * 501, "at most 500 characters"),
        ("a\x00b", "Null characters are not allowed."),
    ],
)
def test_a_missing_or_unusable_reason_is_asked_for_again(
    operator, settings, url, reason, complaint
):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_REASON": True}
    answer = operator.post(url, {"confirmed": "yes", "reason": reason})
    assert answer.status_code == 200
    assert complaint in answer.text
    assert not Operation.objects.exists()


@pytest.mark.parametrize("required", [True, False])
def test_the_reason_field_is_required_where_the_site_says_so(operator, settings, required):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_REASON": required}
    field = re.search(r'<input[^>]*name="reason"[^>]*>', operator.post(CLEAR).text)[0]
    assert (" required" in field) is required
    assert 'maxlength="500"' in field


@pytest.mark.parametrize(("url", "message"), [(CLEAR, CLEARED), (RESET, RESET_ALL)])
def test_an_operation_appears_among_the_admins_recent_actions(operator, superuser, url, message):
    operator.post(url, {"confirmed": "yes"})
    entry, row = LogEntry.objects.get(), Operation.objects.get()
    assert (entry.user, entry.get_change_message()) == (superuser, message)
    assert entry.object_id == str(row.pk)
    assert operator.get(reverse("admin:index")).text.count(f"/{row.pk}/") == 1
    assert operator.get(entry.get_admin_url()).status_code == 200


def test_an_operation_is_done_even_if_the_admins_own_log_fails(operator):
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE django_admin_log")
    answer = operator.post(CLEAR, {"confirmed": "yes"})
    assert (answer.status_code, answer.url) == (302, SEARCH_CACHE)
    assert told(operator.get(SEARCH_CACHE)) == [("success", CLEARED)]
    assert Operation.objects.get().status == "done"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("url", "message"), [(CLEAR, CLEARED), (RESET, RESET_ALL)])
def test_acts_work_where_the_host_wraps_requests_in_transactions(
    client, django_user_model, monkeypatch, url, message
):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    client.force_login(django_user_model.objects.create_superuser("admin"))
    assert told(client.post(url, {"confirmed": "yes"}, follow=True)) == [("success", message)]
    assert Operation.objects.get().status == "done"


def test_a_hostile_username_is_shown_as_text(client, django_user_model):
    client.force_login(django_user_model.objects.create_superuser(HOSTILE))
    for answer in [
        client.post(CLEAR),
        client.post(CLEAR, {"confirmed": "yes", "reason": HOSTILE}, follow=True),
        client.get(reverse("admin:analytics_admin_operation_changelist")),
    ]:
        assert "<script>alert" not in answer.text
        assert "&lt;script&gt;alert" in answer.text
