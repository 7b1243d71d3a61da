"""Small sites in processes of their own, and the ways in which they reach a store."""

import os
import re
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NOWHERE = "redis://127.0.0.1:1/0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a site reaches its store: by its environment, or by its own CACHES and ``more``.

    ``database`` is a DATABASE_URL; else the site has a file of its own.
    """

    url: str = NOWHERE
    caches: dict[str, Any] = field(default_factory=dict)
    more: str = ""
    database: str = ""


def start_program(
    folder: Path, way: Way, module: str, *, log: Path | None = None, **more: str
) -> "subprocess.Popen[str]":
    """Start a module of the tests as a program of a site in the folder.

    ``log`` gets what it writes to stderr, which nobody reads meanwhile.
    """
    (folder / "site_settings.py").write_text(
        "from project.settings import *\n"
        "PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']\n"
        "STORAGES['staticfiles'] = {\n"
        "    'BACKEND': 'django.contrib.staticfiles.storage.StaticFilesStorage'}\n"
        f"{f'CACHES = {way.caches!r}' if way.caches else ''}\n{way.more}\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "DJANGO_SETTINGS_MODULE": "site_settings",
        "DEBUG": "off",
        "SECRET_KEY": "a-secret-key-of-more-than-fifty-characters-0123456789-abcdef",
        "JWT_SIGNING_KEY": "a-signing-key-of-more-than-32-bytes-0123456789",
        "ALLOWED_HOSTS": "testserver",
        "SECURE_COOKIES": "off",
        "REDIS_URL": way.url,
        "DATABASE_URL": way.database or f"sqlite:///{folder}/db.sqlite3",
        **more,
    }
    with nullcontext(subprocess.PIPE) if log is None else log.open("a") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )


def minimal_rule() -> list[str]:
    """Return the words of the rule that the docs give, which begins by naming the user."""
    text = (ROOT / "docs" / "howto" / "reach-the-store.md").read_text()
    (rule,) = re.findall(r"^ACL SETUSER .*?(?=^```)", text, re.M | re.S)
    return str(rule).split()
