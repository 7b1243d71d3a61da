"""The console in an admin site of the host's own, mounted elsewhere under another name."""

import pytest
from django.contrib import admin
from django.core.cache import caches
from django.urls import path

from analytics_admin.console.circuit_breakers import CircuitBreakerAdmin
from analytics_admin.console.operations import OperationAdmin
from analytics_admin.console.search_cache import SearchCacheAdmin
from analytics_admin.models import CircuitBreaker, Operation, SearchCache
from tests.interfaces.operations import record

ops_site = admin.AdminSite(name="ops")
ops_site.register(SearchCache, SearchCacheAdmin)
ops_site.register(CircuitBreaker, CircuitBreakerAdmin)
ops_site.register(Operation, OperationAdmin)

cache_site = admin.AdminSite(name="cache_only")
cache_site.register(SearchCache, SearchCacheAdmin)

trail_site = admin.AdminSite(name="trail_only")
trail_site.register(Operation, OperationAdmin)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("internal/ops/", ops_site.urls),
    path("internal/cache/", cache_site.urls),
    path("internal/trail/", trail_site.urls),
]

SECTION = "/internal/ops/analytics_admin/"

pytestmark = pytest.mark.urls("tests.interfaces.test_console_sites")


@pytest.fixture
def operator(client, superuser):
    client.force_login(superuser)
    return client


@pytest.mark.parametrize("page", ["searchcache/", "circuitbreaker/", "operation/"])
def test_a_page_stays_within_its_site(operator, page):
    text = operator.get(SECTION + page).text
    assert '"/admin/' not in text
    assert "/internal/ops/" in text


@pytest.mark.parametrize(
    ("page", "act"), [("searchcache/", "clear/"), ("circuitbreaker/", "reset/")]
)
def test_an_act_stays_within_its_site(operator, page, act):
    caches["search"].set("query", "answer")
    assert f'action="{SECTION}{page}{act}"' in operator.get(SECTION + page).text
    confirm = operator.post(SECTION + page + act).text
    assert f'action="{SECTION}{page}{act}"' in confirm
    assert '"/admin/' not in confirm
    answer = operator.post(SECTION + page + act, {"confirmed": "yes"})
    assert (answer.status_code, answer.url) == (302, SECTION + page)
    assert Operation.objects.get().status == "done"
    assert '"/admin/' not in operator.get(SECTION + page).text


def test_anonymous_visitors_are_sent_to_that_sites_login(client, db):
    for url in ["searchcache/", "searchcache/clear/", "operation/"]:
        answer = client.get(SECTION + url)
        assert answer.url.startswith("/internal/ops/login/?next=")


def test_its_tableless_models_have_no_other_pages_either(operator):
    assert operator.get(SECTION + "searchcache/add/").status_code == 404
    assert operator.get(SECTION + "searchcache/1/change/").status_code == 404


def test_a_page_works_in_a_site_that_lacks_the_others(operator):
    page = "/internal/cache/analytics_admin/searchcache/"
    operator.post(page + "clear/", {"confirmed": "yes", "reason": "stale"})
    text = operator.get(page).text
    assert "stale" in text
    assert "operation/" not in text


@pytest.mark.parametrize("site", ["/internal/ops/", "/internal/trail/"])
def test_an_operation_and_the_export_stay_within_their_site(operator, site):
    kept = {"names": ["catalog"]}
    moved = {"results": [{"name": "catalog", "from": "open", "to": "closed"}]}
    row = record(kind="reset_circuit_breakers", status="unknown", targets=kept, outcome=moved)
    trail = f"{site}analytics_admin/operation/"
    listed = operator.get(trail).text
    assert f'href="{trail}export/"' in listed
    assert f'href="{trail}{row.pk}/"' in listed
    text = operator.get(f"{trail}{row.pk}/").text
    assert f'href="{trail}?actor=ada"' in text
    assert ("circuitbreaker/catalog/" in text) is (site == "/internal/ops/")
    assert '"/admin/' not in text + listed
    assert operator.get(f"{trail}export/?status=nonsense").url == trail
    assert operator.get(f"{trail}{row.pk}/change/").url == f"{trail}{row.pk}/"
