"""A process of the site that runs code in copies of itself: each as if it had just started.

Starting Python and Django takes most of a second, a copy some milliseconds. As a program it is the
site's process: a line of its input is some code and three files, one of its output an exit code.
"""

import gc
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from copy import copy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds after which code is taken for hung."""


class SiteProcess:
    """Runs code as ``manage.py shell --command`` does, in a new process each time."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._first = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def where(self, code: str) -> "SiteProcess":
        """Return the same process, whose copies run this code first."""
        changed = copy(self)
        changed._first = f"{code}\n"
        return changed

    def run(self, code: str) -> str:
        """Return what the code printed. Raises AssertionError with its traceback if it failed."""
        exit_code, out, errors = self._run(code)
        assert exit_code == 0, errors
        return out.strip()

    def manage(self, *argv: str, out: str | None = None) -> tuple[int, str, str]:
        """Run a command of ``manage.py``; return exit code, stdout and stderr.

        What it prints goes to the file ``out``, if that is named.
        """
        return self._run(_manage(*argv), out)

    def begin(self, *argv: str, screen: str, out: str) -> None:
        """Begin a command on a terminal of its own, with stdout in a file; ``end`` must follow."""
        self._send(_manage(*argv), screen, out, screen)

    def end(self) -> int:
        """Wait for what has begun; return its exit code."""
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], PATIENCE)[0], "the code does not end"
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _run(self, code: str, printed: str | None = None) -> tuple[int, str, str]:
        with tempfile.TemporaryDirectory(prefix="aa-code-") as folder:
            out, errors = Path(folder, "out"), Path(folder, "errors")
            self._send(code, os.devnull, printed or str(out), str(errors))
            exit_code = self.end()
            return exit_code, "" if printed else out.read_text(), errors.read_text()

    def _send(self, code: str, *files: str) -> None:
        assert self._process.stdin is not None
        print(json.dumps([self._first + code, *files]), file=self._process.stdin, flush=True)


def _manage(*argv: str) -> str:
    return (
        "import sys\n"
        "from django.core.management import execute_from_command_line\n"
        f"sys.argv = {['manage.py', *argv]!r}\n"
        "execute_from_command_line(sys.argv)"
    )


def _serve() -> None:
    import django
    from django.conf import settings
    from django.core.management.commands import migrate  # noqa: F401  commands look for the tables
    from django.template import engines
    from django.urls import get_resolver
    from django.utils.module_loading import import_string

    django.setup()
    from analytics_admin.management import breakers, search_cache  # noqa: F401  with what they print

    # What every copy's checks would import.
    _ = get_resolver().url_patterns, engines.all()
    for middleware in settings.MIDDLEWARE:
        import_string(middleware)
    # A copy that looks through all this for garbage as it ends, copies all of its memory for it.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        code, read, out, errors = json.loads(line)
        child = os.fork()
        if not child:
            os.setsid()  # who leads a session owns the terminal that it opens
            os.dup2(os.open(read, os.O_RDWR), 0)
            os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT), 1)
            os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
            exec(code, {"__name__": "__main__"})
            return  # and so to a process' normal end, with its last words
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
