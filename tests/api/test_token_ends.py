"""When tokens end: with the password, the name, the account, by ``revoke_tokens``, and in time."""

import time
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework_simplejwt.settings import api_settings

from analytics_admin import services
from analytics_admin.models import Operation
from analytics_admin.tokens import issue_access_token, issue_refresh_token
from tests.api.test_login_field import MODELS, SETTINGS, URLS
from tests.support.api import CLEAR, REFRESH, TOKEN, assert_error, call
from tests.support.separate_site import run_site

pytestmark = pytest.mark.django_db

DRY = {"dry_run": True}
LOGIN = {"username": "admin", "password": "pw-admin"}


def status(token: str) -> int:
    return call(Client(), CLEAR, token, DRY).status_code


def refresh(token: str) -> int:
    return call(Client(), REFRESH, None, {"refresh": token}).status_code


def rename(user):
    user.username = "ada"
    user.save()


def rename_and_let_another_take_the_name(user):
    rename(user)
    get_user_model().objects.create_superuser("admin", password="pw-admin")


def create_again(user):
    user.delete()
    get_user_model().objects.create_superuser("admin", password="pw-admin")


def change_password(user):
    user.set_password("another")
    user.save()


def deactivate(user):
    user.is_active = False
    user.save()


def revoke(user):
    call_command("revoke_tokens", "admin", "--no-input", stdout=StringIO())


ENDS = [
    change_password,
    deactivate,
    rename,
    rename_and_let_another_take_the_name,
    create_again,
    revoke,
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_tokens_from_here_end_with(superuser, end):
    access, renewal = issue_access_token(superuser), issue_refresh_token(superuser)
    assert (status(access), refresh(renewal)) == (200, 200)
    end(superuser)
    assert (status(access), refresh(renewal)) == (401, 401)


def test_tokens_that_are_issued_after_a_revocation_hold(superuser):
    revoke(superuser)
    assert status(issue_access_token(superuser)) == 200
    assert refresh(issue_refresh_token(superuser)) == 200


def test_another_users_tokens_are_not_revoked(superuser, staff_user):
    token = issue_access_token(staff_user)
    revoke(superuser)
    assert status(token) == 200


def test_a_changed_secret_key_ends_no_token_while_the_old_one_is_a_fallback(superuser, settings):
    token = issue_access_token(superuser)
    old, settings.SECRET_KEY = settings.SECRET_KEY, "n" * 50
    settings.SECRET_KEY_FALLBACKS = [old]
    assert status(token) == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert status(token) == 401


def test_a_token_minted_elsewhere_is_revoked_by_its_time_of_issue(superuser, mint):
    before = mint(iat=int(time.time()))
    after = mint(iat=int(time.time()) + 2)
    bare = mint()
    revoke(superuser)
    assert status(before) == 401
    assert status(after) == 200  # within the leeway of clocks
    assert status(bare) == 200


def test_a_revocation_says_which_tokens_stay(superuser):
    out = StringIO()
    call_command("revoke_tokens", "admin", "--no-input", "--reason=lost", stdout=out)
    stay = "Those minted elsewhere without iat stay valid until they expire"
    assert out.getvalue() == f"Tokens of admin revoked. {stay}\n"
    row = Operation.objects.get()
    assert (row.kind, row.status, row.reason) == ("revoke_tokens", "done", "lost")
    assert row.targets == {"user": "admin"}


def test_a_dry_run_revokes_nothing(superuser):
    token = issue_access_token(superuser)
    out = StringIO()
    call_command("revoke_tokens", "admin", "--dry-run", stdout=out)
    assert out.getvalue() == "Dry run: the tokens of admin would end\n"
    assert status(token) == 200
    assert not Operation.objects.exists()


def test_the_tokens_of_nobody_are_not_revoked(superuser):
    with pytest.raises(CommandError, match="There is no user 'nobody'") as refusal:
        call_command("revoke_tokens", "nobody", "--no-input", stdout=StringIO())
    assert refusal.value.returncode == 2
    assert not Operation.objects.exists()


def test_a_staff_user_revokes_tokens_only_with_the_permission(staff_user, superuser, settings):
    settings.ANALYTICS_ADMIN = {"REQUIRE_MODEL_PERMISSIONS": True}
    token = issue_access_token(superuser)
    actor = services.Actor.from_user(staff_user)
    with pytest.raises(services.OperationDenied):
        services.revoke_tokens(username="admin", actor=actor)
    assert status(token) == 200


@pytest.mark.parametrize(
    ("own", "simplejwt", "late", "expected"),
    [
        ({}, {}, 3, 200),
        ({}, {}, 7, 401),
        ({"TOKEN_LEEWAY": 0}, {}, 1, 401),
        ({"TOKEN_LEEWAY": 30}, {}, 20, 200),
        ({"TOKEN_LEEWAY": 30}, {"LEEWAY": 0}, 1, 401),
        ({}, {"LEEWAY": 60}, 50, 200),
    ],
)
@pytest.mark.usefixtures("superuser")
def test_clocks_may_differ_by_the_leeway(mint, settings, own, simplejwt, late, expected):
    settings.ANALYTICS_ADMIN = own
    settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, **simplejwt}
    now = int(time.time())
    assert status(mint(exp=now - late)) == expected
    assert status(mint(iat=now + late)) == expected
    assert status(mint(nbf=now + late)) == expected


