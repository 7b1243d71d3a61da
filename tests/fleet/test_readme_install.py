"""README's install works on a new project, as it is written there."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT, code_blocks, part
from tests.support.servers import StoreServer

README = (ROOT / "README.md").read_text()


@dataclass
class Project:
    """A project as ``startproject`` makes it, with README's lines appended."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


VISIT = """
import json, time
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.test import Client
from analytics_admin.services import Actor, set_breaker_control

visitor, operator = Client(HTTP_HOST="localhost"), Client(HTTP_HOST="localhost")
operator.force_login(User.objects.create_superuser("admin"))
page = operator.get("/admin/analytics_admin/circuitbreaker/")
told = {"console": page.status_code}
told["styles"] = [name for name in ("admin/css/base.css", "analytics_admin/console.css")
    if name in page.content.decode() and finders.find(name)]
told["closed"] = visitor.get("/look", {"q": "lamp"}).json()
set_breaker_control(name="catalog", control="forced_open", actor=Actor.system("test"))
time.sleep(0.3)  # longer than SYNC_INTERVAL
open = visitor.get("/look", {"q": "chair"})
told["open"] = [open.status_code, 3500 < int(open.headers["Retry-After"]) <= 3600]
told["api"] = visitor.post("/api/v1/analytics/cache/clear").status_code
print(json.dumps(told))
"""
VIEW = """

def look(request):
    return JsonResponse(search(request.GET["q"]))
"""
URL = """
from shop.views import look

urlpatterns += [path("look", look)]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("project")
    environment = {"PATH": "", "PYTHONPATH": str(ROOT)}
    start = [sys.executable, "-m", "django", "startproject", "shop", str(folder)]
    subprocess.run(start, env=environment, check=True, timeout=110)
    settings, urls = code_blocks(part(README, "Install in your project"), "python")
    with StoreServer() as store:
        assert "redis://127.0.0.1:6379/" in settings
        settings = settings.replace("redis://127.0.0.1:6379/", f"{store.url}?db=")
        views = "".join(
            code_blocks(part(README, "Protect a call"), "python")
            + code_blocks(part(README, "Cache a search"), "python")
        )
        for name, text in [("settings", settings), ("urls", urls + URL)]:
            with (folder / "shop" / f"{name}.py").open("a") as file:
                file.write(text)
        imports = "from django.http import JsonResponse\n"
        (folder / "shop" / "views.py").write_text(imports + views + VIEW)
        yield Project(folder, environment)


def test_the_install_gives_a_new_project_a_green_check(project: Project) -> None:
    assert "no issues (0 silenced)" in project.run("check", "--fail-level", "INFO")


def test_the_install_gives_a_new_project_console_middleware_and_api(project: Project) -> None:
    project.run("migrate", "--verbosity", "0")
    told: dict[str, Any] = json.loads(project.run("shell", "--no-imports", "--command", VISIT))
    assert told == {
        "console": 200,
        "styles": ["admin/css/base.css", "analytics_admin/console.css"],
        "closed": {"results": ["lamp"]},
        "open": [503, True],
        "api": 401,
    }
