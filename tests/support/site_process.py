"""A process of the site that runs code in copies of itself: each as if it had just started.

Starting Python and Django takes most of a second, a copy some milliseconds. As a program it is the
site's process: a line of its input is some code and two files, one of its output an exit code.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds after which code is taken for hung."""


class SiteProcess:
    """Runs code as ``manage.py shell --command`` does, in a new process each time."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str) -> str:
        """Return what the code printed. Raises AssertionError with its traceback if it failed."""
        exit_code, out, errors = self._run(code)
        assert exit_code == 0, errors
        return out.strip()

    def manage(self, *argv: str) -> tuple[int, str, str]:
        """Run a command of ``manage.py``; return exit code, stdout and stderr."""
        return self._run(
            "from django.core.management import execute_from_command_line\n"
            f"execute_from_command_line({['manage.py', *argv]!r})"
        )

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _run(self, code: str) -> tuple[int, str, str]:
        with tempfile.TemporaryDirectory(prefix="aa-code-") as folder:
            out, errors = Path(folder, "out"), Path(folder, "errors")
            exit_code = self._ask(code, str(out), str(errors))
            return exit_code, out.read_text(), errors.read_text()

    def _ask(self, *request: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        assert select.select([self._process.stdout], [], [], PATIENCE)[0], "the code does not end"
        return int(self._process.stdout.readline())


def _serve() -> None:
    import django

    django.setup()
    for line in sys.stdin:
        code, out, errors = json.loads(line)
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT), 1)
            os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
            exec(code, {"__name__": "__main__"})
            return  # and so to a process' normal end, with its last words
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
