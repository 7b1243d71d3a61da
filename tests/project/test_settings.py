"""The site's settings: read from the environment, rejected clearly, and never shown."""

import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path

from project import environment
from project.redaction import RedactingFormatter
from tests.support.servers import StoreServer
from tests.support.stopwatch import Stopwatch

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "pw-0f'a<store>&more"
QUOTED = "pw-0f%27a%3Cstore%3E%26more"
REDIS_URL = f"redis://operator:{QUOTED}@127.0.0.1:1/3"
DATABASE_PASSWORD = "pw-of-a-database"
DATABASE_URL = f"postgres://site:{DATABASE_PASSWORD}@127.0.0.1:1/site"
PRODUCTION = {
    "SECRET_KEY": "kTz2vZ8wq1Xr5Lm9Np3Bs7Dg4Hj6Fc0Ya-Ue_Io.Pw,Sx;Vn:Rt",
    "JWT_SIGNING_KEY": "mQ4nB8vC2xZ6lK0jH3gF7dS1aP5oI9uY",
    "REDIS_URL": REDIS_URL,
    "DATABASE_URL": DATABASE_URL,
    "ALLOWED_HOSTS": "site.example.org",
    "CSRF_TRUSTED_ORIGINS": "https://site.example.org",
    "NUM_PROXIES": "1",
    "HSTS_SECONDS": "31536000",
    "HSTS_INCLUDE_SUBDOMAINS": "on",
    "SSL_REDIRECT": "on",
    "PROXY_SSL_HEADER": "X-Forwarded-Proto",
}


def _python(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **variables},
        check=False,
        capture_output=True,
        text=True,
        timeout=90,
    )


def _settings(*names: str, **variables: str) -> dict[str, Any]:
    program = (
        "import json, project.settings as site\n"
        f"print(json.dumps({{name: getattr(site, name, None) for name in {names}}}, default=str))"
    )
    answer: dict[str, Any] = json.loads(_python("-c", program, **variables).stdout)
    return answer


