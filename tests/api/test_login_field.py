"""A site whose users log in by e-mail: the login takes that field's name, and ``username`` too."""

import json
from pathlib import Path

from tests.support.separate_site import run_site

MODELS = """
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models


class People(BaseUserManager):
    def create_superuser(self, email, password):
        person = self.model(email=email, is_staff=True, is_superuser=True)
        person.set_password(password)
        person.save()
        return person


class Person(AbstractBaseUser, PermissionsMixin):
    email = models.EmailField(primary_key=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    objects = People()
    USERNAME_FIELD = "email"
"""
SETTINGS = """
INSTALLED_APPS += ["accounts"]
AUTH_USER_MODEL = "accounts.Person"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CACHES["default"] = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SIMPLE_JWT = {"SIGNING_KEY": "test-only-signing-key-of-more-than-32-bytes"}
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "site_urls"
"""
URLS = """
from django.urls import include, path

urlpatterns = [path("api/v1/", include("analytics_admin.urls"))]
"""
LOGIN = """
import json
import logging

import django

if __name__ == "__main__":
    django.setup()
    logging.disable()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client

    call_command("migrate", run_syncdb=True, verbosity=0)
    get_user_model().objects.create_superuser("ada@example.com", "pw")
    client = Client()

    def post(path, **body):
        return client.post(f"/api/v1/{path}", body, content_type="application/json")

    for names in ({"email": "ada@example.com"}, {"username": "ada@example.com"}):
        tokens = post("auth/token", **names, password="pw").json()
        bearer = {"Authorization": f"Bearer {tokens['access']}"}
        answer = client.get("/api/v1/analytics/operations", headers=bearer)
        print(json.dumps([answer.status_code, sorted(tokens)]))
    for names in ({}, {"email": "ada@example.com", "username": "x"}, {"name": "x"}, {"email": 5}):
        answer = post("auth/token", **names, password="pw")
        print(json.dumps([answer.status_code, answer.json()["detail"]]))
    answer = post("auth/token", email="ada@example.com", password="wrong")
    print(json.dumps([answer.status_code, answer.json()["code"]]))
    answer = post("auth/token?email=ada@example.com", password="pw")
    print(json.dumps([answer.status_code, answer.json()["detail"]]))
"""


def test_users_log_in_by_their_own_field(tmp_path: Path) -> None:
    (tmp_path / "accounts").mkdir()
    files = {"accounts/__init__.py": "", "accounts/models.py": MODELS}
    files |= {"site_urls.py": URLS, "login.py": LOGIN}
    printed = run_site(tmp_path, files, "login", settings=SETTINGS)
    one_of_them = "email: Send either email or username."
    assert [json.loads(line) for line in printed.splitlines()] == [
        [200, ["access", "refresh"]],
        [200, ["access", "refresh"]],
        [400, one_of_them],
        [400, one_of_them],
        [400, "name: Unknown field."],
        [400, "email: Not a valid string."],
        [401, "authentication_failed"],
        [400, "email: Send it in the body, not in the URL."],
    ]
