"""Takes a picture of every page of the console: light, dark, on a phone, with the store down.

``python -m tests.tools.screenshots [FOLDER]``; by default below ``var/``, which git ignores.
With ``--docs`` it takes README's pictures instead, into ``docs/images/``.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from tests.browser.conftest import CHROMIUM_SWITCHES, SEED, Site, log_in
from tests.browser.showcase import PAGES, SCENE, WITH_STORE_DOWN
from tests.support.servers import StoreServer

LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 320, "height": 640}, "is_mobile": True},
}

README_PAGES = {"circuit-breakers": "breakers", "search-cache": "search-cache"}
README_LOOK = {"color_scheme": "light", "viewport": {"width": 1440, "height": 820}}


def main(folder: Path, take_pictures: Callable[[Site, Path], None]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="aa-screenshots-"))
    try:
        with StoreServer() as store, Site(scratch, store).serving() as site:
            site.run(SEED)
            site.run(SCENE)
            take_pictures(site, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def take_for_readme(site: Site, folder: Path) -> None:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_context(base_url=site.url, **README_LOOK).new_page()
        sign_in(page)
        for name, shown in README_PAGES.items():
            PAGES[shown](page)
            take(page, folder / f"{name}.png", full_page=False)
        browser.close()


def take_all(site: Site, folder: Path) -> None:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for look, options in LOOKS.items():
            page = browser.new_context(base_url=site.url, **options).new_page()
            sign_in(page)
            for name, go in PAGES.items():
                go(page)
                take(page, folder / f"{name}-{look}.png")
            site.store.freeze()
            for name, go in WITH_STORE_DOWN.items():
                go(page)
                take(page, folder / f"{name}-{look}-store-down.png")
            site.store.thaw()
        browser.close()


def launch(playwright: Playwright) -> Browser:
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    return playwright.chromium.launch(executable_path=executable, args=CHROMIUM_SWITCHES)


def sign_in(page: Page) -> None:
    page.goto("/admin/")
    log_in(page)
    page.wait_for_load_state()


def take(page: Page, path: Path, *, full_page: bool = True) -> None:
    page.wait_for_timeout(200)
    page.screenshot(path=path, full_page=full_page)
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--docs"]:
        main(Path("docs/images"), take_for_readme)
    else:
        main(Path(*sys.argv[1:]) if sys.argv[1:] else Path("var/screenshots"), take_all)
