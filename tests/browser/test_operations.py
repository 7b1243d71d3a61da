"""Every operation of the console in a browser: by mouse, by keyboard, without JavaScript.

Nothing is done before the confirm page is sent; then other processes see it, and it is on record.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.operator import Operator

BREAKERS = "/admin/analytics_admin/circuitbreaker/"
SEARCH_CACHE = "/admin/analytics_admin/searchcache/"
REASON = "ticket 4711"

# What another process of the site sees: breakers, fresh results, the newest operation on record.
SEEN = """
import json
from django.core.cache import caches
from analytics_admin.caching import search_cache
from analytics_admin.models import Operation
from analytics_admin.services import list_breakers
tags = {"tagged": ["products"], "plain": []}
print(json.dumps({
    **{status.name: status.state for status in list_breakers()},
    "fresh": [key for key in tags if search_cache.get(key, tags=tags[key])],
    "stored": len(caches["search"].client.get_client().keys("*2:value:k:*")),
    "bare": sum(caches["search"].get(f"query-{n}") is not None for n in range(5)),
    "operations": [list(row) for row in Operation.objects.values_list("kind", "actor", "reason")],
}))
"""
RESULTS = """
from analytics_admin.caching import search_cache
search_cache.set("tagged", 1, tags=["products"])
search_cache.set("plain", 1)
"""
AS = """
from analytics_admin.services import *
somebody = Actor.system("somebody else")
"""
SOFTLY_CLEARED = RESULTS + AS + "clear_search_cache(actor=somebody, mode='soft')\n"
HELD = AS + "set_breaker_control(name='payment:provider', control='disabled', actor=somebody)\n"
MISTYPED = """
from analytics_admin.breakers import circuit_breaker
with circuit_breaker("catalgo"):
    pass
