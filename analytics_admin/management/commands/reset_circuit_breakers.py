"""``manage.py reset_circuit_breakers``: breakers back to closed, from a shell."""

from argparse import ArgumentParser
from typing import Any

from analytics_admin import services
from analytics_admin.management.base import ActCommand, operator
from analytics_admin.services import ActResult


class Command(ActCommand):
    help = "Return circuit breakers to closed with zero counts: all of them, or those named."
    question = "Reset these circuit breakers?"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("names", nargs="*", metavar="NAME", help="only these breakers")
        parser.add_argument(
            "--only-open", action="store_true", help="leave the closed breakers alone"
        )

    def act(self, options: dict[str, Any], *, dry_run: bool) -> ActResult:
        return services.reset_circuit_breakers(
            actor=operator(),
            names=options["names"] or None,
            only_open=options["only_open"],
            reason=options["reason"],
            dry_run=dry_run,
        )
