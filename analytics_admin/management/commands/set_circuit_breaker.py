"""``manage.py set_circuit_breaker``: hold or release breakers."""

from argparse import ArgumentParser
from typing import Any

from analytics_admin.management.base import (
    OperationCommand,
    add_if_generation,
    add_require_all,
    duration,
    operator,
    require_one_name,
)
from analytics_admin.services.breakers import operations
from analytics_admin.services.breakers.operations import CONTROLS
from analytics_admin.services.runner import OperationResult


class Command(OperationCommand):
    help = (
        "Hold circuit breakers (forced_open, disabled, metrics_only) or release them (automatic)."
    )
    question = "Set these circuit breakers?"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("names", nargs="+", metavar="NAME", help="the breakers")
        parser.add_argument(
            "control", choices=CONTROLS, metavar="CONTROL", help=", ".join(CONTROLS)
        )
        parser.add_argument(
            "--for",
            dest="for_seconds",
            type=duration,
            metavar="TIME",
            help="how long the hold lasts: 90s, 15m, 2h, 1d or ever (default 1h)",
        )
        add_if_generation(parser)
        add_require_all(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        require_one_name(options)
        super().handle(*args, **options)

    def run_operation(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        return operations.set_breaker_controls(
            names=options["names"],
            control=options["control"],
            actor=operator(),
            for_seconds=options["for_seconds"],
            reason=options["reason"],
            expected_generation=options["if_generation"],
            dry_run=dry_run,
        )
