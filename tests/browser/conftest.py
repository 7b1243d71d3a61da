"""A real site in a process of its own, and the system's Chromium in front of it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.support.servers import StoreServer, free_port, listening
from tests.support.site_process import SiteProcess

CHROMIUM_SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "pw-of-an-operator"

HOSTILE_USER = "<b id=hostile>eve</b>"

# Everything anew: the users, a few cached searches, one breaker open and one closed. Says the
# users' sessions.
SEED = f"""
import json
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.core.cache import caches
from django.test import Client
from analytics_admin.breakers import circuit_breaker
from analytics_admin.models import Operation

Session.objects.all().delete()
Operation.objects.all().delete()
get_user_model().objects.all().delete()
sessions = {{}}
for username in ("ada", {HOSTILE_USER!r}):
    client = Client()
    client.force_login(get_user_model().objects.create_superuser(username, password={PASSWORD!r}))
    sessions[username] = client.session.session_key
caches["default"].client.get_client(write=True).flushall()
caches["search"].set_many({{f"query-{{n}}": n for n in range(5)}}, timeout=None)
circuit_breaker("catalog.search", wait_duration_in_open_state=600, failure_threshold=1)
for name, down in [("catalog.search", True), ("payment:provider", False)]:
    try:
        with circuit_breaker(name, wait_duration_in_open_state=600, failure_threshold=1):
            if down:
                raise ConnectionError
    except ConnectionError:
        pass
print(json.dumps(sessions))
"""


class Site:
    """The site under test; ``run`` executes Python in a further process of it."""

    def __init__(self, folder: Path, store: StoreServer) -> None:
        self.store = store
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self.sessions: dict[str, str] = {}  # of the users, by name
        self.server: subprocess.Popen[bytes]
        self.further: SiteProcess
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.browser.site_settings",
            "DEBUG": "on",
            "DEMO_SEARCH": "off",  # its breakers would be listed
            "SECRET_KEY": "browser-tests-" + "0123456789" * 5,
            "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
            "REDIS_URL": store.url,
            "ALLOWED_HOSTS": "127.0.0.1",
            "ENVIRONMENT_NAME": "Rehearsal",
            "ENVIRONMENT_COLOR": "orange",
        }

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        ended = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    def run(self, code: str) -> str:
        return self.further.run(code)

    @contextmanager
    def serving(self) -> Iterator["Site"]:
        self.manage("migrate", "--verbosity", "0")
        command = ("manage.py", "runserver", "--noreload", str(self.port))
        with listening(
            *command, port=self.port, cwd=ROOT, environment=self.environment, log=self.log
        ) as self.server:
            self.further = SiteProcess(self.environment)
            try:
                with urllib.request.urlopen(f"{self.url}/admin/login/", timeout=60) as page:
                    assert page.status == 200, self.log.read_text()
                yield self
            finally:
                self.further.close()


@pytest.fixture(scope="session")
def running_site() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="aa-browser-"))
    try:
        with StoreServer() as store, Site(folder, store).serving() as site:
            yield site
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(running_site: Site) -> Site:
    """The site, with everything in it as SEED says."""
    running_site.sessions = json.loads(running_site.run(SEED))
    return running_site


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    # The shell is Chromium without the windows that nobody sees here, and which cost most time.
    names = ("chromium-headless-shell", "chromium", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    assert executable, "these tests need Chromium: apt-get install chromium-headless-shell"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=executable, args=CHROMIUM_SWITCHES, headless=True
        )
        yield chromium
        chromium.close()


@pytest.fixture
def expected_complaints() -> list[str]:
    """What the browser's console says in this test because it has to; none, unless it adds some."""
    return []


@pytest.fixture
def open_page(
    browser: Browser, site: Site, expected_complaints: list[str]
) -> Iterator[Callable[..., Page]]:
    """Open a page of the site in a window of its own; whatever its console complains of fails."""
    complaints: list[str] = []
    contexts = []

    def note(message: ConsoleMessage) -> None:
        address = str(message.location.get("url"))
        if address == f"{site.url}/favicon.ico":  # the browser's own wish; the site has none
            return
        if any(words in message.text for words in expected_complaints):
            return
        if message.type in {"error", "warning"}:
            complaints.append(f"{message.type}: {message.text} ({address})")

    def open_page(path: str = "/admin/", *, session: str = "", **options: Any) -> Page:
        context = browser.new_context(base_url=site.url, **options)
        contexts.append(context)
        if session:
            context.add_cookies([{"name": "sessionid", "value": session, "url": site.url}])
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def sign_in(open_page: Callable[..., Page], site: Site) -> Callable[..., Page]:
    """Open a page as a user who has signed in; ``log_in`` does that by hand."""

    def sign_in(username: str = "ada", *, at: str = "/admin/", **options: Any) -> Page:
        return open_page(at, session=site.sessions[username], **options)

    return sign_in


def log_in(page: Page, username: str = "ada") -> None:
    """Fill in the admin's login page, and leave it."""
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
