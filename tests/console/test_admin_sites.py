"""The console in admin sites of the host's own: mounted elsewhere, alone, as the default one."""

import re
from html import unescape
from urllib.parse import urljoin

import pytest
from django.contrib import admin
from django.contrib.admin.exceptions import AlreadyRegistered
from django.core.cache import caches
from django.urls import path

from analytics_admin.console import register
from analytics_admin.console.audit.admin import OperationAdmin
from analytics_admin.console.search_cache.admin import SearchCacheAdmin
from analytics_admin.models import Operation, SearchCache
from analytics_admin.services import describe_breaker
from tests.support.audit import record
from tests.support.breakers import trip
from tests.support.console_pages import told
from tests.support.separate_site import run_site

ops_site = admin.AdminSite(name="ops")
register(ops_site)

cache_site = admin.AdminSite(name="cache_only")
cache_site.register(SearchCache, SearchCacheAdmin)

trail_site = admin.AdminSite(name="trail_only")
trail_site.register(Operation, OperationAdmin)


class Beside:
    """The host's own site beside the default one, and beside one with a single page of ours."""

    urlpatterns = (
        path("admin/", admin.site.urls),
        path("internal/ops/", ops_site.urls),
        path("internal/cache/", cache_site.urls),
        path("internal/trail/", trail_site.urls),
    )


class Alone:
    """The host's own sites and no other: nothing is named "admin"."""

    urlpatterns = (
        path("internal/ops/", ops_site.urls),
        path("internal/trail/", trail_site.urls),
    )


OPS = "/internal/ops/"
SECTION = f"{OPS}analytics_admin/"
CONFIRMED = {"confirmed": "yes"}


@pytest.fixture(params=[Beside, Alone])
def urls(request, settings):
    settings.ROOT_URLCONF = request.param
    return request.param


@pytest.fixture
def operator(client, superuser, urls):
    client.force_login(superuser)
    caches["search"].set("query", "answer")
    trip("guarded")
    return client


def links(page, url):
    """Return where a page's links, forms and scripts lead to, within this server."""
    if page.streaming:  # the export
        return set()
    found = re.findall(r'(?:href|action|src)="([^"]*)"', page.text)
    return {urljoin(url, unescape(link)).split("#")[0] for link in found}


@pytest.mark.lengthy
def test_every_link_of_ours_stays_within_its_site_and_leads_somewhere(operator):
    operator.post(f"{SECTION}searchcache/clear/", CONFIRMED)
    waiting, seen = [SECTION], {SECTION}
    while waiting:
        url = waiting.pop()
        page = operator.get(url, follow=True)  # an operation's address leads back to its page
        assert page.status_code == 200, url
        assert page.request["PATH_INFO"].startswith(SECTION), url
        found = links(page, url)
        elsewhere = {link for link in found if not link.startswith((OPS, "/static/"))}
        assert elsewhere <= {"/"}, url  # "View site"
        new = {link.split("?")[0] for link in found if link.startswith(SECTION)} - seen
        waiting += new
        seen |= new
    assert {f"{SECTION}{page}/" for page in ("searchcache", "circuitbreaker", "operation")} < seen
    assert f"{SECTION}circuitbreaker/guarded/" in seen
    assert any(str(Operation.objects.get().pk) in link for link in seen)


@pytest.mark.parametrize(
    ("page", "act"),
    [
        ("searchcache/", "searchcache/clear/"),
        ("circuitbreaker/", "circuitbreaker/reset/"),
        ("circuitbreaker/guarded/", "circuitbreaker/guarded/reset/"),
        ("circuitbreaker/guarded/", "circuitbreaker/guarded/control/"),
        ("circuitbreaker/", "circuitbreaker/guarded/forget/"),
    ],
)
def test_an_operation_stays_within_its_site(operator, page, act):
    generation = describe_breaker("guarded").status.generation
    sent = {"control": "disabled", "for_seconds": "900", "expected_generation": generation}
    confirm = operator.post(SECTION + act, sent)
    assert f'action="{SECTION}{act}"' in confirm.text
    assert {link for link in links(confirm, SECTION) if link.startswith("/admin/")} == set()
    answer = operator.post(SECTION + act, {**sent, "confirmed": "yes"})
    assert (answer.status_code, answer.url) == (302, SECTION + page)
    assert told(operator.get(answer.url))[0][0] == "success"
    assert Operation.objects.get().status == "done"
    assert operator.get(OPS).status_code == 200  # with the operation among the recent actions


def test_an_open_page_is_kept_up_to_date_within_its_site(operator):
    for page in ["searchcache/", "circuitbreaker/", "circuitbreaker/guarded/"]:
        fresh = operator.get(SECTION + page, headers={"X-Console-Refresh": "1"})
        assert fresh.status_code == 200
        assert '"/admin/' not in fresh.text


