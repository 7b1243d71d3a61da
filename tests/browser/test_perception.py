"""How pages are perceived: by keyboard, by ear, magnified, in forced colors, without motion."""

import pytest
from playwright.sync_api import expect

from tests.browser.showcase import BREAKERS, OPERATIONS, PAGES, SCENE, SEARCH_CACHE

# Follow Tab through the page: whatever takes the focus in it looks unlike before, and is in sight.
LOOK = """node => {
  const parts = [node, node.parentElement];
  return parts.map(part => (({outlineStyle, outlineWidth, boxShadow, borderColor}) =>
    [outlineStyle === "none" ? "" : outlineStyle + outlineWidth, boxShadow, borderColor].join())
    (getComputedStyle(part))).join("|");
}"""
REMEMBER = f"""() => {{
  const look = {LOOK};
  window.looks = new Map([...document.querySelectorAll("#content *")]
    .filter(node => node.tabIndex >= 0).map(node => [node, look(node)]));
}}"""
STEP = f"""() => {{
  const look = {LOOK}, node = document.activeElement, box = node.getBoundingClientRect();
  if (!window.looks.has(node)) return null;
  const clear = look(node) !== window.looks.get(node);
  const [x, y] = [box.x + Math.min(box.width, 20) / 2, box.y + box.height / 2];
  const top = document.elementFromPoint(x, y);
  const seen = top && (node.contains(top) || top.contains(node) || top.closest("label"));
  return [node.outerHTML.slice(0, 100), clear, Boolean(seen)];
}}"""
# What a screen reader would be told: each change within a live region.
LISTEN = """() => {
  window.told = [];
  new MutationObserver(changes => changes.forEach(({target}) => {
    const node = target.nodeType === Node.TEXT_NODE ? target.parentElement : target;
    const region = node?.closest("[role=status], [role=alert], [aria-live]");
    if (region) told.push(region.id || region.outerHTML.slice(0, 80));
  })).observe(document.body,
    {childList: true, characterData: true, attributes: true, subtree: true});
}"""
RESET = """
from analytics_admin.services import Actor, reset_circuit_breakers
reset_circuit_breakers(actor=Actor.system("somebody else"))
"""
SOFTLY_CLEARED = """
from analytics_admin.services import Actor, clear_search_cache
clear_search_cache(actor=Actor.system("somebody else"), mode="soft")
"""
MOVING = """() => [...document.querySelectorAll("#content-main *")].filter(node => {
  const style = getComputedStyle(node);
  const durations = style.transitionDuration.split(", ").map(parseFloat);
  const moves = style.transitionProperty.split(", ").some((property, n) =>
    durations[n % durations.length] && !/color|background/.test(property));
  return style.animationName !== "none" || moves;
}).map(node => node.outerHTML.slice(0, 100))"""
# Of what is drawn, what cannot be told from what lies behind it.
LOST = """() => {
  const behind = getComputedStyle(document.body).backgroundColor;
  return [...document.querySelectorAll("#content-main svg path, #content-main svg rect")]
    .filter(node => node.getBoundingClientRect().height > 0).filter(node => {
      const {fill, stroke} = getComputedStyle(node);
      const inks = [fill, stroke].filter(ink => !/^(none|url|rgba\\(.*, 0\\))/.test(ink));
      return inks.length && inks.every(ink => ink === behind);
    }).map(node => node.outerHTML.slice(0, 100));
}"""


@pytest.fixture
def bad_night(site):
    site.run(SCENE)
    return site


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_whatever_tab_reaches_shows_that_it_has_the_focus(bad_night, sign_in, scheme):
    page = sign_in(color_scheme=scheme)
    unseen = {}
    for name in ("breakers", "breaker-open", "search-cache", "confirm-clear", "operations"):
        PAGES[name](page)
        page.wait_for_load_state()
        page.evaluate(REMEMBER)
        page.locator("#content").evaluate("node => { node.tabIndex = -1; node.focus(); }")
        steps = []
        for _ in range(300):
            page.keyboard.press("Tab")
            step = page.evaluate(STEP)
            if step is None:
                break
            steps.append(step)
        assert len(steps) >= 3, name
        unseen[name] = [step for step in steps if not all(step[1:])]
    assert not any(unseen.values()), unseen


def test_the_verdict_is_announced_when_it_changes_and_nothing_else_ever(site, sign_in):
    site.run(SOFTLY_CLEARED)
    paths = (BREAKERS, f"{BREAKERS}catalog.search/", SEARCH_CACHE, OPERATIONS)
    breakers, *others = pages = [sign_in(at=path) for path in paths]
    for page in pages:
        page.evaluate(LISTEN)
    breakers.wait_for_timeout(2_300)  # they count each second, and look each second
    assert [page.evaluate("told") for page in pages] == [[], [], [], []]
    site.run(RESET)
    expect(breakers.locator("#aa-verdict")).to_have_text("0 of 2 breakers open")
    expect(others[0].locator("#aa-state")).to_contain_text("Closed")
    assert set(breakers.evaluate("told")) == {"aa-verdict"}
    assert [page.evaluate("told") for page in others] == [[], [], []]


def test_nothing_moves_and_nothing_is_lost_in_forced_colors_or_magnified_twice(bad_night, sign_in):
    page = sign_in(viewport={"width": 640, "height": 400}, device_scale_factor=2)
    found = {}
    for name in ("breakers", "breaker-open", "search-cache", "confirm-selected", "operation"):
        page.emulate_media(reduced_motion="reduce", forced_colors="none")
        PAGES[name](page)
        page.wait_for_load_state()
        found[name] = page.evaluate(MOVING)
        if page.evaluate("document.documentElement.scrollWidth") > 640:
            found[name].append("is scrolled sideways")
        cut = page.locator("#content-main button:visible").evaluate_all(
            "all => all.filter(it => it.scrollWidth > it.clientWidth + 1).map(it => it.outerHTML)"
        )
        page.emulate_media(forced_colors="active")
        found[name] += cut + page.evaluate(LOST)
    assert not any(found.values()), found
