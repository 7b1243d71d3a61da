"""README is short and true: its install works on a new project, its examples run."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from analytics_admin.breakers import circuit_breaker
from tests.docs.pages import ROOT, code_blocks, sections
from tests.support.servers import StoreServer

pytestmark = pytest.mark.lengthy
README = (ROOT / "README.md").read_text()


def part(heading: str) -> str:
    """Return what stands below a heading, code included."""
    return README.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_it_is_read_in_one_go() -> None:
    assert len(README.splitlines()) <= 150


def test_the_two_commands_are_there_once_and_alone_on_their_lines() -> None:
    install = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"
    for does in (".venv/bin/python manage.py quickstart", ".venv/bin/pytest"):
        assert README.splitlines().count(f"{install} && {does}") == 1


def test_it_has_an_example_of_each_interface() -> None:
    told = part("Three interfaces")
    assert "curl -X POST" in told
    assert "Clear search cache" in told
    assert "python manage.py" in told


def test_it_names_the_versions_that_the_package_asks_for() -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = " ".join(sections(README)["Versions and license"].split())
    assert f"Python {package['requires-python'].removeprefix('>=')} to" in told
    (django,) = [line for line in package["dependencies"] if line.startswith("Django>")]
    first, below = re.findall(r"\d+\.\d+", django)
    assert f"Django {first}" in told
    assert f"Django {below}" not in told


@pytest.mark.django_db
def test_its_operations_run(capsys: pytest.CaptureFixture[str]) -> None:
    circuit_breaker("catalog", failure_threshold=5, wait_duration_in_open_state=30)
    lines = re.findall(
        r"^\.venv/bin/python manage\.py (.+)$", part("Three interfaces"), re.MULTILINE
    )
    assert len(lines) == 2
    for line in lines:
        call_command(*shlex.split(line))
    assert capsys.readouterr().err == ""


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
    settings, urls = code_blocks(part("Install in your project"), "python")
    with StoreServer() as store:
        assert "redis://127.0.0.1:6379/" in settings
        settings = settings.replace("redis://127.0.0.1:6379/", f"{store.url}?db=")
        views = "".join(
            code_blocks(part("Protect a call"), "python")
            + code_blocks(part("Cache a search"), "python")
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