class TestStoreAddress:
    @pytest.mark.parametrize(
        ("url", "first", "third"),
        [
            ("redis://store", "redis://store:6379?db=0", "redis://store:6379?db=2"),
            ("redis://store:1/4", "redis://store:1?db=4", "redis://store:1?db=6"),
            ("redis://store?db=4", "redis://store:6379?db=4", "redis://store:6379?db=6"),
            ("rediss://[::1]:1/", "rediss://[::1]:1?db=0", "rediss://[::1]:1?db=2"),
            ("unix:///run/a%20b?db=1", "unix:///run/a%20b?db=1", "unix:///run/a%20b?db=3"),
        ],
    )
    def test_the_three_aliases_get_databases_n_to_n_plus_2(
        self, url: str, first: str, third: str
    ) -> None:
        address = environment.store_address(url)
        assert (address.location(0), address.location(2)) == (first, third)

    @pytest.mark.parametrize(
        ("url", "location", "sentinels"),
        [
            ("redis+sentinel://a/Db", "redis://a:26379?db=2&service=Db", []),
            ("redis+sentinel://a:1,[::1]/x%20y/3", "redis://a:1?db=5&service=x+y", ["[::1]:26379"]),
            ("rediss+sentinel://a,b:2/db", "rediss://a:26379?db=2&service=db", ["b:2"]),
        ],
    )
    def test_sentinels_lead_to_the_primary_of_a_service(
        self, url: str, location: str, sentinels: list[str]
    ) -> None:
        address = environment.store_address(url)
        assert address.location(2) == location
        assert address.pool() == {
            "CONNECTION_POOL_CLASS": "analytics_admin.stores.sentinel.ServicePool",
            "CONNECTION_POOL_KWARGS": {"sentinels": sentinels},
        }

    @pytest.mark.parametrize(
        ("url", "location", "nodes"),
        [
            ("redis+cluster://a", "redis://a:6379?tag=site", []),
            ("rediss+cluster://a:1,b,c:2/0", "rediss://a:1?tag=site", ["b:6379", "c:2"]),
        ],
    )
    def test_a_cluster_has_a_hash_tag_for_each_alias(
        self, url: str, location: str, nodes: list[str]
    ) -> None:
        address = environment.store_address(url)
        assert address.location(2, tag="site") == location
        assert address.pool() == {
            "CONNECTION_POOL_CLASS": "analytics_admin.stores.cluster.SlotPool",
            "CONNECTION_POOL_KWARGS": {"nodes": nodes},
        }

    def test_sentinels_may_have_credentials_of_their_own(self) -> None:
        own = f"sentinel_username=guard&sentinel_password={QUOTED}"
        address = environment.store_address(f"redis+sentinel://me:pw@a,b/db?{own}")
        assert (address.username, address.password) == ("me", "pw")
        assert PASSWORD not in address.location(0)
        assert address.pool()["CONNECTION_POOL_KWARGS"] == {
            "sentinels": ["b:26379"],
            "sentinel_username": "guard",
            "sentinel_password": PASSWORD,
        }

    @pytest.mark.parametrize(
        "url",
        [
            f"redis://me:{QUOTED}@store",
            f"redis+sentinel://me:{QUOTED}@store,other/service",
            f"redis+cluster://me:{QUOTED}@store,other",
            f"unix://me:{QUOTED}@/run/store",
            f"unix:///run/store?username=me&password={QUOTED}",
        ],
    )
    def test_credentials_leave_the_address(self, url: str) -> None:
        address = environment.store_address(url)
        assert (address.username, address.password) == ("me", PASSWORD)
        assert "pw-" not in address.location(0)
        assert "me" not in address.location(0)

    @pytest.mark.parametrize(
        "url",
        [
            "sentinel://:pw-x@store",
            "http://:pw-x@store",
            "pw-x",
            "redis://:pw-x/y@store",
            "redis://:pw-x#y@store/0",
            "redis://u:12#pw-x@store/0",
            "redis://u:12/pw-x@store/0",
            "redis://u:12?pw-x@store/0",
            "redis://:pw-x@",
            "redis://:pw-x@store:port",
            "redis://:pw-x@store:99999",
            "redis://:pw-x@store/first",
            "redis://:pw-x@store/0?db=-1",
            "redis://:pw-x@[store",
            "redis://:pw-x@store/0?nonsense=1",
            "redis://store/0?sockettimeout=1&password=pw-x",
            "redis://:pw-x@store/0?socket_timeout=soon",
            "redis://:pw-x@store/0?ssl_ca_certs=/a",
            "rediss://:pw-x@store/0?ssl_cert_reqs=pw-x",
            "unix://:pw-x@/run/store?host=b",
            "unix://pw-x/run/store",
            "unix://:pw-x@",
            "unix+cluster://:pw-x@/run/store",
            "redis+guess://:pw-x@a",
            "redis+sentinel://:pw-x@a,b",
            "redis+sentinel://:pw-x@a,b/service/first",
            "redis+sentinel://:pw-x@a,,b/service",
            "redis+sentinel://:pw-x@a:port,b/service",
            "redis+sentinel://:pw-x/y@a,b/service",
            "redis+cluster://:pw-x@a,b/1",
            "redis+cluster://:pw-x@a,b?db=1",
            "redis+cluster://:pw-x@a,b?sentinel_password=pw-x",
        ],
    )
    def test_what_is_no_such_url_is_refused_without_showing_it(self, url: str) -> None:
        with pytest.raises(ImproperlyConfigured, match=r"^REDIS_URL ") as refusal:
            environment.store_address(url)
        assert "pw-x" not in str(refusal.value)
        assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


