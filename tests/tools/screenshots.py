"""Takes a picture of every page of the console: light, dark, on a phone, with the store down.

``python -m tests.tools.screenshots [FOLDER]``; by default below ``var/``, which git ignores.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import CHROMIUM_SWITCHES, SEED, Site, log_in
from tests.browser.showcase import PAGES, SCENE, WITH_STORE_DOWN
from tests.support.servers import StoreServer

LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 320, "height": 640}, "is_mobile": True},
}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="aa-screenshots-"))
    try:
        with StoreServer() as store, Site(scratch, store).serving() as site:
            site.run(SEED)
            site.run(SCENE)
            take_all(site, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def take_all(site: Site, folder: Path) -> None:
    with sync_playwright() as playwright:
        executable = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_SWITCHES)
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


def sign_in(page: Page) -> None:
    page.goto("/admin/")
    log_in(page)
    page.wait_for_load_state()


def take(page: Page, path: Path) -> None:
    page.wait_for_timeout(200)
    page.screenshot(path=path, full_page=True)
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main(Path(*sys.argv[1:]) if sys.argv[1:] else Path("var/screenshots"))
