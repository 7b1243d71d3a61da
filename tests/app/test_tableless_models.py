"""The models without a table trip nothing over: neither Django's commands nor its own pages."""

import json
import uuid
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection
from django.test.utils import modify_settings
from django.urls import include, path

from analytics_admin.models import (
    CircuitBreaker,
    Operation,
    OperationCount,
    SearchCache,
    TokenRevocation,
)
from tests.support.routes import API, SECTION
from tests.support.separate_site import run_site

TABLELESS = [SearchCache, CircuitBreaker]
HOSTILE = [
    "1",
    "0",
    "-1",
    "9" * 200,
    str(uuid.UUID(int=0)),
    "a_2Fb",
    "%00",
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fetc",
    "%3Cscript%3E",
    "caf%C3%A9",
    "%FF%FE",
    "%0d%0aSet-Cookie:x=y",
    "'%20OR%201=1--",
    "n" * 10_000,
]

urlpatterns = [
    path("admin/doc/", include("django.contrib.admindocs.urls")),
    path("admin/", admin.site.urls),
]


def run(command, *arguments, **options):
    printed = StringIO()
    call_command(command, *arguments, stdout=printed, **options)
    return printed.getvalue()


@pytest.fixture
def operation(superuser):
    return Operation.objects.create(
        kind="clear_search_cache",
        channel="admin",
        actor="admin",
        user=superuser,
        reason="é\u2028<",
        started_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),  # dumps keep no microseconds
    )


@pytest.mark.parametrize(
    "arguments",
    [[], ["--all"], ["--natural-foreign", "--natural-primary"], ["analytics_admin"]],
    ids=" ".join,
)
def test_what_is_dumped_can_be_loaded_again(arguments, operation, tmp_path):
    dump = run("dumpdata", *arguments)
    models = {row["model"] for row in json.loads(dump)}
    assert "analytics_admin.operation" in models
    assert not models & {"analytics_admin.searchcache", "analytics_admin.circuitbreaker"}
    before = Operation.objects.values().get()
    Operation.objects.all().delete()
    (tmp_path / "dump.json").write_text(dump)
    if arguments != ["analytics_admin"]:
        LogEntry.objects.all().delete()
    run("loaddata", str(tmp_path / "dump.json"))
    assert Operation.objects.values().get() == before


@pytest.mark.django_db
@pytest.mark.parametrize("model", TABLELESS)
@pytest.mark.parametrize("arguments", [[], ["--all"]], ids=" ".join)
def test_a_dump_of_one_alone_is_empty(model, arguments):
    assert json.loads(run("dumpdata", model._meta.label, *arguments)) == []


@pytest.mark.django_db
@pytest.mark.parametrize("model", TABLELESS)
def test_they_hold_nothing_by_whatever_manager(model):
    for manager in (model._default_manager, model._base_manager):
        assert list(manager.all()) == []
        assert manager.using("default").filter(pk=1).exists() is False
        assert manager.count() == 0
    with pytest.raises(model.DoesNotExist):
        model._base_manager.get(pk=1)


@pytest.mark.django_db
def test_no_migration_is_missing_and_none_makes_a_table_of_theirs():
    assert run("makemigrations", "--check", "--dry-run") == "No changes detected\n"
    tables = connection.introspection.table_names()
    assert [name for name in tables if name.startswith("analytics_admin")] == [
        Operation._meta.db_table,
        OperationCount._meta.db_table,
        TokenRevocation._meta.db_table,
    ]
    assert "class AnalyticsAdminOperation(" in run("inspectdb", Operation._meta.db_table)


@pytest.mark.django_db
def test_the_database_commands_pass_them_by():
    run("createcachetable")
    run("check", databases=["default"])
    run("sqlflush")
    run("sqlsequencereset", "analytics_admin")
    assert run("remove_stale_contenttypes", "--no-input") == ""
    assert {model._meta.model_name for model in TABLELESS} < set(
        ContentType.objects.filter(app_label="analytics_admin").values_list("model", flat=True)
    )


