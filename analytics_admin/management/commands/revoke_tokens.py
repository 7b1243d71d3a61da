"""``manage.py revoke_tokens``: end the tokens of a user."""

from argparse import ArgumentParser
from typing import Any

from analytics_admin.management.base import OperationCommand, operator
from analytics_admin.services.runner import OperationResult
from analytics_admin.services.tokens import revoke_tokens


class Command(OperationCommand):
    help = "End all tokens of a user that were issued until now."
    question = "Revoke the tokens?"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("username", metavar="USERNAME", help="the user whose tokens end")

    def run_operation(self, options: dict[str, Any], *, dry_run: bool) -> OperationResult:
        return revoke_tokens(
            username=options["username"],
            actor=operator(),
            reason=options["reason"],
            dry_run=dry_run,
        )
