"""The list in a real browser: found by filter, ticked, acted on, by mouse and keyboard."""

import json

import pytest
from playwright.sync_api import expect

from tests.browser.test_console import LOWEST_CONTRAST, NEWEST_ROW, WAYS, press

LIST = "/admin/analytics_admin/circuitbreaker/"
STATES = """
import json
from analytics_admin.services import list_breakers
print(json.dumps({status.name: status.state for status in list_breakers()}))
"""


def tick(page, name, *, how):
    box = page.get_by_label(f"Select {name}")
    if how == "click":
        box.check()
        return
    for _ in range(80):
        page.keyboard.press("Tab")
        if box.evaluate("node => node === document.activeElement"):
            page.keyboard.press("Space")
            expect(box).to_be_checked()
            return
    raise AssertionError(f"{name!r} is not reached by the keyboard")


def states(site):
    return json.loads(site.run(STATES))


@WAYS
def test_the_ticked_breakers_are_held_open_and_released(site, sign_in, javascript, how):
    page = sign_in(java_script_enabled=javascript, at=LIST)
    tick(page, "catalog.search", how=how)
    tick(page, "payment:provider", how=how)
    press(page, "Force open selected", how=how)
    expect(page.locator("#aa-preview tbody tr")).to_have_count(2)
    expect(page.locator("#aa-preview")).to_contain_text("Every call is rejected at once")
    page.get_by_label("Duration").select_option(label="8 hours")
    page.get_by_label("Reason").fill("moving house")
    assert states(site) == {"catalog.search": "open", "payment:provider": "closed"}
    press(page, "Force open 2 circuit breakers", how=how)
    expect(page.locator(".messagelist .success")).to_have_text(
        "2 circuit breakers set to forced_open"
    )
    expect(page.locator("#aa-verdict")).to_have_text("2 of 2 breakers open")
    assert set(states(site).values()) == {"forced_open"}
    assert json.loads(site.run(NEWEST_ROW))["reason"] == "moving house"
    tick(page, "payment:provider", how=how)
    press(page, "Release selected", how=how)
    press(page, "Release 1 circuit breaker", how=how)
    expect(page.locator(".messagelist .success")).to_be_visible()
    assert states(site) == {"catalog.search": "forced_open", "payment:provider": "half_open"}


@WAYS
def test_a_breaker_is_found_by_the_filter_ticked_and_reset(site, sign_in, javascript, how):
    page = sign_in(java_script_enabled=javascript, at=LIST)
    page.get_by_label("Name contains").fill("cat")
    page.get_by_label("State").select_option("open")
    press(page, "Show", how=how)
    expect(page.locator("#aa-breakers tbody tr")).to_have_count(1)
    expect(page.get_by_label("Name contains")).to_have_value("cat")
    tick(page, "catalog.search", how=how)
    press(page, "Reset selected", how=how)
    press(page, "Reset 1 circuit breaker", how=how)
    expect(page.locator("#aa-none")).to_have_text("No circuit breaker matches.")
    assert page.url.endswith("?search=cat&state=open")
    expect(page.locator("#aa-verdict")).to_have_text("0 of 2 breakers open")
    page.get_by_role("link", name="Show all").click()
    expect(page.locator("#aa-breakers tbody tr")).to_have_count(2)


@pytest.mark.parametrize("javascript", [True, False])
def test_where_a_ticked_breaker_has_moved_nothing_is_done_until_it_was_seen(
    site, sign_in, javascript
):
    page = sign_in(java_script_enabled=javascript, at=LIST)
    for name in ("catalog.search", "payment:provider"):
        page.get_by_label(f"Select {name}").check()
    page.get_by_role("button", name="Disable selected").click()
    site.run(
        "from analytics_admin.services import Actor, reset_circuit_breakers\n"
        "reset_circuit_breakers(names=['catalog.search'], actor=Actor.system('root'))"
    )
    page.get_by_role("button", name="Disable 2 circuit breakers").click()
    expect(page.locator(".messagelist .error")).to_contain_text("nothing was done")
    assert set(states(site).values()) == {"closed"}
    page.get_by_role("button", name="Disable 2 circuit breakers").click()
    expect(page.locator(".messagelist .success")).to_be_visible()
    assert set(states(site).values()) == {"disabled"}


def test_nothing_ticked_is_told(site, sign_in):
    page = sign_in(at=LIST)
    page.get_by_role("button", name="Disable selected").click()
    expect(page.locator(".messagelist .error")).to_contain_text("tick at least one")


def test_a_mistyped_breaker_is_forgotten_on_its_page(site, sign_in):
    site.run(
        "from analytics_admin.breakers import circuit_breaker\n"
        "with circuit_breaker('catalgo'):\n"
        "    pass"
    )
    page = sign_in(at=f"{LIST}catalgo/")
    page.get_by_role("button", name="Forget this circuit breaker").click()
    page.get_by_role("button", name="Yes, forget it").click()
    expect(page.locator(".messagelist .success")).to_have_text("Circuit breaker catalgo forgotten")
    assert "catalgo" not in states(site)


HOSTILE = """
from analytics_admin.breakers import circuit_breaker
from analytics_admin.services import Actor, set_breaker_control

class_name = "<img id=hostile src=x onerror=alert(1)>"
texts = ["<script id=hostile>alert(1)</script>", "\\u202egnp.exe \\u2067", "w" * 300, "\\x00\\x07"]
name = "n" * 100
breaker = circuit_breaker(name, failure_threshold=1)
with breaker:
    pass
set_breaker_control(
    name=name, control="metrics_only", reason="<b id=hostile>\\u202e" + "r" * 400,
    actor=Actor.system("<b id=hostile>" + "a" * 60),
)
for text in texts:
    for cls in (type(class_name, (Exception,), {}), type("X" * 200, (Exception,), {})):
        try:
            with breaker:
                raise cls(text)
        except Exception:
            pass
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_hostile_texts_stay_text_and_break_no_layout(site, sign_in, scheme, width):
    site.run(HOSTILE)
    page = sign_in(color_scheme=scheme, viewport={"width": width, "height": 700})

    def check():
        page.wait_for_load_state()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(LOWEST_CONTRAST) >= 4.5
        expect(page.locator("#hostile")).to_have_count(0)

    page.goto(LIST)
    expect(page.locator("#aa-breakers")).to_contain_text("would have opened")
    check()
    page.get_by_label("Select nnn").check()
    page.get_by_role("button", name="Disable selected").click()
    expect(page.locator("#aa-preview tbody tr")).to_have_count(1)
    check()
    page.goto(f"{LIST}{'n' * 100}/")
    expect(page.locator("#aa-opened")).to_contain_text("Why it would have opened")
    expect(page.locator("#aa-last-failures tbody tr")).to_have_count(8)
    expect(page.locator("#aa-last-failures")).to_contain_text("<script id=hostile>alert(1)")
    expect(page.locator("#aa-last-failures")).to_contain_text("<img id=hostile")
    page.locator("#aa-history summary").click()
    expect(page.locator("#aa-history tbody tr")).to_have_count(30)
    check()
