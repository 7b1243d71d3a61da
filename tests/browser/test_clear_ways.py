"""A soft clear, its undo, and a clear by tags, by mouse and keyboard, with and without script."""

import pytest
from playwright.sync_api import expect

from tests.browser.test_console import press

WAYS = pytest.mark.parametrize(
    ("javascript", "how"), [(True, "click"), (True, "keyboard"), (False, "click")]
)


@WAYS
def test_a_soft_clear_is_undone_from_the_admin(sign_in, javascript, how):
    page = sign_in(java_script_enabled=javascript, at="/admin/analytics_admin/searchcache/")
    expect(page.get_by_role("button", name="Undo the soft clear")).to_have_count(0)
    expect(page.get_by_role("radio", name="At once")).to_be_checked()
    page.get_by_role("radio", name="Softly").check()
    press(page, "Clear search cache", how=how)
    expect(page.locator("#aa-preview")).to_contain_text("for at most 60 s")
    press(page, "Yes, clear the search cache", how=how)
    expect(page.locator(".messagelist .success")).to_contain_text("Search cache cleared softly")
    expect(page.locator("#aa-keys")).not_to_have_text("0")
    press(page, "Undo the soft clear", how=how)
    expect(page.locator("#aa-preview")).to_contain_text("count as fresh again")
    press(page, "Yes, undo it", how=how)
    expect(page.locator(".messagelist .success")).to_have_text("Soft clear undone")
    expect(page.get_by_role("button", name="Undo the soft clear")).to_have_count(0)


@WAYS
def test_the_results_of_tags_are_cleared_from_the_admin(sign_in, javascript, how):
    page = sign_in(java_script_enabled=javascript, at="/admin/analytics_admin/searchcache/")
    page.get_by_role("radio", name="By tag").check()
    page.get_by_label("Tags").fill("products, prices")
    press(page, "Clear search cache", how=how)
    expect(page.locator("#aa-preview")).to_contain_text("products, prices")
    press(page, "Yes, clear the search cache", how=how)
    expect(page.locator(".messagelist .success")).to_have_text("Search cache cleared for 2 tags")
