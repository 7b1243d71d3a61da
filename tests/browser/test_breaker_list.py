"""The breakers' list and page in a real browser: countdowns, ticks, the probe let through now."""

import json
import re

import pytest
from playwright.sync_api import expect

from tests.browser.pages import LOWEST_CONTRAST, NEWEST_ROW

LIST = "/admin/analytics_admin/circuitbreaker/"
FAIL = """
from analytics_admin.breakers import circuit_breaker
try:
    with circuit_breaker({name!r}, failure_threshold=1, wait_duration_in_open_state={wait}):
        raise ConnectionError
except ConnectionError:
    pass
"""
RESET = """
from analytics_admin.services import Actor, reset_circuit_breakers
reset_circuit_breakers(names=["catalog.search"], actor=Actor.system("somebody else"))
"""
STATES = """
import json
from analytics_admin.services import list_breakers
print(json.dumps({status.name: status.state for status in list_breakers()}))
"""
ALL = "Select all on this page"


def row(page, name):
    return page.locator(f'#aa-breakers tr[data-key="{name}"]')


@pytest.fixture
def open_list(sign_in):
    def open_list(path=LIST, **options):
        return sign_in(at=path, **options)

    return open_list


def test_a_countdown_goes_on_by_itself_and_ends_in_ready_to_probe(site, open_list):
    site.run(FAIL.format(name="brief", wait=6))
    page = open_list()
    page.get_by_role("button", name="Pause updates").click()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    probe = row(page, "brief").locator(".aa-probe")
    expect(probe).to_have_text(re.compile(r"0:0\d|ready to probe"))
    expect(probe).to_contain_text("ready to probe", timeout=9_000)
    assert asked == []
    expect(row(page, "catalog.search").locator(".aa-probe")).to_have_text(re.compile(r"9:\d\d"))
    page.goto(f"{LIST}brief/")
    expect(page.locator("#aa-retry")).to_have_text("ready to probe")


def test_all_of_a_page_are_ticked_at_once_and_told(open_list):
    page = open_list()
    everything, told = page.get_by_label(ALL), page.locator("#aa-selection")
    expect(told).to_be_hidden()
    everything.check()
    expect(page.locator("#aa-breakers tbody :checked")).to_have_count(2)
    expect(told).to_have_text("Selected: 2")
    page.get_by_label("Select payment:provider").uncheck()
    expect(told).to_have_text("Selected: 1")
    assert everything.evaluate("node => [node.checked, node.indeterminate]") == [False, True]
    page.get_by_label("Select payment:provider").check()
    expect(everything).to_be_checked()
    everything.uncheck()
    expect(told).to_be_hidden()


def test_ticks_and_their_number_stay_while_rows_come_and_change_places(site, open_list):
    page = open_list()
    page.get_by_label("Select payment:provider").check()
    page.get_by_label("Select payment:provider").focus()
    site.run(RESET)
    site.run(FAIL.format(name="a.new.one", wait=600))
    expect(row(page, "a.new.one")).to_contain_text("Open")
    expect(row(page, "catalog.search")).to_contain_text("Closed")
    expect(page.get_by_label("Select payment:provider")).to_be_checked()
    expect(page.get_by_label("Select payment:provider")).to_be_focused()
    expect(page.locator("#aa-selection")).to_have_text("Selected: 1")
    expect(page.locator("#aa-breakers tbody :checked")).to_have_count(1)
    names = page.locator("#aa-breakers tbody th").all_inner_texts()
    assert names == ["a.new.one", "catalog.search", "payment:provider"]


def test_without_javascript_there_is_nothing_that_needs_it(open_list):
    page = open_list(java_script_enabled=False)
    expect(page.locator("#aa-select-all")).to_be_hidden()
    expect(page.locator("#aa-selection")).to_be_hidden()
    page.get_by_label("Select payment:provider").check()
    page.get_by_role("button", name="Reset selected").click()
    expect(page.locator("#aa-preview tbody tr")).to_have_count(1)


def test_one_probe_is_let_through_and_told_in_the_timeline(site, open_list):
    page = open_list(f"{LIST}catalog.search/")
    page.get_by_role("button", name="Allow a probe now").click()
    expect(page.locator("#aa-preview")).to_contain_text("The next calls pass as probes")
    page.get_by_label("Reason").fill("they say it is back")
    assert json.loads(site.run(STATES))["catalog.search"] == "open"
    page.get_by_role("button", name="Yes, allow a probe").click()
    expect(page.locator(".messagelist .success")).to_have_text(
        "Circuit breaker catalog.search allows a probe"
    )
    expect(page.locator("#aa-state")).to_contain_text("Half open")
    newest = page.locator("#aa-timeline tbody tr").first
    expect(newest).to_contain_text("they say it is back")
    expect(newest).to_contain_text("Half open")
    expect(page.get_by_role("button", name="Allow a probe now")).to_be_disabled()
    assert json.loads(site.run(NEWEST_ROW))["kind"] == "allow_probe"
    newest.get_by_role("link").click()
    expect(page.locator("#content")).to_contain_text("they say it is back")


@pytest.mark.parametrize("width", [320, 768, 1000, 1280])
def test_the_list_fits_every_width_and_hides_nothing_that_applies(site, open_list, width):
    site.run(FAIL.format(name="b" * 100, wait=600))
    page = open_list(viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(LOWEST_CONTRAST) >= 4.5
    opened = row(page, "catalog.search")
    for part in (".aa-state", ".aa-number", ".aa-recent svg", ".aa-probe", ".aa-change"):
        expect(opened.locator(part).first).to_be_visible()
    expect(opened.locator(".aa-recent")).to_contain_text("Calls: 1, failed: 1, rejected: 0")
    page.get_by_label(ALL).check()
    expect(page.locator("#aa-breakers tbody :checked")).to_have_count(3)
    last = page.locator("#aa-breakers tbody [name=names]").last
    last.focus()
    assert last.evaluate(
        "node => { const box = node.getBoundingClientRect(); const middle = box.y + box.height / 2;"
        " return document.elementFromPoint(box.x + box.width / 2, middle) === node }"
    ), "what has the focus lies under something"
