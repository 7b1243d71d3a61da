"""User models whose name is a number, a UUID or anything: all doors know it, odd ones are 401."""

from pathlib import Path

import pytest

from tests.api.test_login_field import SETTINGS, URLS
from tests.support.separate_site import run_site

MODELS = """
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models


class People(BaseUserManager):
    def get_by_natural_key(self, name):
        spelt = "__iexact" if isinstance(name, str) else ""
        return self.get(**{f"name{spelt}": name})


class Person(AbstractBaseUser):
    name = models.FIELD
    is_staff = is_active = is_superuser = True
    objects = People()
    USERNAME_FIELD = "name"
"""
DOORS = """
import decimal
import io
import json
import logging
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta

import django
import jwt

ODD = [
    " 1", "\uff11", "1_0", "+1", "01", "9" * 30, "9" * 5000, "1e400", "nan", "inf", "-inf", "-1",
    "9" * 400, "{00000000-0000-0000-0000-000000000001}", "0" * 31 + "1",
    "00000000-0000-0000-0000-00000000000A", "2026-13-45", "2026-01-01",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "::ffff:127.0.0.1", " 127.0.0.1",
    "999999999999 days", "P999999999999999D", "x", "true", "%", "é", "twice",
]

if __name__ == "__main__":
    django.setup()
    logging.disable()
    from django.contrib.auth import get_user_model
    from django.core.cache import caches
    from django.core.management import CommandError, call_command
    from django.test import Client
    from analytics_admin import services
    from analytics_admin.models import Operation

    call_command("migrate", run_syncdb=True, verbosity=0)
    users = get_user_model()
    value, text = eval(sys.argv[1]), sys.argv[2]
    user = users(name=value)
    user.set_password("pw")
    user.save()
    if isinstance(value, str):
        for name in ("twice", "TWICE"):
            users(name=name).save()
    client = Client(raise_request_exception=False)
    wrong = []

    def post(path, token=None, **body):
        caches["default"].clear()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return client.post(
            f"/api/v1/{path}", json.dumps(body), content_type="application/json", headers=headers
        )

    def expect(what, status, answer):
        if answer.status_code != status:
            wrong.append((what, answer.status_code, answer.text[:100]))

    def run(*command):
        out = io.StringIO()
        call_command(*command, stdout=out, stderr=io.StringIO())
        return out.getvalue().strip()

    for odd in ODD:
        token = jwt.encode({"sub": odd, "exp": time.time() + 99}, sys.argv[3], "HS256")
        expect(f"token {odd[:40]}", 401, post("analytics/cache/clear", token, dry_run=True))
        expect(f"login {odd[:40]}", 401, post("auth/token", username=odd, password="pw"))
        try:
            wrong.append(("issue_token", odd, run("issue_token", "--", odd)))
        except CommandError as error:
            assert error.returncode == 2, error
    login = post("auth/token", username=text, password="pw")
    expect("login", 200, login)
    token = login.json()["access"]
    elsewhere = jwt.encode({"sub": text, "exp": time.time() + 99}, sys.argv[3], "HS256")
    for each in (token, elsewhere, run("issue_token", "--", text)):
        expect("act", 500, post("analytics/cache/clear", each))  # there is no store
    expect("refresh", 200, post("auth/token/refresh", refresh=login.json()["refresh"]))
    actors = set(Operation.objects.values_list("actor", flat=True))
    run("revoke_tokens", "--no-input", "--", text)
    expect("revoked", 401, post("analytics/cache/clear", token))
    print(json.dumps({"wrong": wrong, "actors": sorted(actors)}))
"""
KEY = "test-only-signing-key-of-more-than-32-bytes"
UUID_1 = "00000000-0000-0000-0000-000000000001"
FIELDS = {
    "IntegerField(unique=True)": ("7", "7"),
    "UUIDField(unique=True)": ("uuid.UUID(int=2)", UUID_1[:-1] + "2"),
    "EmailField(unique=True)": ("'a@b.example'", "a@b.example"),
    "DateTimeField(unique=True)": (
        "datetime(2026, 2, 3, tzinfo=UTC)",
        "2026-02-03T00:00:00+00:00",
    ),
    "DecimalField(unique=True, max_digits=9, decimal_places=2)": (
        "decimal.Decimal('2.50')",
        "2.50",
    ),
}


@pytest.mark.parametrize(("field", "named"), FIELDS.items(), ids=lambda it: str(it).split("(")[0])
def test_a_name_of_any_kind_opens_all_doors_and_an_odd_one_none(
    tmp_path: Path, field: str, named: tuple[str, str]
) -> None:
    site = {
        "accounts/__init__.py": "",
        "accounts/models.py": MODELS.replace("FIELD\n", f"{field}\n"),
        "site_urls.py": URLS,
        "doors.py": DOORS,
    }
    (tmp_path / "accounts").mkdir()
    printed = run_site(tmp_path, site, "doors", *named, KEY, settings=SETTINGS + "USE_TZ = True\n")
    assert f'{{"wrong": [], "actors": ["{named[1]}"]}}' in printed
