"""The audit trail as readers meet it: on a phone, in the dark, without JavaScript, as a file."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.pages import LOWEST_CONTRAST

LIST = "/admin/analytics_admin/operation/"
ACTS = """
from analytics_admin.services import *
nightly = Actor.system("nightly-import@shop.example.com")
reset_circuit_breakers(actor=nightly, reason="<b id=hostile>x</b> " + "y" * 400)
set_breaker_control(name="payment:provider", control="disabled", actor=nightly, for_seconds=900)
clear_search_cache(actor=nightly, tags=["prices", "z" * 100])
clear_search_cache(actor=nightly, mode="soft")
"""


@pytest.fixture
def acted(site):
    site.run(ACTS)
    return site


@pytest.mark.usefixtures("acted")
@pytest.mark.parametrize(
    ("width", "scheme", "javascript"),
    [(320, "light", False), (320, "dark", True), (1280, "light", True), (1280, "dark", True)],
)
def test_each_page_fits_the_screen_and_can_be_read(sign_in, width, scheme, javascript):
    page = sign_in(
        at=LIST,
        color_scheme=scheme,
        viewport={"width": width, "height": 700},
        java_script_enabled=javascript,
    )
    links = page.locator("#result_list tbody th a")
    expect(links).to_have_count(4)
    addresses = [link.get_attribute("href") for link in links.all()]
    for address in [LIST, *addresses]:
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        if address != LIST:
            page.locator("#aa-record summary").click()
            assert page.evaluate(LOWEST_CONTRAST) >= 4.5, address
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        expect(page.locator("#hostile")).to_have_count(0)


@pytest.mark.usefixtures("acted")
def test_a_breaker_leads_to_its_acts_and_an_operation_to_its_breakers(sign_in):
    page = sign_in(at=LIST)
    page.locator("#searchbar").fill("payment")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    expect(page.locator("td.field-kind_column")).to_contain_text("payment:provider: Disabled")
    page.wait_for_load_state()  # the viewer's own time moves what stands beside it
    page.locator("#result_list tbody th a").click()
    expect(page.locator("#aa-changes")).to_contain_text("Closed")
    expect(page.locator("#aa-changes")).to_contain_text("Disabled")
    page.get_by_role("link", name="All operations by this actor").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(4)
    page.go_back()
    page.locator(".breadcrumbs").get_by_role("link", name="Operations").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)  # as it was searched
    page.go_back()
    page.locator("#aa-changes a").click()
    expect(page.locator("h1")).to_have_text("payment:provider")


@pytest.mark.usefixtures("acted")
def test_the_list_is_taken_along_as_a_file(sign_in):
    page = sign_in(at=f"{LIST}?q=prices")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export 1 operation as JSON").click()
    document = json.loads(Path(download.value.path()).read_text())
    assert document["count"] == 1
    assert document["operations"][0]["targets"]["tags"] == ["prices", "z" * 100]
