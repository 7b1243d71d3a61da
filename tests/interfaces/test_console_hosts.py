"""The console in sites that are set up otherwise than ours: the same pages, the same acts."""

import pytest
from django.utils import timezone

from analytics_admin import services
from analytics_admin.caching.statistics import Counts
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from tests.breakers import trip
from tests.interfaces.console_pages import asked, told
from tests.interfaces.operations import LIST, page_of
from tests.interfaces.search_cache_pages import PAGE, tell

BREAKERS = "/admin/analytics_admin/circuitbreaker/"
SHELL = Actor.system("root", channel="command")


@pytest.fixture
def operator(client, superuser):
    client.force_login(superuser)
    return client


def clear(operator):
    """Clear the search cache by the button; return the page to which that leads."""
    url = f"{PAGE}clear/"
    page = operator.post(url, {"mode": "hard"})
    return operator.post(url, asked(page, url), follow=True)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/St_Johns"])
def test_without_time_zones_every_page_is_shown_and_clears_are_marked(operator, settings, zone):
    settings.USE_TZ = False
    settings.TIME_ZONE = zone
    tell((1, Counts(hits=50, misses=10)))
    trip("odd.zone")
    services.set_breaker_control(name="odd.zone", control="disabled", actor=SHELL)
    services.clear_search_cache(actor=SHELL, mode="soft")
    row = Operation.objects.get(kind="clear_search_cache")
    page = operator.get(PAGE)
    for url in (LIST, page_of(row), BREAKERS, f"{BREAKERS}odd.zone/"):
        assert operator.get(url).status_code == 200, url
    assert operator.post(f"{PAGE}undo/").status_code == 200
    assert len(page.context["charts"]["marks"]) == 1
    (mark,) = page.context["charts"]["marks"]
    assert float(mark) > 700  # of 720: just now
    assert timezone.is_aware(page.context["status"].last_clear.at)
    assert told(clear(operator)) == [("success", "Search cache cleared")]
