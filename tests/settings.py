"""The site's settings for tests: a throw-away store and database, never a developer's.

Also the settings by which mypy reads the project, so nothing is created here.
"""

import os
import secrets
import tempfile
from pathlib import Path

STORE_FOLDER = f"{tempfile.gettempdir()}/aa-test-{secrets.token_hex(8)}"
os.environ.update(
    {
        "DEBUG": "off",
        "SECRET_KEY": "test-only-secret-key-of-more-than-fifty-characters-0123456789",
        "JWT_SIGNING_KEY": "test-only-signing-key-of-more-than-32-bytes",
        "REDIS_URL": f"unix://{STORE_FOLDER}/store.sock",
        "ALLOWED_HOSTS": "testserver,localhost,127.0.0.1",
        "SECURE_COOKIES": "off",
        "DEMO_SEARCH": "on",
    }
)
os.environ.setdefault("DATABASE_URL", "sqlite://:memory:")
from project.settings import *  # noqa: E402, F403  the environment must be set first

DEMO_FOLDER = Path(STORE_FOLDER) / "demo"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Straight from the apps: no collectstatic before a test.
STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = True
