"""``manage.py reset_circuit_breakers``: return breakers to closed."""

from argparse import ArgumentParser
from typing import Any

from analytics_admin.management.base import (
    OperationCommand,
    add_if_generation,
    add_require_all,
    operator,
    require_one_name,
)
from analytics_admin.services.breakers import operations
from analytics_admin.services.runner import OperationResult


class Command(OperationCommand):
    help = "Return circuit breakers to closed with zero counts: all, or those named."
    question = "Reset these circuit breakers?"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("names", nargs="*", metavar="NAME", help="only these breakers")
        parser.add_argument("--only-open", action="store_true", help="skip closed breakers")
        add_if_generation(parser)
        add_require_all(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        require_one_name(options)
        super().handle(*args, **options)

    def run_operation(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        return operations.reset_circuit_breakers(
            actor=operator(),
            names=options["names"] or None,
            only_open=options["only_open"],
            reason=options["reason"],
            expected_generation=options["if_generation"],
            dry_run=dry_run,
        )
