"""What all commands share: options, the confirmation, output, errors and exit codes."""

import json
import math
import os
import pwd
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from analytics_admin.services.audit import Actor, describe_database_error
from analytics_admin.services.errors import OperationFailed, OperatorError, StoreUnavailable
from analytics_admin.services.obedience import Obedience
from analytics_admin.services.runner import OperationResult

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_OPEN = EXIT_WARNINGS = 3
EXIT_NOT_ALL = 4
EXIT_INTERRUPTED = 130

USAGE_CODES = {"invalid", "reason_required", "unknown_breaker", "unknown_user"}
"""Codes of the caller's errors; all others exit with 1."""

MAX_LINES = 20
MAX_SUDO_USER_CHARS = 100
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class OperatorCommand(BaseCommand):
    """A command that reports errors as one line and an exit code, never as a traceback."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except OperatorError as error:
            failure, code = _error_body(error), _exit_code(error)
        except DatabaseError as error:  # of a query; operations raise OperationFailed
            detail = f"The state is unknown: {describe_database_error(error)}"
            failure, code = {"detail": detail, "code": "database_unavailable"}, EXIT_FAILED
        except KeyboardInterrupt:
            raise CommandError("Interrupted", returncode=EXIT_INTERRUPTED) from None
        if options.get("json"):
            self.write_json(failure)
        raise CommandError(printable(failure["detail"]), returncode=code)

    def write(self, text: str) -> None:
        """Write to stdout. A closed pipe (``| head``) is no error."""
        try:
            self.stdout.write(text)
            self.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def write_json(self, answer: dict[str, Any]) -> None:
        """Write one JSON object to stdout."""
        self.write(json.dumps(answer, default=str))


class OperationCommand(OperatorCommand):
    """A command that runs an operation. It can preview it, and asks first on a terminal."""

    question = "Continue?"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--reason",
            type=_text,
            default="",
            help="why, for the audit trail (at most 500 characters)",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="show what would happen; change nothing"
        )
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object on stdout, nothing else"
        )
        parser.add_argument(
            "--no-input",
            "--noinput",
            action="store_false",
            dest="interactive",
            help="do not ask for confirmation (for scripts and schedulers)",
        )

    def run_operation(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        """Call the command's service."""
        raise NotImplementedError

    def preview_lines(self, preview: Mapping[str, Any]) -> list[str]:
        """Return further lines for a dry run's preview, below its message."""
        return []

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["dry_run"] and options["interactive"]:
            self._ask(options)
        result = self.run_operation(options, dry_run=options["dry_run"])
        if options["json"]:
            self.write_json(_result_body(result))
        else:
            self.write(self._format(result))
        for warning in result.warnings:
            self.stderr.write(f"Warning: {printable(warning)}.", lambda text: text)
        if options.get("require_all") and (obedience := result.acknowledged) is not None:
            _require_all(obedience)

    def _ask(self, options: dict[str, Any]) -> None:
        """Show the preview and return if the operator confirms."""
        if not is_terminal(sys.stdin) or not is_terminal(sys.stderr):
            raise CommandError(
                "Nothing was done: there is no terminal to confirm on. "
                "Use --no-input to run without confirmation, or --dry-run for a preview.",
                returncode=EXIT_USAGE,
            )
        self.stderr.write(self._preview(options), lambda text: text)
        self.stderr.write(f"{self.question} Type 'yes' to continue: ", lambda text: text, ending="")
        self.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise CommandError("Cancelled: nothing was done", returncode=EXIT_FAILED)

    def _preview(self, options: dict[str, Any]) -> str:
        """A preview that fails stops nothing: the operation may still succeed."""
        try:
            result = self.run_operation(options, dry_run=True)
        except OperationFailed as error:
            return f"No preview: {error.reason}"
        plan = str(result.message).removeprefix("Dry run: ")
        return self._format(replace(result, message=f"Preview: {plan}"))

    def _format(self, result: OperationResult) -> str:
        more = self.preview_lines(result.preview) if result.preview is not None else []
        return "\n".join(map(printable, [*_lines(result), *more]))