THERE_AND_BACK = """
import json, os
os.environ["DJANGO_SETTINGS_MODULE"] = "whole_settings"
import django
django.setup()
from io import StringIO
from django.core.management import call_command
from django.db import connection
from django.contrib.auth.models import Permission
from analytics_admin.models import Operation

def run(*arguments, **options):
    printed = StringIO()
    call_command(*arguments, stdout=printed, **options)
    return printed.getvalue()

def tables():
    return {name for name in connection.introspection.table_names() if "analytics" in name}

TABLES = {f"analytics_admin_{name}" for name in ("operation", "operationcount", "tokenrevocation")}
run("migrate", "--no-input")
assert tables() == TABLES, tables()
run("migrate", "analytics_admin", "zero")
assert tables() == set(), tables()
run("migrate", "analytics_admin")
assert tables() == TABLES, tables()
Operation.objects.create(kind="clear_search_cache", channel="code", actor="me")
dump = connection.creation.serialize_db_to_string()  # as the test runner does
run("flush", "--no-input", inhibit_post_migrate=True)
assert not Operation.objects.exists()
connection.creation.deserialize_db_from_string(dump)
assert Operation.objects.get().actor == "me"
run("flush", "--no-input")
assert not Operation.objects.exists()
assert Permission.objects.filter(codename="view_console").count() == 1
assert "_circuitbreaker" not in run("sqlmigrate", "analytics_admin", "0001")
run("remove_stale_contenttypes", "--no-input", "--include-stale-apps")
run("dumpdata", "--all")
print("there and back")
"""
WHOLE_SETTINGS = """
from site_settings import *
INSTALLED_APPS = ["django.contrib.admin", "django.contrib.messages", *INSTALLED_APPS]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""


def test_a_site_migrates_there_and_back_and_flushes(tmp_path):
    site = {"there_and_back.py": THERE_AND_BACK, "whole_settings.py": WHOLE_SETTINGS}
    assert "there and back" in run_site(tmp_path, site, "there_and_back")


@pytest.mark.urls("tests.app.test_tableless_models")
def test_admindocs_describes_them(operator):
    with modify_settings(INSTALLED_APPS={"append": "django.contrib.admindocs"}):
        names = [model._meta.model_name for model in (*TABLELESS, Operation)]
        index = operator.get("/admin/doc/models/").text
        for name in names:
            address = f"/admin/doc/models/analytics_admin.{name}/"
            assert address in index
            assert operator.get(address).status_code == 200
        for address in ["", "views/", "filters/", "tags/"]:
            assert operator.get(f"/admin/doc/{address}").status_code == 200
        template = "admin/analytics_admin/search_cache.html"
        assert template in operator.get(f"/admin/doc/templates/{template}/").text
        views = operator.get("/admin/doc/views/").text
        assert "/admin/analytics_admin/searchcache/clear/" in views
        for view in {part.split('"')[0] for part in views.split('href="/admin/doc/views/')[1:]}:
            if "analytics_admin" in view:
                assert operator.get(f"/admin/doc/views/{view}").status_code == 200


@pytest.mark.parametrize("model", TABLELESS)
def test_view_on_site_leads_nowhere(operator, model):
    kind = ContentType.objects.get_for_model(model)
    for key in HOSTILE:
        assert operator.get(f"/admin/r/{kind.pk}/{key}/").status_code == 404


@pytest.mark.parametrize("model", [*TABLELESS, Operation])
@pytest.mark.parametrize("field", ["id", "user", "kind", "nothing"])
def test_autocomplete_offers_nothing_of_theirs(operator, model, field):
    asked = {"app_label": "analytics_admin", "model_name": model._meta.model_name}
    answer = operator.get("/admin/autocomplete/", {**asked, "field_name": field, "term": "a"})
    if (model, field) != (Operation, "user"):  # that is a list of users, to who may see them
        assert answer.status_code == 403


def test_the_admins_own_pages_lead_to_ours_and_to_nothing_else_of_theirs(operator, operation):
    for page in ["/admin/", SECTION]:
        text = operator.get(page).text
        for model in [*TABLELESS, Operation]:
            assert f'href="{SECTION}{model._meta.model_name}/"' in text
        assert f"{SECTION}searchcache/add" not in text
        assert "analytics_admin/operation/add" not in text
    assert "Can see the analytics console" in operator.get("/admin/auth/group/add/").text


@pytest.mark.parametrize("what", ["user", "group"])
def test_users_and_groups_are_deleted_and_their_operations_stay(
    operator, operation, staff_user, what
):
    Operation.objects.update(user=staff_user)
    group = Group.objects.create(name="operators")
    group.permissions.set(Permission.objects.filter(content_type__app_label="analytics_admin"))
    staff_user.groups.add(group)
    gone = {"user": staff_user, "group": group}[what]
    for page in [f"/admin/auth/{what}/{gone.pk}/delete/", f"/admin/auth/{what}/"]:
        asked = {"action": "delete_selected", "_selected_action": gone.pk}
        confirm = operator.post(page, asked) if page.endswith(f"{what}/") else operator.get(page)
        assert confirm.status_code == 200
        assert "Are you sure" in confirm.text
        assert str(operation.pk) not in confirm.text
    assert (
        operator.post(f"/admin/auth/{what}/{gone.pk}/delete/", {"post": "yes"}).status_code == 302
    )
    assert not type(gone).objects.filter(pk=gone.pk).exists()
    assert Operation.objects.filter(pk=operation.pk).exists()


@pytest.mark.parametrize("who", ["superuser", "staff_user"])
@pytest.mark.parametrize("page", ["add/", "{}/", "{}/change/", "{}/delete/", "{}/history/"])
def test_their_stock_pages_are_404_for_everybody_whatever_the_id(client, request, who, page):
    client.force_login(request.getfixturevalue(who))
    for model in ("searchcache", "circuitbreaker"):
        for key in HOSTILE:
            url = f"{SECTION}{model}/{page.format(key)}"
            assert client.get(url).status_code == 404, url
            # A breaker's own page takes no POST, whatever its name.
            named = model == "circuitbreaker" and page in {"add/", "{}/"}
            assert client.post(url, {"post": "yes"}).status_code in ({404, 405} if named else {404})


@pytest.mark.parametrize("key", HOSTILE)
def test_rest_has_no_such_thing_either(client, superuser, mint, key):
    headers = {"Authorization": f"Bearer {mint()}"}
    for path_ in [
        f"analytics/cache/{key}",
        f"analytics/circuit-breakers/{key}",
        f"analytics/circuit-breakers/{key}/reset",
        f"analytics/circuit-breakers/{key}/control",
        f"analytics/circuit-breakers/{key}/change",
        f"analytics/operations/{key}/change",
    ]:
        for method in ("GET", "POST", "PUT", "DELETE"):
            body = '{"control": "disabled"}' if method == "PUT" else ""
            answer = client.generic(
                method, API + path_, body, content_type="application/json", headers=headers
            )
            assert answer.status_code in {404, 405}, (method, path_, answer.status_code)
            assert set(answer.json()) == {"detail", "code"}
    assert not Operation.objects.filter(status="done").exists()
