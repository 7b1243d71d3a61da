"""``manage.py forget_circuit_breaker``: remove a mistyped or retired breaker."""

from argparse import ArgumentParser
from typing import Any

from analytics_admin.management.base import (
    OperationCommand,
    add_if_generation,
    operator,
    require_one_name,
)
from analytics_admin.services.breakers import operations
from analytics_admin.services.runner import OperationResult


class Command(OperationCommand):
    help = "Remove mistyped or retired circuit breakers and their history from the list."
    question = "Forget these circuit breakers?"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "names",
            nargs="+",
            metavar="NAME",
            help="the breakers; none may be held, or declared in the site's code or settings",
        )
        add_if_generation(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        require_one_name(options)
        super().handle(*args, **options)

    def run_operation(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        return operations.forget_breakers(
            names=options["names"],
            actor=operator(),
            reason=options["reason"],
            expected_generation=options["if_generation"],
            dry_run=dry_run,
        )