def add_require_all(parser: ArgumentParser) -> None:
    """Add ``--require-all``, which fails if a process does not say in time that it obeys."""
    parser.add_argument(
        "--require-all",
        action="store_true",
        help="exit with 4 if the change is made, but not all processes obey it after a second",
    )


def add_if_generation(parser: ArgumentParser) -> None:
    """Add ``--if-generation``, which rejects the operation if the breaker has changed since."""
    parser.add_argument(
        "--if-generation",
        metavar="GENERATION",
        help="only if the breaker is still at this generation, see `circuit_breakers NAME`",
    )


def require_one_name(options: Mapping[str, Any]) -> None:
    """Raise CommandError for ``--if-generation`` with other than one name."""
    if options["if_generation"] is not None and len(set(options["names"])) != 1:
        raise CommandError("--if-generation requires exactly one NAME", returncode=EXIT_USAGE)


def printable(text: str) -> str:
    """Return the text with control characters and line breaks escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def duration(text: str) -> float:
    """Return the seconds of a duration like "15m"; infinity for "ever"."""
    if text == "ever":
        return math.inf
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd])", text)
    if not match:
        raise ArgumentTypeError(f"not a duration like 90s, 15m, 2h, 1d or ever: {text!r}")
    return float(match[1]) * SECONDS[match[2]]


def operator() -> Actor:
    """Return the actor of a shell: the operating system's user, whatever the environment says.

    Who became that user by ``sudo`` stands beside it.
    """
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without an account
        name = f"uid {os.getuid()}"
    sudo_user = os.environ.get("SUDO_USER", "").encode(errors="replace").decode()
    return Actor.system(
        name.encode(errors="replace").decode(),
        channel="command",
        client={"sudo_user": printable(sudo_user[:MAX_SUDO_USER_CHARS])} if sudo_user else {},
    )


def is_terminal(stream: Any) -> bool:
    """Say whether the stream is a terminal. A closed one (``<&-``) is None."""
    return stream is not None and not stream.closed and stream.isatty()


@contextmanager
def progress(label: str) -> Iterator[Callable[[int], None] | None]:
    """Yield a function that shows a running count on the terminal; None without a terminal."""
    if not is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description} {task.completed:,.0f}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done: bar.update(task, completed=done)


def _text(argument: str) -> str:
    """Reject bytes that are not UTF-8, which no database accepts."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise ArgumentTypeError("not UTF-8 text") from None
    return argument


def _error_body(error: OperatorError) -> dict[str, Any]:
    """Return the error as ``--json`` prints it. Queries raise the store's bare reason."""
    is_query = isinstance(error, StoreUnavailable)
    detail = f"The state is unknown: {error}" if is_query else str(error)
    body = {"detail": detail, "code": error.code}
    return body | {"operation_id": error.operation_id} if error.operation_id else body


def _exit_code(error: OperatorError) -> int:
    """Map the error's code to an exit code."""
    return EXIT_USAGE if error.code in USAGE_CODES else EXIT_FAILED


def _require_all(obedience: Obedience) -> None:
    if not obedience.is_complete:
        raise CommandError(
            f"Done, but not by all: {printable(obedience.message)}", returncode=EXIT_NOT_ALL
        )


def _result_body(result: OperationResult) -> dict[str, Any]:
    body = {
        "message": result.message,
        "operation_id": result.operation_id,
        "preview": result.preview,
        "results": result.results,
        "acknowledged": result.acknowledged and result.acknowledged.to_record(),
        "warnings": list(result.warnings) or None,
    }
    return {key: value for key, value in body.items() if value is not None}


def _lines(result: OperationResult) -> list[str]:
    """Return the message and a line for each of the first breakers."""
    rows = result.results or (result.preview or {}).get("breakers", [])
    lines = [f"  {row['name']}: {row['from']} -> {row['to']}" for row in rows[:MAX_LINES]]
    if len(rows) > MAX_LINES:
        lines.append(f"  ... and {len(rows) - MAX_LINES} more (--json lists all)")
    obedience = [] if result.acknowledged is None else [result.acknowledged.message]
    return [result.message, *lines, *obedience]
