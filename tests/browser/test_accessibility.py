"""What bars people from the console: found by axe-core on every page, in both themes; and phones.

What stock admin itself does on pages that are its own is listed; nothing else is let through.
"""

import pytest

from tests.browser.axe import violations
from tests.browser.showcase import PAGES, SCENE, WITH_STORE_DOWN

SIDEWAYS = """() => [...document.querySelectorAll('#content *')]
  .filter(node => node.getBoundingClientRect().right > innerWidth + 1)
  .map(node => node.outerHTML.slice(0, 120)).slice(0, 5)"""


@pytest.fixture
def bad_night(site):
    site.run(SCENE)
    return site


@pytest.mark.lengthy
def test_no_page_bars_anybody_in_either_theme(bad_night, sign_in):
    page = sign_in(bypass_csp=True)  # axe-core measures with inline styles
    found = {}

    def examine(pages, when=""):
        for name, go in pages.items():
            go(page)
            for theme in ("light", "dark"):
                page.emulate_media(color_scheme=theme)
                page.wait_for_timeout(200)  # the admin's links change their color slowly
                found[f"{name}{when}, {theme}"] = violations(name, page)

    examine(PAGES)
    bad_night.store.freeze()
    try:
        examine(WITH_STORE_DOWN, ", store down")
    finally:
        bad_night.store.thaw()
    assert not any(found.values()), "\n".join(
        f"{name}: {line}" for name, lines in found.items() for line in lines
    )


def test_on_a_narrow_phone_no_page_scrolls_sideways_and_each_says_which_site_it_is(
    bad_night, sign_in
):
    page = sign_in(viewport={"width": 320, "height": 640}, is_mobile=True)
    found = {}
    for name, go in PAGES.items():
        go(page)
        page.wait_for_load_state()
        if name != "index":  # that page is the admin's own
            assert "Rehearsal" in page.locator("#aa-environment").inner_text(), name
        if page.evaluate("document.documentElement.scrollWidth") > 320:
            found[name] = page.evaluate(SIDEWAYS)
    assert not found