class TestDatabase:
    def test_sqlite_is_the_default_and_lets_readers_work_beside_a_writer(
        self, tmp_path: Path
    ) -> None:
        config = environment.database("", default=tmp_path / "var" / "db.sqlite3")
        assert config["NAME"] == str(tmp_path / "var" / "db.sqlite3")
        assert config["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
        assert config["OPTIONS"]["timeout"] == 5
        assert "journal_mode=WAL" in config["OPTIONS"]["init_command"]
        assert "synchronous=NORMAL" in config["OPTIONS"]["init_command"]

    def test_sqlite_files_of_the_sites_folder_are_private_however_they_are_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "var"
        folder.mkdir()
        monkeypatch.chdir(tmp_path)
        for name in (f"{folder}/a.sqlite3", "var/b.sqlite3", "c/../var/c.sqlite3", "d", ":memory:"):
            environment.database(f"sqlite:///{name}", default=folder / "db.sqlite3")
        made = {
            path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()
        }
        assert made == dict.fromkeys(("a.sqlite3", "b.sqlite3", "c.sqlite3"), 0o600)

    def test_sqlite_options_may_be_given_in_the_url(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/db.sqlite3?timeout=0.5"
        assert environment.database(url, default=Path("unused"))["OPTIONS"]["timeout"] == 0.5
        with pytest.raises(ImproperlyConfigured, match="malformed"):
            environment.database(url + "x", default=Path("unused"))

    def test_postgresql_is_understood(self) -> None:
        config = environment.database(DATABASE_URL, default=Path("unused"))
        assert config["ENGINE"] == "django.db.backends.postgresql"
        assert config["PASSWORD"] == DATABASE_PASSWORD

    @pytest.mark.parametrize(
        "url",
        ["mysql://u:pw-x@host/db", "postgres://u:pw-x/y@host/db", "postgres://u:pw-x@[host", "pw"],
    )
    def test_what_is_no_such_url_is_refused_without_showing_it(self, url: str) -> None:
        with (
            warnings.catch_warnings(action="error"),
            pytest.raises(ImproperlyConfigured, match=r"^DATABASE_URL ") as refusal,
        ):
            environment.database(url, default=Path("unused"))
        assert "pw-x" not in str(refusal.value)


class TestEnvironment:
    def test_with_everything_set_check_deploy_has_nothing_to_say(self) -> None:
        done = _python("-Wdefault", "manage.py", "check", "--deploy", **PRODUCTION)
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stdout + done.stderr
        assert "(1 silenced)" in done.stdout + done.stderr  # security.W021, preloading

    def test_preloading_is_asked_for_by_name_and_then_checked(self) -> None:
        done = _python("manage.py", "check", "--deploy", **PRODUCTION, HSTS_PRELOAD="on")
        assert "(0 silenced)" in done.stdout + done.stderr

    def test_production_is_read_as_it_is_said(self) -> None:
        names = ("DEBUG", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "REST_FRAMEWORK")
        values = _settings(
            *names, "SECURE_PROXY_SSL_HEADER", "SIMPLE_JWT", "DEMO_SEARCH", **PRODUCTION
        )
        assert values["DEBUG"] is values["DEMO_SEARCH"] is False
        assert values["SESSION_COOKIE_SECURE"] is values["CSRF_COOKIE_SECURE"] is True
        assert values["REST_FRAMEWORK"]["NUM_PROXIES"] == 1
        assert values["SECURE_PROXY_SSL_HEADER"] == ["HTTP_X_FORWARDED_PROTO", "https"]
        assert values["SIMPLE_JWT"]["SIGNING_KEY"] == PRODUCTION["JWT_SIGNING_KEY"]

    def test_the_secret_key_signs_tokens_where_no_other_key_is_set(self) -> None:
        variables = PRODUCTION | {"JWT_SIGNING_KEY": "", "SECRET_KEY": "$begins-with-a-dollar"}
        values = _settings("SECRET_KEY", "SIMPLE_JWT", **variables)
        assert values["SECRET_KEY"] == "$begins-with-a-dollar"
        assert values["SIMPLE_JWT"]["SIGNING_KEY"] == "$begins-with-a-dollar"

    def test_no_proxy_is_believed_unless_one_is_named(self) -> None:
        variables = {**PRODUCTION, "NUM_PROXIES": "0", "PROXY_SSL_HEADER": ""}
        values = _settings("REST_FRAMEWORK", "SECURE_PROXY_SSL_HEADER", **variables)
        assert values == {"REST_FRAMEWORK": {"NUM_PROXIES": 0}, "SECURE_PROXY_SSL_HEADER": None}

    def test_the_aliases_hold_no_credentials_where_pages_could_show_them(self) -> None:
        aliases = _settings("CACHES", **PRODUCTION)["CACHES"]
        locations = [aliases[name]["LOCATION"] for name in ("default", "search", "breakers")]
        assert locations == [f"redis://127.0.0.1:1?db={number}" for number in (3, 4, 5)]
        assert {alias["OPTIONS"]["PASSWORD"] for alias in aliases.values()} == {PASSWORD}
        assert {alias["OPTIONS"]["USERNAME"] for alias in aliases.values()} == {"operator"}

    @pytest.mark.parametrize("url", ["redis+sentinel://:pw@a,b/db", "redis+cluster://:pw@a,b"])
    def test_several_servers_are_right_too(self, url: str) -> None:
        done = _python("manage.py", "check", "--deploy", **PRODUCTION | {"REDIS_URL": url})
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stdout + done.stderr

    @pytest.mark.parametrize("name", ["REDIS_URL", "DATABASE_URL"])
    def test_a_malformed_url_is_one_line_that_does_not_show_it(self, name: str) -> None:
        variables = PRODUCTION | {name: "redis://:pw-x/y@host"}
        done = _python("manage.py", "check", **variables)
        assert done.returncode == 1
        assert done.stderr.startswith(f"Error: {name} ")
        assert len(done.stderr.splitlines()) == 1
        assert "pw-x" not in done.stdout + done.stderr

    def test_debug_is_off_outside_of_a_developers_program(self) -> None:
        done = _python("-c", "import project.settings")
        assert done.stderr.endswith("SECRET_KEY is not set; outside of DEBUG there is no default\n")

    def test_debug_is_off_where_a_secret_key_is_set(self) -> None:
        program = "from django.conf import settings; print(settings.DEBUG)"
        done = _python("manage.py", "shell", "-v0", "-c", program, **PRODUCTION)
        assert done.stdout.strip() == "False"


class TestWords:
    @pytest.mark.parametrize("default", [True, False])
    @pytest.mark.parametrize("word", [None, "", "  "])
    def test_what_is_empty_counts_as_unset(
        self, monkeypatch: pytest.MonkeyPatch, word: str | None, default: bool
    ) -> None:
        if word is not None:
            monkeypatch.setenv("SETTING", word)
        assert environment.flag("SETTING", default=default) is default
        assert environment.number("SETTING", default=7) == 7

    @pytest.mark.parametrize(
        ("words", "meaning"),
        [
            (("on", "True", "YES", "y", " 1 ", "ok"), True),
            (("off", "False", "NO", "n", "0"), False),
        ],
    )
    def test_a_switch_is_on_or_off(
        self, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], meaning: bool
    ) -> None:
        for word in words:
            monkeypatch.setenv("SETTING", word)
            assert environment.flag("SETTING", default=not meaning) is meaning, word

    def test_a_number_is_read_as_it_stands(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for text, figure in [("0", 0), (" 31536000 ", 31536000), ("007", 7)]:
            monkeypatch.setenv("SETTING", text)
            assert environment.number("SETTING", default=1) == figure

    @pytest.mark.parametrize("word", ["enabled", "2", "-3", "$OTHER", "pw-x"])
    def test_what_is_neither_on_nor_off_is_refused_without_showing_it(
        self, monkeypatch: pytest.MonkeyPatch, word: str
    ) -> None:
        monkeypatch.setenv("SETTING", word)
        with pytest.raises(ImproperlyConfigured, match=r"^SETTING takes on or off") as refusal:
            environment.flag("SETTING", default=False)
        assert word not in str(refusal.value)

    @pytest.mark.parametrize("text", ["-1", "one", "1.5", "1_000", "٣", "7" * 5000])
    def test_what_is_no_such_number_is_refused_without_showing_it(
        self, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        monkeypatch.setenv("SETTING", text)
        with pytest.raises(ImproperlyConfigured, match=r"^SETTING takes a whole number") as refusal:
            environment.number("SETTING", default=1)
        assert text not in str(refusal.value)

    @pytest.mark.parametrize(
        "name",
        [
            *("DEBUG", "SECURE_COOKIES", "SSL_REDIRECT", "HSTS_INCLUDE_SUBDOMAINS"),
            *("HSTS_PRELOAD", "HSTS_SECONDS", "NUM_PROXIES", "DEMO_SEARCH"),
        ],
    )
    def test_a_variable_that_cannot_be_understood_is_one_line(self, name: str) -> None:
        done = _python("manage.py", "check", **PRODUCTION | {name: "enabled"})
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"Error: {name} takes ")
        assert len(done.stderr.splitlines()) == 1


def test_a_frozen_store_holds_a_cache_call_for_half_a_second(settings: Any) -> None:
    with StoreServer() as server:
        frozen = settings.CACHES["default"] | {"LOCATION": f"{server.url}?db=0"}
        settings.CACHES = {**settings.CACHES, "frozen": frozen}
        assert caches["frozen"].get("nothing") is None
        server.freeze()
        watch = Stopwatch()
        with pytest.raises(Exception, match="Timeout"):
            caches["frozen"].get("nothing")
        assert watch.seconds < 1.2
        server.thaw()


def _fails(request: HttpRequest) -> HttpResponse:
    credentials = {"nested": [{"words": f"the password is {PASSWORD}"}]}
    long_text = "x" * 4090 + PASSWORD  # the page cuts values near here
    raise RuntimeError(f"{REDIS_URL} {PASSWORD} {len(credentials)} {len(long_text)}")


def _loses_its_store(request: HttpRequest) -> HttpResponse:
    return HttpResponse(caches["lost"].get("nothing"))


urlpatterns = [path("fails", _fails), path("loses", _loses_its_store)]


class TestDebugPage:
    @pytest.fixture(autouse=True)
    def _site_with_secrets(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDIS_URL", REDIS_URL)
        monkeypatch.setenv("DATABASE_URL", DATABASE_URL)
        options = settings.CACHES["default"]["OPTIONS"] | {"PASSWORD": PASSWORD}
        lost = settings.CACHES["default"] | {"LOCATION": "redis://127.0.0.1:1", "OPTIONS": options}
        settings.CACHES = {**settings.CACHES, "lost": lost}
        settings.ROOT_URLCONF = __name__
        settings.DEBUG = True

    @pytest.mark.parametrize("accepted", ["text/html", "text/plain"])
    @pytest.mark.parametrize("view", ["fails", "loses"])
    def test_it_shows_no_password(self, settings: Any, view: str, accepted: str) -> None:
        client = Client(raise_request_exception=False)
        # As under runserver, whose META holds the environment.
        environ = {"REDIS_URL": REDIS_URL, "DATABASE_URL": DATABASE_URL, "COPY": REDIS_URL}
        response = client.get(f"/{view}", headers={"accept": accepted}, **environ)
        page = response.content.decode()
        assert response.status_code == 500
        assert "DATABASE_URL" in page  # META is shown, its secrets are not
        assert "pw-0f" not in page
        assert DATABASE_PASSWORD not in page
        assert settings.SECRET_KEY not in page
        assert settings.SIMPLE_JWT["SIGNING_KEY"] not in page

    def test_the_log_shows_no_password_either(self) -> None:
        handler = next(
            handler
            for handler in logging.getLogger().handlers
            if isinstance(handler.formatter, RedactingFormatter)
        )
        try:
            raise RuntimeError(REDIS_URL)
        except RuntimeError as error:
            record = logging.LogRecord("any", 40, "", 1, PASSWORD, (), (type(error), error, None))
        assert handler.format(record).endswith("operator:********************@127.0.0.1:1/3")
        assert "pw-0f" not in handler.format(record)

    def test_djangos_own_page_would_show_it(self) -> None:
        with override_settings(DEFAULT_EXCEPTION_REPORTER="django.views.debug.ExceptionReporter"):
            page = Client(raise_request_exception=False).get("/fails").content.decode()
        assert "pw-0f" in page
