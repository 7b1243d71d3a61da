"""A site's test run finds the fixtures, with pytest-django, with pytest alone, and without both."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.separate_site import run_site

SHOP = """
from analytics_admin.breakers import circuit_breaker
from analytics_admin.caching import search_cache

stock = circuit_breaker("stock", wait_duration_in_open_state=30)
asked = []


@stock(fallback="not now")
def look_up():
    return "found"


@search_cache.cached(timeout=60)
def search(query):
    asked.append(query)
    return [query]
"""
CONFTEST = """
pytest_plugins = ["analytics_admin.testing"]
"""
WITH_PYTEST = """
import pytest
from shop import asked, look_up, search


@pytest.mark.parametrize("again", [False, True])
def test_a_customer_is_informed(breakers, again):
    assert look_up() == "found"
    breakers.trip("stock")
    assert look_up() == "not now"
    breakers.advance(30)
    assert look_up() == "found"


@pytest.mark.parametrize("again", [False, True])
def test_all_processes_inform_the_customer(simulated_fleet, again):
    with simulated_fleet.process("web-1"):
        assert look_up() == "found"
        simulated_fleet.trip("stock")
    with simulated_fleet.process("web-2"):
        assert look_up() == "not now"


@pytest.mark.parametrize("again", [False, True])
def test_a_search_is_cached(simulated_search_cache, again):
    asked.clear()
    assert search("lamp") == search("lamp") == ["lamp"]
    simulated_search_cache.advance(61)
    with simulated_search_cache.outage():
        search("lamp")
    search("lamp")
    simulated_search_cache.clear()
    search("lamp")
    assert len(asked) == 4
"""
WITH_SETTINGS = """
import pytest
from shop import search
from django.conf import settings as current
from django.core.cache import caches

from analytics_admin.services import Actor, clear_search_cache


def test_with_the_settings_before(settings, simulated_search_cache):
    search("lamp")
    settings.CACHES = {}
    settings.ANALYTICS_ADMIN = {"SEARCH_CACHE": "searches"}
    assert simulated_search_cache.calls.misses == 1
    search("lamp")
    assert simulated_search_cache.calls.hits == 1


def test_with_the_settings_after(simulated_search_cache, settings):
    settings.CACHES = {}
    search("lamp")


def test_both_have_left_everything_as_it_was():
    assert sorted(current.CACHES) == ["breakers", "default", "search"]
    assert not hasattr(current, "ANALYTICS_ADMIN")
    assert "redis" in type(caches["search"]).__module__


@pytest.mark.django_db
def test_an_operator_clears(simulated_search_cache):
    search("lamp")
    clear_search_cache(actor=Actor.system("a test"))
    search("lamp")
    assert simulated_search_cache.calls.misses == 2
"""
WITH_UNITTEST = """
import django

django.setup()

from django.test import SimpleTestCase
from shop import look_up, search

from analytics_admin.testing import (
    simulated_breakers, simulated_fleet, simulated_search_cache
)


class CustomerTest(SimpleTestCase):
    def test_a_customer_is_informed(self):
        breakers = self.enterContext(simulated_breakers())
        breakers.trip("stock")
        self.assertEqual(look_up(), "not now")
        breakers.heal("stock")
        self.assertEqual(look_up(), "found")

    def test_all_processes_inform_the_customer(self):
        fleet = self.enterContext(simulated_fleet())
        fleet.trip("stock")
        with fleet.process("web-1"):
            self.assertEqual(look_up(), "not now")

    def test_a_search_is_cached(self):
        cache = self.enterContext(simulated_search_cache())
        search("lamp"), search("lamp")
        self.assertEqual(cache.calls_of(search.key("lamp")).computations, 1)
"""
DATABASE = """
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
"""
pytestmark = pytest.mark.lengthy
UNUSED = ("anyio", "cacheprovider", "hypothesispytest", "timeout", "valkey", "xdist")
"""Plugins that only this project has; to load them takes half a second."""
PYTEST = ("pytest", *(f"-pno:{plugin}" for plugin in UNUSED), "-W", "error")
SITE = {"shop.py": SHOP, "test_fixtures.py": WITH_PYTEST}


NO_DJANGO = ("-p", "no:django")
OPTION = ("-p", "analytics_admin.testing")


@pytest.mark.parametrize(
    ("files", "options"),
    [({"conftest.py": CONFTEST}, NO_DJANGO), ({}, (*OPTION, *NO_DJANGO)), ({}, OPTION)],
    ids=["conftest-without-pytest-django", "option-without-pytest-django", "option"],
)
def test_a_sites_pytest_has_the_fixtures(
    tmp_path: Path, files: Mapping[str, str], options: tuple[str, ...]
) -> None:
    assert "6 passed" in run_site(tmp_path, {**SITE, **files}, *PYTEST, *options)


def test_they_get_on_with_the_fixtures_of_pytest_django(tmp_path: Path) -> None:
    site = {"shop.py": SHOP, "conftest.py": CONFTEST, "test_settings.py": WITH_SETTINGS}
    assert "4 passed" in run_site(tmp_path, site, *PYTEST, settings=DATABASE)


def test_a_site_without_pytest_has_the_context_managers(tmp_path: Path) -> None:
    (tmp_path / "pytest.py").write_text("raise ImportError('not installed')")
    site = {"shop.py": SHOP, "test_unittest.py": WITH_UNITTEST}
    assert "Ran 3 tests" in run_site(tmp_path, site, "unittest", "test_unittest")
