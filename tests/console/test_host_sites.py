"""The console in sites that are set up otherwise than ours: the same pages, the same acts."""

import json
from importlib import reload

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.db import connections
from django.urls import clear_url_caches
from django.utils import timezone

from analytics_admin import services
from analytics_admin import urls as analytics_urls
from analytics_admin.api import urls as api_urls
from analytics_admin.caching.statistics.counters import Counts
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from project import urls as project_urls
from tests.console.search_cache_pages import PAGE, tell
from tests.support.audit import EXPORT, LIST, page_of
from tests.support.breakers import trip
from tests.support.console_pages import asked, told

BREAKERS = "/admin/analytics_admin/circuitbreaker/"
SHELL = Actor.system("root", channel="command")


def clear(operator):
    """Clear the search cache by the button; return the page to which that leads."""
    url = f"{PAGE}clear/"
    page = operator.post(url, {"mode": "hard"})
    return operator.post(url, asked(page, url), follow=True)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/St_Johns"])
def test_without_time_zones_every_page_is_shown_and_clears_are_marked(operator, settings, zone):
    settings.USE_TZ = False
    settings.TIME_ZONE = zone
    tell((1, Counts(hits=50, misses=10)))
    trip("odd.zone")
    services.set_breaker_control(name="odd.zone", control="disabled", actor=SHELL)
    services.clear_search_cache(actor=SHELL, mode="soft")
    row = Operation.objects.get(kind="clear_search_cache")
    page = operator.get(PAGE)
    for url in (LIST, page_of(row), BREAKERS, f"{BREAKERS}odd.zone/"):
        assert operator.get(url).status_code == 200, url
    assert operator.post(f"{PAGE}undo/").status_code == 200
    assert len(page.context["charts"]["marks"]) == 1
    (mark,) = page.context["charts"]["marks"]
    assert float(mark) > 700  # of 720: just now
    assert timezone.is_aware(page.context["status"].last_clear.at)
    assert told(clear(operator)) == [("success", "Search cache cleared")]


class Replica:
    """Reads the audit trail from a copy that is always a little behind."""

    def db_for_read(self, model, **hints):
        return "replica" if model is Operation and not hints.get("instance") else None

    def db_for_write(self, model, **hints):
        return "default" if model is Operation else None


class Elsewhere:
    """Keeps everything in another database than the default one."""

    def db_for_read(self, model, **hints):
        return "main"

    db_for_write = db_for_read


class Parted:
    """Keeps the audit trail, and it alone, in another database."""

    def db_for_read(self, model, **hints):
        return "audit" if model is Operation else None

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return db != "audit" or model_name == "operation"


@pytest.fixture
def second_database(transactional_db, tmp_path):
    """Have one more database, migrated and empty, by the name that the test wants."""
    made = []

    def make(alias, **options):
        sqlite = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}  # whatever the site's is
        file = {
            **connections.databases["default"],
            **sqlite,
            "NAME": str(tmp_path / "db.sqlite3"),
        }
        connections.databases[alias] = {**file, "TEST": {"NAME": None}, **options}
        made.append(alias)
        connections[alias].connect()  # tests may open none but their own
        call_command("migrate", database=alias, verbosity=0)
        load_addresses()

    yield make
    for alias in made:
        connections[alias].close()
        del connections[alias]
        del connections.databases[alias]
    load_addresses()


def load_addresses():
    """Make the site's views anew, as at its start."""
    for module in (api_urls, analytics_urls, project_urls):
        reload(module)
    clear_url_caches()


def test_an_operation_is_among_the_recent_ones_though_a_replica_is_behind(
    second_database, operator, settings
):
    second_database("replica")
    settings.DATABASE_ROUTERS = [Replica()]
    assert told(clear(operator)) == [("success", "Search cache cleared")]
    row = Operation.objects.using("default").get()
    assert LogEntry.objects.get().object_id == str(row.pk)


def test_acts_work_where_another_database_than_the_default_wants_requests_to_be_atomic(
    second_database, client, django_user_model, settings, mint
):
    second_database("main", ATOMIC_REQUESTS=True)
    settings.DATABASE_ROUTERS = [Elsewhere()]
    client.force_login(django_user_model.objects.create_superuser("ada"))
    assert told(clear(client)) == [("success", "Search cache cleared")]
    headers = {"Authorization": f"Bearer {mint('ada')}"}
    url, kind = "/api/v1/analytics/cache/clear", "application/json"
    answer = client.post(url, content_type=kind, headers=headers)
    assert answer.json() == {"message": "Search cache cleared"}
    assert [row.status for row in Operation.objects.using("main")] == ["done", "done"]


def test_the_audit_trail_may_be_in_another_database_than_the_users(
    second_database, client, django_user_model, settings, mint
):
    settings.DATABASE_ROUTERS = [Parted()]
    second_database("audit")
    assert "auth_user" not in connections["audit"].introspection.table_names()
    user = django_user_model.objects.create_superuser("ada")
    client.force_login(user)
    assert told(clear(client)) == [("success", "Search cache cleared")]
    headers = {"Authorization": f"Bearer {mint('ada')}"}
    client.post("/api/v1/analytics/cache/clear", content_type="application/json", headers=headers)
    rows = Operation.objects.using("audit")
    assert [(row.actor, row.user_id, row.status) for row in rows] == [("ada", user.pk, "done")] * 2
    assert not Operation.objects.using("default").exists()
    assert LogEntry.objects.get().object_id == str(rows.get(channel="admin").pk)
    for query in ({"actor": "ada"}, {"q": "ada"}):
        assert len(client.get(LIST, query).context["cl"].result_list) == 2
    listed = client.get("/api/v1/analytics/operations?actor=ada", headers=headers)
    assert listed.json()["count"] == 2
    assert json.loads(client.get(EXPORT).getvalue())["count"] == 2
    page = page_of(rows.get(channel="admin"))
    assert "ada" in client.get(page).text
    user.delete()
    assert {(row.actor, row.user_id) for row in rows.all()} == {("ada", None)}
    client.force_login(django_user_model.objects.create_superuser("grace"))
    assert "(account deleted)" in client.get(page).text
