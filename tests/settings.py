"""The site's settings for tests: a throw-away store and database, never a developer's."""

import os
import tempfile

STORE_FOLDER = tempfile.mkdtemp(prefix="aa-test-")
os.environ.update(
    {
        "DEBUG": "off",
        "SECRET_KEY": "test-only-secret-key-of-more-than-fifty-characters-0123456789",
        "JWT_SIGNING_KEY": "test-only-signing-key-of-more-than-32-bytes",
        "REDIS_URL": f"unix://{STORE_FOLDER}/store.sock",
        "ALLOWED_HOSTS": "testserver,localhost,127.0.0.1",
    }
)
from project.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
