"""Whatever others wrote is text on every page, and breaks no layout, narrow or wide."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import HOSTILE_USER
from tests.browser.pages import LOWEST_CONTRAST

SECTION = "/admin/analytics_admin/"
LIST = f"{SECTION}circuitbreaker/"
NAME = "n" * 100
REASON = '"><img id=hostile src=x onerror=alert(1)>\u202e' + "r" * 200
# Failures with hostile texts and classes, a hold of a hostile actor, clears with hostile tags.
SCENE = f"""
from analytics_admin.breakers import circuit_breaker
from analytics_admin.caching import search_cache
from analytics_admin.services import *

class_name = "<img id=hostile src=x onerror=alert(1)>"
texts = ["<script id=hostile>alert(1)</script>", "\\u202egnp.exe \\u2067", "w" * 300, "\\x00\\x07"]
eve = Actor.system("<b id=hostile>" + "a" * 60)
breaker = circuit_breaker({NAME!r}, failure_threshold=1)
with breaker:
    pass
set_breaker_control(name={NAME!r}, control="metrics_only", reason={REASON!r}, actor=eve)
while breaker.state != "metrics_only":  # a busy machine may take its time to read it
    pass
for text in texts:
    for cls in (type(class_name, (Exception,), {{}}), type("X" * 200, (Exception,), {{}})):
        try:
            with breaker:
                raise cls(text)
        except Exception:
            pass
for tag in ("<b/id=hostile>bergen</b>", "t" * 100):
    search_cache.set(tag, 1, tags=[tag])
clear_search_cache(actor=eve, tags=["<b/id=hostile>oslo</b>"], reason={REASON!r})
"""
# What somebody may be sent as a link.
ADDRESSES = [
    f"{LIST}?search=<b id=hostile>&state=<b id=hostile>",
    f'{SECTION}operation/?q="><b id=hostile>&actor=<b id=hostile>',
    f'{SECTION}searchcache/?tag="><b id=hostile>&hours=<b id=hostile>',
    f"{LIST}<b id=hostile>/",
    f"{SECTION}operation/<b id=hostile>/",
]


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (320, "light"), (1280, "light")])
def test_hostile_texts_stay_text_and_break_no_layout(
    site, sign_in, expected_complaints, width, scheme
):
    expected_complaints.append("the server responded with a status of 404")
    page = sign_in(
        HOSTILE_USER, at=LIST, color_scheme=scheme, viewport={"width": width, "height": 700}
    )
    ran = []
    page.on("dialog", lambda dialog: ran.append(dialog.message) or dialog.dismiss())

    def check():
        page.wait_for_load_state()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, page.url
        assert page.evaluate(LOWEST_CONTRAST) >= 4.5, page.url
        assert page.locator("#hostile").count() == 0, page.url

    site.run(SCENE)
    expect(page.locator("#aa-breakers")).to_contain_text("would have opened")  # it came by itself
    expect(page.locator("#aa-breakers")).to_contain_text('"><img id=hostile')
    check()
    page.get_by_label("Select nnn").check()
    page.get_by_role("button", name="Disable selected").click()
    expect(page.get_by_text(f"Recorded in the audit trail as {HOSTILE_USER}")).to_be_visible()
    check()
    page.get_by_label("Reason").fill(REASON)
    page.get_by_role("button", name="Disable 1 circuit breaker").click()
    expect(page.locator(".messagelist .success")).to_be_visible()
    page.goto(f"{LIST}{NAME}/")
    expect(page.locator("#aa-hold")).to_contain_text(REASON)
    for text in ("<script id=hostile>alert(1)", "<img id=hostile"):
        expect(page.locator("#aa-last-failures")).to_contain_text(text)
    for text in (HOSTILE_USER, "<b id=hostile>aaa", REASON):
        expect(page.locator("#aa-timeline")).to_contain_text(text)
    check()
    page.goto(f"{SECTION}searchcache/")
    expect(page.locator("#aa-tags")).to_contain_text("<b/id=hostile>bergen</b>")
    expect(page.locator("#aa-last-clear")).to_contain_text(REASON)
    check()
    page.goto(f"{SECTION}operation/")
    expect(page.locator("td.field-reason_column").first).to_contain_text('"><img id=hostile')
    check()
    page.locator("#result_list tbody th a").first.click()
    expect(page.locator("#aa-reason")).to_contain_text(REASON)
    check()
    for address in ADDRESSES:  # some are answered by Django's own page, which may be wide
        page.goto(address)
        assert page.locator("#hostile").count() == 0, address
    assert ran == []