def test_without_the_endpoint_nobody_gets_tokens_for_a_password(client, superuser, settings):
    renewal = issue_refresh_token(superuser)
    settings.ANALYTICS_ADMIN = {"TOKEN_ENDPOINT": False}
    for path, body in ((TOKEN, LOGIN), (REFRESH, {"refresh": renewal})):
        assert_error(call(client, path, None, body), 404, "not_found")
    paths = client.get("/api/v1/schema").json()["paths"]
    assert paths
    assert not any("auth" in path for path in paths)
    assert "auth/token" not in client.get("/api/v1/docs").text
    assert status(issue_access_token(superuser)) == 200


def test_refresh_tokens_rotate_where_simplejwt_says_so(client, superuser, monkeypatch):
    monkeypatch.setattr(api_settings, "ROTATE_REFRESH_TOKENS", True, raising=False)
    old = issue_refresh_token(superuser)
    pair = call(client, REFRESH, None, {"refresh": old}).json()
    assert pair.keys() == {"access", "refresh"}
    assert (status(pair["access"]), refresh(pair["refresh"]), refresh(old)) == (200, 200, 200)


ROTATION = """
INSTALLED_APPS.append("rest_framework_simplejwt.token_blacklist")
SIMPLE_JWT |= {"ROTATE_REFRESH_TOKENS": True, "BLACKLIST_AFTER_ROTATION": True}
"""
ROTATE = """
import logging

import django

if __name__ == "__main__":
    django.setup()
    logging.disable()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client
    from analytics_admin.tokens import issue_refresh_token

    call_command("migrate", run_syncdb=True, verbosity=0)
    user = get_user_model().objects.create_superuser("ada@example.com", "pw")

    def refresh(token):
        body = {"refresh": token}
        path = "/api/v1/auth/token/refresh"
        return Client().post(path, body, content_type="application/json")

    old = issue_refresh_token(user)
    first, again = refresh(old), refresh(old)
    print(first.status_code, again.status_code, again.json()["code"], end=" ")
    print(refresh(first.json()["refresh"]).status_code)
"""


def test_a_rotated_refresh_token_is_good_once_where_it_is_blacklisted(tmp_path):
    (tmp_path / "accounts").mkdir()
    files = {"accounts/__init__.py": "", "accounts/models.py": MODELS}
    files |= {"site_urls.py": URLS, "rotate.py": ROTATE}
    printed = run_site(tmp_path, files, "rotate", settings=SETTINGS + ROTATION)
    assert printed.splitlines()[-1] == "200 401 token_not_valid 200"


def test_a_refresh_token_minted_elsewhere_is_none(superuser, mint):
    assert refresh(mint(token_type="refresh", iat=int(time.time()), jti="1")) == 401
