"""What a site needs before it starts outside of DEBUG, and what it makes for itself inside."""

import stat
import subprocess

import pytest

from tests.support.sites import Site

SECRET = {"SECRET_KEY": "a-secret-of-a-test-that-is-long-enough-for-every-check-1234"}


class TestOutsideOfDebug:
    def test_the_check_refuses_a_site_without_a_store(self, site: Site) -> None:
        done = site.manage("check", **SECRET)
        assert done.returncode == 1
        assert "project.E001" in done.stderr
        assert not site.store.exists()

    @pytest.mark.parametrize("door", ["wsgi", "asgi"])
    def test_the_servers_entry_points_refuse_likewise(self, site: Site, door: str) -> None:
        done = site.run("-c", f"import project.{door}", **SECRET)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == (
            "django.core.exceptions.ImproperlyConfigured: REDIS_URL is not set; "
            "the embedded store is for development, with DEBUG on"
        )
        assert not site.store.exists()

    @pytest.mark.parametrize(("door", "debug"), [("wsgi", "off"), ("asgi", "on")])
    def test_they_refuse_a_key_with_which_tokens_could_be_forged(
        self, site: Site, door: str, debug: str
    ) -> None:
        given = {**SECRET, "JWT_SIGNING_KEY": "k" * 31, "DEBUG": debug, "REDIS_URL": "redis://a"}
        done = site.run("-c", f"import project.{door}", **given)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == (
            "django.core.exceptions.ImproperlyConfigured: "
            "The JWT signing key is 31 bytes long; this algorithm needs at least 32."
        )
        done = site.run("-c", f"import project.{door}", **given | {"JWT_SIGNING_KEY": "k" * 32})
        assert done.returncode == 0, done.stderr

    def test_a_site_without_a_secret_key_refuses_to_start(self, site: Site) -> None:
        done = site.manage("check", DEBUG="off")
        assert done.returncode == 1
        assert done.stderr == (
            "Error: SECRET_KEY is not set; outside of DEBUG there is no default\n"
        )
        assert not (site.folder / "var").exists()


def test_six_processes_that_start_at_once_agree_on_the_generated_secret(site: Site) -> None:
    program = "from django.conf import settings; print(settings.SECRET_KEY)"
    environment = {"DJANGO_SETTINGS_MODULE": "project.settings", "DEBUG": "on"}
    processes = [site.start("-c", program, **environment) for _ in range(6)]
    secrets = {process.communicate(timeout=20)[0].strip() for process in processes}
    assert len(secrets) == 1
    assert len(secrets.pop()) >= 50
    kept = site.folder / "var" / "secret_key"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [path.name for path in (site.folder / "var").glob(".secret*")] == []


KEEPS_ITS_SECRET = {"DATABASE_URL": "sqlite://:memory:"}
KEEPS_ITS_DATABASE = {"SECRET_KEY": "given"}
KEEPS_ITS_STORE = KEEPS_ITS_SECRET | KEEPS_ITS_DATABASE


@pytest.mark.parametrize("kept", [KEEPS_ITS_SECRET, KEEPS_ITS_DATABASE, KEEPS_ITS_STORE])
def test_the_folder_in_which_the_site_keeps_its_own_is_for_its_user_alone(
    site: Site, kept: dict[str, str]
) -> None:
    done = _use_cache(site, **kept)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((site.folder / "var").stat().st_mode) == 0o700
    assert stat.S_IMODE(site.store.stat().st_mode) == 0o700


def test_a_folder_that_is_there_keeps_its_mode(site: Site) -> None:
    folder = site.folder / "var"
    folder.mkdir()
    folder.chmod(0o750)
    assert _use_cache(site).returncode == 0
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


USES_CACHE = "from django.core.cache import cache; cache.set('key', 'value')"
BUILDS_ITS_INDEX = """
import django
django.setup()
from django.conf import settings
from project.demo.index import Index

assert Index(settings.DEMO_FOLDER).search(["chair"]).count
"""


def test_what_the_site_keeps_is_private_whoever_made_the_folder(site: Site) -> None:
    folder = site.folder / "var"
    for path in (folder, folder / "demo", folder / "store"):
        path.mkdir()
        path.chmod(0o755)
    settings = {"DJANGO_SETTINGS_MODULE": "project.settings", "DEBUG": "on"}
    other = folder / "store" / "other.sqlite3"
    named = {**settings, "DATABASE_URL": f"sqlite:///{other}"}
    assert site.run("manage.py", "migrate", "-v0", **named).returncode == 0
    user = site.start("-c", f"{USES_CACHE}; input()", **settings)  # keeps the store up meanwhile
    for arguments in (
        ("manage.py", "migrate", "-v0"),
        ("manage.py", "demo_fault", "on"),
        ("-c", BUILDS_ITS_INDEX),
    ):
        done = site.run(*arguments, **settings)
        assert done.returncode == 0, done.stderr
    there = {
        path.relative_to(folder).as_posix(): path.stat().st_mode & 0o077
        for path in folder.rglob("*")
        if not path.is_dir()
    }
    assert user.poll() is None
    assert {"db.sqlite3", "secret_key", "demo/fault", "store/store.sock"} <= there.keys()
    assert other.stat().st_size
    assert {name: mode for name, mode in there.items() if mode} == {}


def _use_cache(site: Site, **environment: str) -> "subprocess.CompletedProcess[str]":
    settings = {"DJANGO_SETTINGS_MODULE": "project.settings", "DEBUG": "on"}
    return site.run("-c", USES_CACHE, **settings, **environment)