"""


def nothing(operator: Operator) -> None:
    """The button says it all."""


def pick(way: str, *, tags: str = "") -> Callable[[Operator], None]:
    def fill(operator: Operator) -> None:
        operator.pick(way)
        if tags:
            operator.write("Tags", tags)

    return fill


def choose(control: str, *, seconds: str = "3600") -> Callable[[Operator], None]:
    def fill(operator: Operator) -> None:
        operator.choose("Control", control)
        operator.choose("Duration", seconds)

    return fill


def tick(*names: str) -> Callable[[Operator], None]:
    def fill(operator: Operator) -> None:
        for name in names:
            operator.tick(f"Select {name}")

    return fill


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """One operation: where its button is, what is filled in, what is said, and what it changes."""

    page: str
    button: str
    foretold: str
    confirm: str
    told: str
    kind: str
    changes: dict[str, Any]
    before: str = ""
    fill: Callable[[Operator], None] = field(default=nothing)


DEEDS = {
    "clear": Deed(
        page=SEARCH_CACHE,
        button="Clear search cache",
        foretold="5 keys will be removed.",
        confirm="Yes, clear the search cache",
        told="Search cache cleared",
        kind="clear_search_cache",
        changes={"bare": 0},
    ),
    "clear softly": Deed(
        before=RESULTS,
        page=SEARCH_CACHE,
        fill=pick("Soft:"),
        button="Clear search cache",
        foretold="for at most 60 s",
        confirm="Yes, clear the search cache",
        told="Search cache cleared softly",
        kind="clear_search_cache",
        changes={"fresh": []},
    ),
    "clear by tags": Deed(
        before=RESULTS,
        page=SEARCH_CACHE,
        fill=pick("By tag", tags="products, prices"),
        button="Clear search cache",
        foretold="1 of 2 tags",
        confirm="Yes, clear the search cache",
        told="Search cache cleared for 2 tags",
        kind="clear_search_cache",
        changes={"fresh": ["plain"]},
    ),
    "undo": Deed(
        before=SOFTLY_CLEARED,
        page=SEARCH_CACHE,
        button="Undo the soft clear",
        foretold="are valid again",
        confirm="Yes, undo it",
        told="Soft clear undone",
        kind="undo_clear",
        changes={"fresh": ["tagged", "plain"]},
    ),
    "reset all": Deed(
        page=BREAKERS,
        button="Reset all circuit breakers",
        foretold="2 circuit breakers will be closed",
        confirm="Yes, reset 2 circuit breakers",
        told="All circuit breakers reset successfully",
        kind="reset_circuit_breakers",
        changes={"catalog.search": "closed"},
    ),
    "reset the open ones": Deed(
        page=BREAKERS,
        button="Reset only open ones",
        foretold="1 circuit breaker will be closed",
        confirm="Yes, reset 1 circuit breaker",
        told="1 circuit breaker reset successfully",
        kind="reset_circuit_breakers",
        changes={"catalog.search": "closed"},
    ),
    "reset one": Deed(
        page=f"{BREAKERS}catalog.search/",
        button="Reset this circuit breaker",
        foretold="",
        confirm="Yes, reset it",
        told="reset successfully",
        kind="reset_circuit_breakers",
        changes={"catalog.search": "closed"},
    ),
    "reset the ticked ones": Deed(
        page=BREAKERS,
        fill=tick("catalog.search"),
        button="Reset selected",
        foretold="catalog.search",
        confirm="Reset 1 circuit breaker",
        told="1 circuit breaker reset successfully",
        kind="reset_circuit_breakers",
        changes={"catalog.search": "closed"},
    ),
    "hold": Deed(
        page=f"{BREAKERS}payment:provider/",
        fill=choose("forced_open", seconds="28800"),
        button="Set control",
        foretold="8 hours",
        confirm="Yes, hold it",
        told="Circuit breaker payment:provider set to forced_open",
        kind="control_circuit_breakers",
        changes={"payment:provider": "forced_open"},
    ),
    "release": Deed(
        before=HELD,
        page=f"{BREAKERS}payment:provider/",
        fill=choose("automatic"),
        button="Set control",
        foretold="works automatically again",
        confirm="Yes, release it",
        told="Circuit breaker payment:provider set to automatic",
        kind="control_circuit_breakers",
        changes={"payment:provider": "closed"},
    ),
    "hold the ticked ones": Deed(
        page=BREAKERS,
        fill=tick("catalog.search", "payment:provider"),
        button="Force open selected",
        foretold="Every call is rejected, even if",
        confirm="Force open 2 circuit breakers",
        told="2 circuit breakers set to forced_open",
        kind="control_circuit_breakers",
        changes={"catalog.search": "forced_open", "payment:provider": "forced_open"},
    ),
    "release the ticked ones": Deed(
        before=HELD,
        page=BREAKERS,
        fill=tick("payment:provider"),
        button="Release selected",
        foretold="payment:provider",
        confirm="Release 1 circuit breaker",
        told="Circuit breaker payment:provider set to automatic",
        kind="control_circuit_breakers",
        changes={"payment:provider": "closed"},
    ),
    "probe": Deed(
        page=f"{BREAKERS}catalog.search/",
        button="Allow a probe now",
        foretold="The next calls pass as probes",
        confirm="Yes, allow a probe",
        told="Circuit breaker catalog.search allows a probe",
        kind="allow_probe",
        changes={"catalog.search": "half_open"},
    ),
    "forget": Deed(
        before=MISTYPED,
        page=f"{BREAKERS}catalgo/",
        button="Forget this circuit breaker",
        foretold="",
        confirm="Yes, forget it",
        told="Circuit breaker catalgo forgotten",
        kind="forget_circuit_breaker",
        changes={"catalgo": None},
    ),
}


@pytest.mark.parametrize("name", DEEDS)
@pytest.mark.parametrize(
    ("javascript", "how"), [(True, "click"), (True, "keyboard"), (False, "click")]
)
def test_an_operation_is_done_from_the_admin_once_it_is_confirmed(
    site, sign_in, name, javascript, how
):
    deed = DEEDS[name]
    if deed.before:
        site.run(deed.before)
    page = sign_in(at=deed.page, java_script_enabled=javascript)
    operator = Operator(page=page, how=how)
    deed.fill(operator)
    operator.press(deed.button)
    expect(page.locator("#aa-preview")).to_contain_text(deed.foretold)
    expect(page.get_by_text("Recorded in the audit trail as ada")).to_be_visible()
    before = json.loads(site.run(SEEN))
    assert "ada" not in [actor for _, actor, _ in before["operations"]]
    assert all(before[what] != then for what, then in deed.changes.items())
    operator.write("Reason", REASON)
    operator.press(deed.confirm)
    expect(page.locator(".messagelist .success")).to_contain_text(deed.told)
    expected = {**before, **deed.changes}
    expected["operations"] = [[deed.kind, "ada", REASON], *before["operations"]]
    assert json.loads(site.run(SEEN)) == {k: v for k, v in expected.items() if v is not None}
