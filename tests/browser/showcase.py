"""A site on a bad night, and each page of the console as its operators reach it.

For the tests that look at every page, and for the screenshots.
"""

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page

SECTION = "/admin/analytics_admin/"
BREAKERS = f"{SECTION}circuitbreaker/"
SEARCH_CACHE = f"{SECTION}searchcache/"
OPERATIONS = f"{SECTION}operation/"

# Breakers in every state, operations done, refused and failed, searches that hit and miss.
SCENE = """
from django.contrib.auth import get_user_model
from analytics_admin.breakers import CircuitOpenError, circuit_breaker
from analytics_admin.caching import search_cache
from analytics_admin.models import Operation
from analytics_admin.services import (
    Actor, OperationFailed, clear_search_cache, reset_circuit_breakers, set_breaker_control
)

ada = Actor.from_user(get_user_model().objects.get(username="ada"), channel="admin")

def use(name, successes=0, failures=0, rejected=0, **policy):
    breaker = circuit_breaker(name, **policy)
    for _ in range(successes):
        breaker.call(lambda: None)
    for n in range(failures + rejected):
        try:
            breaker.call(int, f"no answer from host {n}")
        except (ValueError, CircuitOpenError):
            pass

use("catalog", 40, 5, 12, wait_duration_in_open_state=600)
use("payments", 25, 5, 3, wait_duration_in_open_state=0.01)
for name in ("recommendations", "images.resize", "mail:outbox", "tax", "geo", "stock"):
    use(name, 30 + len(name), 1)
use("prices", 12, 5, failure_threshold=None, failure_rate_threshold=25,
    minimum_number_of_calls=10, wait_duration_in_open_state=90)
set_breaker_control(name="geo", control="forced_open", for_seconds=900, actor=ada,
                    reason="the provider is moving house; back at four")
set_breaker_control(name="tax", control="disabled", actor=Actor.system("deploy-bot"))
set_breaker_control(name="stock", control="metrics_only", for_seconds=7 * 86400, actor=ada)
reset_circuit_breakers(actor=ada, names=["images.resize"], reason="the workers are back")
for n in range(150):
    search_cache.get_or_compute(("q", n % 60), lambda: [n], timeout=300, tags=["products"])
clear_search_cache(actor=ada, mode="soft", reason="prices were imported again")
Operation.objects.create(kind="clear_search_cache", status="denied", channel="api", actor="sam")
Operation.objects.create(kind="clear_search_cache", status="failed", channel="command",
                         actor="cron@web-1", error="the store did not answer in time")
"""


def to(path: str) -> Callable[[Page], Any]:
    return lambda page: page.goto(path)


def confirm(path: str, button: str, **ticks: list[str]) -> Callable[[Page], Any]:
    """Go to the confirm page behind a button, with some breakers ticked first."""

    def go(page: Page) -> None:
        page.goto(path)
        for name in ticks.get("names", []):
            page.get_by_label(f"Select {name}", exact=True).check()
        page.get_by_role("button", name=button, exact=True).click()
        page.locator("#aa-preview").wait_for()
        page.wait_for_load_state()  # with its style sheets

    return go


def hold(page: Page) -> None:
    page.goto(f"{BREAKERS}catalog/")
    page.get_by_label("Control").select_option("disabled")
    page.get_by_role("button", name="Set control").click()
    page.locator("#aa-preview").wait_for()
    page.wait_for_load_state()


def newest_operation(page: Page, *, query: str = "") -> None:
    page.goto(OPERATIONS + query)
    page.locator("#result_list tbody th a").first.click()
    page.wait_for_load_state()


def watched_operation(page: Page) -> None:
    newest_operation(page, query="?kind__exact=control_circuit_breakers")
    page.locator("#aa-follow-up").wait_for()


PAGES: dict[str, Callable[[Page], Any]] = {
    # These first: the soft clear of the scene can be undone for a minute.
    "search-cache": to(SEARCH_CACHE),
    "confirm-clear": confirm(SEARCH_CACHE, "Clear search cache"),
    "confirm-undo": confirm(SEARCH_CACHE, "Undo the soft clear"),
    "index": to(SECTION),
    "breakers": to(BREAKERS),
    "breakers-filtered": to(f"{BREAKERS}?state=open&sort=name"),
    "breakers-none": to(f"{BREAKERS}?search=nothing-like-it"),
    "breaker-open": to(f"{BREAKERS}catalog/"),
    "breaker-held": to(f"{BREAKERS}geo/"),
    "breaker-closed": to(f"{BREAKERS}images.resize/"),
    "confirm-reset-all": confirm(BREAKERS, "Reset all circuit breakers"),
    "confirm-selected": confirm(BREAKERS, "Force open selected", names=["mail:outbox", "catalog"]),
    "confirm-hold": hold,
    "confirm-reset-one": confirm(f"{BREAKERS}catalog/", "Reset this circuit breaker"),
    "confirm-probe": confirm(f"{BREAKERS}catalog/", "Allow a probe now"),
    "confirm-forget": confirm(f"{BREAKERS}mail:outbox/", "Forget this circuit breaker"),
    "operations": to(OPERATIONS),
    "operations-filtered": to(f"{OPERATIONS}?status=done&q=ada"),
    "operation": newest_operation,
    "operation-watched": watched_operation,
}
WITH_STORE_DOWN = {
    name: PAGES[name] for name in ("breakers", "breaker-open", "search-cache", "operations")
}
