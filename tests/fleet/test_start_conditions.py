"""What a site needs before it starts outside of DEBUG, and what it makes for itself inside."""

import stat

import pytest

from tests.fleet.sites import Site

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
