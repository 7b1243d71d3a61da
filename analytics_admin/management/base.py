"""What every operator's command shares: options, the question, output, errors and exit codes.

Knows the services alone. What an act is called and takes is its own command's.
"""

import getpass
import json
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from analytics_admin.services.audit import Actor, describe_database_error
from analytics_admin.services.errors import OperationFailed, OperatorError, StoreUnavailable
from analytics_admin.services.runner import OperationResult

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_OPEN = 3
EXIT_INTERRUPTED = 130

USAGE_CODES = {"invalid", "reason_required", "unknown_breaker", "unknown_operation"}
"""Codes of errors that are the caller's; all others exit with 1."""

LINES_SHOWN = 20


class OperatorCommand(BaseCommand):
    """A command whose errors are one line and an exit code, never a traceback."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except OperatorError as error:
            failure, code = _as_failure(error), _exit_code(error)
        except DatabaseError as error:  # a question's; an act says itself what it failed to do
            detail = f"The state is unknown: {describe_database_error(error)}"
            failure, code = {"detail": detail, "code": "database_unavailable"}, EXIT_FAILED
        except KeyboardInterrupt:
            raise CommandError("Interrupted", returncode=EXIT_INTERRUPTED) from None
        if options.get("json"):
            self.write_json(failure)
        raise CommandError(printable(failure["detail"]), returncode=code)

    def write(self, text: str) -> None:
        """Write to stdout; a reader that went away (``| head``) is no error."""
        try:
            self.stdout.write(text)
            self.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def write_json(self, answer: dict[str, Any]) -> None:
        """Write one JSON object to stdout."""
        self.write(json.dumps(answer, default=str))


class OperationCommand(OperatorCommand):
    """A command that changes something: it can look first, and it asks on a terminal."""

    question = "Go on?"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--reason",
            type=_text,
            default="",
            help="why, for the audit trail (at most 500 characters)",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would happen and change nothing"
        )
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object on stdout, nothing else"
        )
        parser.add_argument(
            "--no-input",
            "--noinput",
            action="store_false",
            dest="interactive",
            help="act without asking, as scripts and schedulers must",
        )

    def run_operation(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        """Call the service; each command says which."""
        raise NotImplementedError

    def preview_lines(self, preview: Mapping[str, Any]) -> list[str]:
        """Return what a dry run's preview says beyond its message."""
        return []

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["dry_run"] and options["interactive"]:
            self._ask(options)
        result = self.run_operation(options, dry_run=options["dry_run"])
        if options["json"]:
            self.write_json(_as_answer(result))
        else:
            self.write(self._as_lines(result))

    def _ask(self, options: dict[str, Any]) -> None:
        """Show what the act would do and return when the operator says yes."""
        if not is_terminal(sys.stdin) or not is_terminal(sys.stderr):
            raise CommandError(
                "Nothing was done: there is no terminal to ask on. "
                "Add --no-input to act without a question, or --dry-run to look only.",
                returncode=EXIT_USAGE,
            )
        self.stderr.write(self._preview(options), lambda text: text)
        self.stderr.write(f"{self.question} Type 'yes' to go on: ", lambda text: text, ending="")
        self.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise CommandError("Cancelled: nothing was done", returncode=EXIT_FAILED)

    def _preview(self, options: dict[str, Any]) -> str:
        """A store too sick to look into may still take the act: that is for the operator to say."""
        try:
            result = self.run_operation(options, dry_run=True)
        except OperationFailed as error:
            return f"There is no preview: {error.reason}"
        return self._as_lines(result)

    def _as_lines(self, result: OperationResult) -> str:
        more = self.preview_lines(result.preview) if result.preview is not None else []
        return "\n".join(map(printable, [*_lines(result), *more]))


def add_if_generation(parser: ArgumentParser) -> None:
    """Let an act on one breaker be refused when its operator has not seen what it is now."""
    parser.add_argument(
        "--if-generation",
        metavar="GENERATION",
        help="only if the breaker still is as `circuit_breakers NAME` has shown it",
    )


def printable(text: str) -> str:
    """Return the text with whatever would steer a terminal, or break the line, spelt out."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def operator() -> Actor:
    """Return the actor behind the shell: the operating system's user."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without an account
        name = f"uid {os.getuid()}"
    return Actor.system(name.encode(errors="replace").decode(), channel="command")


def is_terminal(stream: Any) -> bool:
    """Say whether a person is at the stream; a closed one (``<&-``) is None."""
    return stream is not None and not stream.closed and stream.isatty()


@contextmanager
def progress(label: str) -> Iterator[Callable[[int], None] | None]:
    """Lend a function that shows a running count on the terminal; None without one."""
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
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(label, total=None)
        yield lambda done: shown.update(task, completed=done)


def _text(argument: str) -> str:
    """Refuse bytes that are no text, which no database would take."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise ArgumentTypeError("not UTF-8 text") from None
    return argument


def _sentence(error: Exception) -> str:
    """An act says itself what it failed to do; only a question leaves the store's bare words."""
    return f"The state is unknown: {error}" if isinstance(error, StoreUnavailable) else str(error)


def _as_failure(error: OperatorError) -> dict[str, Any]:
    """Name the row, too, of an act that left one."""
    answer = {"detail": _sentence(error), "code": error.code}
    return answer | {"operation_id": error.operation_id} if error.operation_id else answer


def _exit_code(error: OperatorError) -> int:
    """The one table from what went wrong to the exit code."""
    return EXIT_USAGE if error.code in USAGE_CODES else EXIT_FAILED


def _as_answer(result: OperationResult) -> dict[str, Any]:
    answer = {
        "message": result.message,
        "operation_id": result.operation_id,
        "preview": result.preview,
        "results": result.results,
    }
    return {key: value for key, value in answer.items() if value is not None}


def _lines(result: OperationResult) -> list[str]:
    """Return the message and a line for each breaker that it names, the first ones of many."""
    named = result.results or (result.preview or {}).get("breakers", [])
    lines = [f"  {row['name']}: {row['from']} -> {row['to']}" for row in named[:LINES_SHOWN]]
    if len(named) > LINES_SHOWN:
        lines.append(f"  ... and {len(named) - LINES_SHOWN} more (--json lists all)")
    return [result.message, *lines]
