"""The breakers' pages of a site that has very many: a hundred at a time, the verdict on all."""

import re

import pytest

from analytics_admin import services
from tests.support.breakers import trip

BREAKERS = "/admin/analytics_admin/circuitbreaker/"
RESET = f"{BREAKERS}reset/"
NAMES = [f"many-{number:03}" for number in range(250)]


@pytest.fixture
def operator(client, superuser, settings):
    policies = {name: {} for name in NAMES}
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "BREAKERS": policies}
    client.force_login(superuser)
    return client


def listed(page):
    return re.findall(r'<th scope="row">(?:<a[^>]*>)?([^<\s]+)(?:</a>)?</th>', page)


def pages_linked(page):
    return re.findall(r'<a href="\?page=(\d+)"', page)


def test_each_page_shows_a_hundred_and_together_they_show_all(operator):
    every = [status.name for status in services.list_breakers()]
    pages = [listed(operator.get(BREAKERS, {"page": number}).text) for number in (1, 2, 3)]
    assert [len(page) for page in pages] == [100, 100, len(every) - 200]
    assert sorted([*pages[0], *pages[1], *pages[2]]) == every


def test_the_verdict_and_the_count_are_of_all_pages(operator):
    trip("zzz-on-the-last-page-by-its-name")
    every = len(services.list_breakers())
    for number in (1, 3):
        page = operator.get(BREAKERS, {"page": number}).text
        assert f"1 of {every} breakers open" in page
        assert f"{every} circuit breakers" in page


def test_what_refuses_calls_is_on_the_first_page(operator):
    trip("zzz-on-the-last-page-by-its-name")
    assert listed(operator.get(BREAKERS).text)[0] == "zzz-on-the-last-page-by-its-name"


def test_the_other_pages_are_links(operator):
    second = operator.get(BREAKERS, {"page": 2}).text
    assert pages_linked(second) == ["1", "3"]
    assert '<span class="this-page" aria-current="page">2</span>' in second


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("0", 1),
        ("-1", 1),
        ("99", 3),
        ("x", 1),
        ("", 1),
        ("2.0", 1),
        pytest.param("9" * 4000, 3, id="very large"),
        pytest.param("9" * 5000, 1, id="too large to be read"),
    ],
)
def test_a_page_that_is_none_is_the_nearest(operator, number, shown):
    page = operator.get(BREAKERS, {"page": number}).text
    assert f'aria-current="page">{shown}</span>' in page


def test_few_breakers_need_no_pages(operator, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "BREAKERS": {}}
    page = operator.get(BREAKERS).text
    assert len(services.list_breakers()) <= 100
    assert "paginator" not in page


def test_the_confirm_page_names_a_hundred_and_counts_the_rest(operator):
    every = len(services.list_breakers())
    page = operator.post(RESET).text
    assert len(listed(page)) == 100
    assert f"… and {every - 100} more." in page
