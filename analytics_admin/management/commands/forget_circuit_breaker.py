"""``manage.py forget_circuit_breaker``: remove a mistyped or retired breaker."""

from argparse import ArgumentParser
from typing import Any

from analytics_admin.management.base import OperationCommand, add_if_generation, operator
from analytics_admin.services.breakers import operations
from analytics_admin.services.runner import OperationResult


class Command(OperationCommand):
    help = "Remove a mistyped or retired circuit breaker and its history from the list."
    question = "Forget this circuit breaker?"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "name",
            metavar="NAME",
            help="the breaker; it must not be held, nor declared in the site's code or settings",
        )
        add_if_generation(parser)

    def run_operation(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        return operations.forget_breaker(
            name=options["name"],
            actor=operator(),
            reason=options["reason"],
            expected_generation=options["if_generation"],
            dry_run=dry_run,
        )
