"""``manage.py prune_operations``: remove old rows of the audit trail."""

import math
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from analytics_admin.management.base import OperationCommand, duration, operator, progress
from analytics_admin.services.audit_pruning import prune_operations
from analytics_admin.services.runner import OperationResult


class Command(OperationCommand):
    help = "Remove old operations from the audit trail. Those of the last 24 hours stay."
    question = "Remove them from the audit trail?"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--older-than",
            type=_age,
            required=True,
            metavar="TIME",
            help="remove those that began longer ago, like 400d",
        )

    def run_operation(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        if dry_run:
            return self._prune(options, dry_run=True)
        with progress("Operations removed:") as on_progress:
            return self._prune(options, on_progress=on_progress)

    def _prune(self, options: dict[str, Any], **details: Any) -> OperationResult:
        return prune_operations(
            older_than=options["older_than"],
            actor=operator(),
            reason=options["reason"],
            **details,
        )


def _age(text: str) -> float:
    seconds = duration(text)
    if math.isinf(seconds):
        raise ArgumentTypeError(f"not a duration like 400d or 36h: {text!r}")
    return seconds