@pytest.mark.usefixtures("db", "urls")
def test_anonymous_visitors_are_sent_to_that_sites_login(client):
    for url in ["searchcache/", "searchcache/clear/", "operation/", "circuitbreaker/guarded/"]:
        answer = client.get(SECTION + url)
        assert answer.url.startswith(f"{OPS}login/?next=")


def test_its_tableless_models_have_no_other_pages_either(operator):
    assert operator.get(SECTION + "searchcache/add/").status_code == 404
    assert operator.get(SECTION + "searchcache/1/change/").status_code == 404


def test_a_page_works_in_a_site_that_lacks_the_others(operator, settings):
    settings.ROOT_URLCONF = Beside
    page = "/internal/cache/analytics_admin/searchcache/"
    operator.post(page + "clear/", {"confirmed": "yes", "reason": "stale"})
    text = operator.get(page).text
    assert "stale" in text
    assert "operation/" not in text


@pytest.mark.parametrize("site", [OPS, "/internal/trail/"])
def test_an_operation_and_the_export_stay_within_their_site(operator, site):
    kept = {"names": ["catalog"]}
    moved = {"results": [{"name": "catalog", "from": "open", "to": "closed"}]}
    row = record(kind="reset_circuit_breakers", status="unknown", targets=kept, outcome=moved)
    trail = f"{site}analytics_admin/operation/"
    listed = operator.get(trail).text
    assert f'href="{trail}export/"' in listed
    assert f'href="{trail}{row.pk}/"' in listed
    text = operator.get(f"{trail}{row.pk}/").text
    assert f'href="{trail}?actor=ada"' in text
    assert ("circuitbreaker/catalog/" in text) is (site == OPS)
    assert '"/admin/' not in text + listed
    assert operator.get(f"{trail}export/?status=nonsense").url == trail
    assert operator.get(f"{trail}{row.pk}/change/").url == f"{trail}{row.pk}/"


def test_a_site_takes_the_pages_once():
    with pytest.raises(AlreadyRegistered):
        register(ops_site)


REPLACED = {
    "own_site.py": """
from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from analytics_admin.console import register  # before any app is loaded

class OwnSite(AdminSite):
    site_header = "The shop's own"

class OwnAdmin(AdminConfig):
    default_site = "own_site.OwnSite"
""",
    "whole_settings.py": """
from site_settings import *
INSTALLED_APPS = [
    "own_site.OwnAdmin", "django.contrib.sessions", "django.contrib.messages",
    "django.contrib.staticfiles", *INSTALLED_APPS
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "DIRS": ["."],
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
ROOT_URLCONF = "whole_urls"
STATIC_URL = "static/"
ALLOWED_HOSTS = ["testserver"]
""",
    "whole_urls.py": """
from django.contrib import admin
from django.urls import path
urlpatterns = [path("desk/", admin.site.urls)]
""",
    "look.py": """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "whole_settings"
import django
django.setup()
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
call_command("check", tags=["admin", "models", "templates", "urls"])
call_command("migrate", verbosity=0)
client = Client(raise_request_exception=True)
client.force_login(get_user_model().objects.create_superuser("admin"))
for page in ("", "searchcache/", "circuitbreaker/", "circuitbreaker/reset/", "operation/"):
    answer = client.get("/desk/analytics_admin/" + page, follow=True)
    assert answer.status_code == 200, page
    assert "The shop" in answer.text, page
print("looked at")
""",
}


def test_a_site_that_replaces_the_default_one_has_the_pages_already(tmp_path):
    assert "looked at" in run_site(tmp_path, REPLACED, "look")


def test_templates_of_the_host_fill_the_blocks_of_ours(operator, settings, tmp_path):
    ours = "admin/analytics_admin"
    for name, block in [("base.html", "content"), ("search_cache.html", "facts")]:
        file = tmp_path / ours / name
        file.parent.mkdir(parents=True, exist_ok=True)
        extends = f'{{% extends "{ours}/{name}" %}}{{% block {block} %}}'
        file.write_text(f"{extends}<p>Of the host: {name}</p>{{{{ block.super }}}}{{% endblock %}}")
    (engine,) = settings.TEMPLATES
    settings.TEMPLATES = [{**engine, "DIRS": [tmp_path]}]
    for headers in [{}, {"X-Console-Refresh": "1"}]:
        page = operator.get(f"{SECTION}searchcache/", headers=headers).text
        content = page[page.index('id="content-main"') :]
        assert "Of the host: base.html" in page
        assert "Of the host: search_cache.html" in content
        assert 'id="aa-keys"' in content
    for page in [
        operator.get(f"{SECTION}circuitbreaker/"),
        operator.post(f"{SECTION}searchcache/clear/"),
    ]:
        assert "Of the host: base.html" in page.text
        assert "Of the host: search_cache.html" not in page.text
