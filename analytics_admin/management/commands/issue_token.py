"""``manage.py issue_token``: print an access token for the REST API."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import DatabaseError

from analytics_admin.management.base import EXIT_FAILED, EXIT_USAGE, OperatorCommand, printable
from analytics_admin.permissions import is_operator
from analytics_admin.services.accounts import find_account
from analytics_admin.services.audit import describe_database_error
from analytics_admin.tokens import issue_access_token


class Command(OperatorCommand):
    help = "Print an access token for the user on stdout, nothing else."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username", metavar="USERNAME", help="the user whose token it is")

    def handle(self, *args: Any, **options: Any) -> None:
        user = _active_user(options["username"])
        if not is_operator(user):
            note = f"Note: {printable(options['username'])} is not staff: the API will answer 403"
            self.stderr.write(note, lambda text: text)
        self.write(issue_access_token(user))


def _active_user(username: str) -> Any:
    shown = printable(username)
    try:
        user = find_account(username)
    except DatabaseError as error:
        reason = describe_database_error(error)
        raise CommandError(f"Failed to issue a token: {reason}", returncode=EXIT_FAILED) from None
    if user is None:
        raise CommandError(f"There is no user '{shown}'", returncode=EXIT_USAGE)
    if not user.is_active:
        raise CommandError(f"The user '{shown}' is not active", returncode=EXIT_FAILED)
    return user
