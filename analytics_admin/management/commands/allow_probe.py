"""``manage.py allow_probe``: allow a probe of an open breaker now."""

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
    help = "Allow a probe of open circuit breakers now, instead of at the end of their wait."
    question = "Allow a probe of these circuit breakers?"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "names", nargs="+", metavar="NAME", help="the breakers; each must be open, and not held"
        )
        add_if_generation(parser)
        add_require_all(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        require_one_name(options)
        super().handle(*args, **options)

    def run_operation(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        return operations.allow_probes(
            names=options["names"],
            actor=operator(),
            reason=options["reason"],
            expected_generation=options["if_generation"],
            dry_run=dry_run,
        )
