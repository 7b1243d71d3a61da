"""What an open page's look at what is new must not do, and must not miss."""

import pytest
from django.db import connection
from django.test import Client

from analytics_admin.models import Operation
from analytics_admin.services.search_cache import queries
from analytics_admin.stores.client import StoreUnavailable
from tests.console.search_cache_pages import PAGE
from tests.support.audit import LIST, page_of, record
from tests.support.breakers import trip
from tests.support.console_pages import asked, told

BREAKERS = "/admin/analytics_admin/circuitbreaker/"
REFRESH = {"X-Console-Refresh": "1"}


def tag_of(operator, url):
    return operator.get(url, headers=REFRESH).headers["ETag"]


def look(operator, url, tag):
    return operator.get(url, headers={**REFRESH, "If-None-Match": tag})


def test_it_takes_no_message_from_the_page_that_its_reader_loads_next(operator):
    trip("looked.at")
    act = f"{PAGE}clear/"
    done = operator.post(act, asked(operator.post(act, {"mode": "hard"}), act))
    assert done.status_code == 302
    for url in (PAGE, BREAKERS, f"{BREAKERS}looked.at/", LIST, page_of(Operation.objects.get())):
        assert operator.get(url, headers=REFRESH).status_code == 200
    assert told(operator.get(done.url)) == [("success", "Search cache cleared")]


def test_it_writes_no_row_and_no_session(operator, still_drawing):
    trip("looked.at")
    pages = (PAGE, BREAKERS, f"{BREAKERS}looked.at/", LIST, page_of(record()))
    sent = []

    def note(execute, sql, params, many, context):
        sent.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        for url in pages:
            tag = tag_of(operator, url)  # of a whole answer; the same moment's look is a 304
            assert look(operator, url, tag).status_code == 304
    assert sent
    assert [sql for sql in sent if not sql.startswith("SELECT")] == []


def test_a_row_whose_account_is_deleted_meanwhile_says_so(operator, staff_user):
    url = page_of(record(user=staff_user, channel="admin"))
    tag = tag_of(operator, url)
    staff_user.delete()
    assert "(account deleted)" in look(operator, url, tag).text


def test_a_last_clear_that_is_reported_late_is_told(operator):
    late = record(status="started")
    for _ in range(5):
        record(status="failed")
    tag = tag_of(operator, PAGE)
    Operation.objects.filter(pk=late.pk).update(status="done")
    assert look(operator, PAGE, tag).status_code == 200


def test_another_reason_why_counts_are_unknown_is_told(operator, monkeypatch):
    def lose(reason):
        def read_figures(**_):
            raise StoreUnavailable(reason)

        monkeypatch.setattr(queries, "read_figures", read_figures)

    lose("the store cannot be reached")
    tag = tag_of(operator, PAGE)
    lose("the store did not answer in time")
    assert "did not answer in time" in look(operator, PAGE, tag).text


def test_nobody_is_told_304_by_the_tag_of_somebody_else(operator, django_user_model, still_drawing):
    other, plain = Client(), Client()
    other.force_login(django_user_model.objects.create_superuser("olga"))
    plain.force_login(django_user_model.objects.create_user("una"))
    for url in (PAGE, BREAKERS, LIST):
        tag = tag_of(operator, url)
        assert look(operator, url, tag).status_code == 304, url
        assert look(other, url, tag).status_code == 200, url
        assert look(Client(), url, tag).status_code == 302, url
        assert look(plain, url, tag).status_code == 302, url


@pytest.mark.parametrize("url", [PAGE, BREAKERS, LIST])
def test_a_refresh_is_for_no_cache_in_between(operator, url):
    for answer in (operator.get(url), look(operator, url, tag_of(operator, url))):
        assert {"no-store", "private"} <= set(answer.headers["Cache-Control"].split(", "))
        assert {"X-Console-Refresh", "Cookie"} <= set(answer.headers["Vary"].split(", "))


def test_all_processes_of_a_site_give_a_page_the_same_tag(operator, settings, still_drawing):
    urls = (PAGE, BREAKERS, LIST)
    tags = {url: set() for url in urls}
    for _process in range(3):
        settings.ANALYTICS_ADMIN = {
            **settings.ANALYTICS_ADMIN,
            "BREAKER_DEFAULTS": {"record_result": lambda result: result is None},
        }
        for url in urls:
            tags[url].add(tag_of(operator, url))
    assert [len(tags[url]) for url in urls] == [1, 1, 1]
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "READ_ONLY": True}
    assert not [url for url in urls if tag_of(operator, url) in tags[url]]


def test_where_nothing_is_new_no_cookie_is_set_which_another_tab_may_have_replaced(
    operator, still_drawing
):
    for url in (PAGE, BREAKERS, LIST):
        tag = tag_of(operator, url)
        unchanged = look(operator, url, tag)
        assert (unchanged.status_code, list(unchanged.cookies)) == (304, []), url
