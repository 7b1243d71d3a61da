"""``manage.py allow_probe``: allow a probe of an open breaker now."""

from argparse import ArgumentParser
from typing import Any

from analytics_admin.management.base import (
    OperationCommand,
    add_if_generation,
    add_require_all,
    operator,
)
from analytics_admin.services.breakers import operations
from analytics_admin.services.runner import OperationResult


class Command(OperationCommand):
    help = "Allow a probe of an open circuit breaker now, instead of at the end of its wait."
    question = "Allow a probe of this circuit breaker?"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "name", metavar="NAME", help="the breaker; it must be open, and not held"
        )
        add_if_generation(parser)
        add_require_all(parser)

    def run_operation(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        return operations.allow_probe(
            name=options["name"],
            actor=operator(),
            reason=options["reason"],
            expected_generation=options["if_generation"],
            dry_run=dry_run,
        )
