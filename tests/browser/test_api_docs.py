"""The page that describes the API: open, complete, within the content policy; its lines work."""

import shlex
import subprocess

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.axe import RULES
from tests.browser.conftest import PASSWORD
from tests.support.openapi_document import DOCUMENT, ENDPOINTS, documented

DOCS = "/api/v1/docs"


def test_anybody_can_read_it_and_it_asks_for_nothing_elsewhere(open_page, site):
    page = open_page("/admin/login/")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    answer = page.goto(DOCS)
    policy = answer.headers["content-security-policy"].split("; ")
    assert "default-src 'self'" in policy
    assert not [rule for rule in policy if rule.startswith(("script-", "style-", "img-"))]
    page.wait_for_load_state()
    sheet = "/static/analytics_admin/api_docs.css"
    assert {url for url in asked if "favicon" not in url} == {f"{site.url}{DOCS}", site.url + sheet}
    assert (
        page.evaluate("getComputedStyle(document.querySelector('article')).borderRadius") == "6px"
    )


def test_it_is_the_same_without_javascript(open_page):
    texts = [
        open_page(DOCS, java_script_enabled=enabled).locator("main").inner_text()
        for enabled in (True, False)
    ]
    assert texts[0] == texts[1]


def test_every_endpoint_has_its_part_and_every_link_leads_somewhere(open_page):
    page = open_page(DOCS)
    titles = page.locator("main article h3").all_inner_texts()
    assert {f"{method} {route}" for method, route in ENDPOINTS} <= set(titles)
    parts = set(page.locator("[id]").evaluate_all("all => all.map(it => '#' + it.id)"))
    links = page.locator("a[href^='#']").evaluate_all(
        "all => all.map(it => it.getAttribute('href'))"
    )
    assert len(links) > 100
    assert set(links) <= parts
    assert len(parts) == page.locator("[id]").count()


def test_each_part_tells_the_parameters_the_body_the_answers_and_the_codes(open_page):
    page = open_page(DOCS)
    for method, route in ENDPOINTS:
        said = documented(method, route)
        told = page.locator(f"article#{said['operationId']}").inner_text()
        assert said["summary"] in told
        for parameter in said.get("parameters", ()):
            assert parameter["name"] in told
        for status in said["responses"]:
            assert status in told
        assert ("Needs a token." in told) is ("security" in said)
    reset = page.locator("article#reset_circuit_breakers").inner_text()
    words = (
        "only_open",
        "at most 500 characters",
        "unknown_breaker",
        "X-Operation-Id",
        "Retry-After",
    )
    assert [word for word in words if word not in reset] == []
    assert '{"message": "All circuit breakers reset successfully"}' in reset


@pytest.mark.lengthy
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_it_bars_nobody_in_either_theme_at_either_width(open_page, theme, width):
    page = open_page(
        DOCS,
        bypass_csp=True,  # axe-core measures with inline styles
        color_scheme=theme,
        viewport={"width": width, "height": 800},
    )
    found = Axe().run(page, options=RULES).response["violations"]
    lines = [f"{rule['id']}: {node['html'][:160]}" for rule in found for node in rule["nodes"]]
    assert lines == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_with_the_keyboard_the_first_stop_skips_the_list_of_endpoints(open_page):
    page = open_page(DOCS)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the endpoints"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")


def test_the_document_is_one_click_away(open_page):
    page = open_page(DOCS)
    with page.expect_response("**/api/v1/schema") as answer:
        page.get_by_role("link", name="OpenAPI document").click()
    assert answer.value.json()["openapi"] == DOCUMENT["openapi"]


# What the lines come to that find nothing to undo, a breaker held by the line before, no operation
# of the id in the example, and no real token.
FAILING = {
    "undo_clear": "409",
    "describe_operation": "404",
    "refresh_token": "401",
}
TRIP = """
from contextlib import suppress
from analytics_admin.breakers import CircuitOpenError
from analytics_admin.services import Actor, OperatorError, set_breaker_control
from tests.support.breakers import trip

for name in ("catalog", "prices", "catlog"):
    with suppress(OperatorError):  # the line before may have held it
        set_breaker_control(name=name, control="automatic", actor=Actor.system("test"))
    with suppress(CircuitOpenError):
        trip(name)
"""


def test_its_lines_work_in_a_shell(open_page, site):
    token = site.manage("issue_token", "ada")
    page = open_page(DOCS)
    statuses = {}
    for method, route in ENDPOINTS:
        name = documented(method, route)["operationId"]
        if "circuit-breakers/" in route:
            site.run(TRIP)
        line = page.locator(f"article#{name} .curl").inner_text()
        line = line.replace('"admin"', '"ada"').replace(
            '"password": "…"', f'"password": "{PASSWORD}"'
        )
        statuses[name] = run(line, token)
    assert statuses == dict.fromkeys(statuses, "200") | FAILING


def run(line: str, token: str) -> str:
    shown = subprocess.run(
        ["sh", "-c", f"{line} -s -o /dev/null -w {shlex.quote('%{http_code}')}"],
        env={"TOKEN": token, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return shown.stdout
