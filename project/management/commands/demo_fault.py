"""``manage.py demo_fault``: has the demonstration's search backend fail, hang, or work again."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from project.demo.faults import FAULTS, Fault, FaultSwitch


class Command(BaseCommand):
    help = (
        "Switches the backend of the demonstration search, for every process on this machine: "
        "off (it works), on (each search fails), slow (none answers in time), sometimes (it "
        "fails for 10 s of each 90). Without an argument it says how the switch stands."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("fault", nargs="?", choices=FAULTS, help="how it is to stand")

    def handle(self, *, fault: Fault | None, **options: Any) -> None:
        if not settings.DEMO_SEARCH:
            raise CommandError("there is no demonstration search: DEMO_SEARCH is off")
        switch = FaultSwitch(settings.DEMO_FOLDER)
        try:
            if fault:
                switch.set(fault)
            self.stdout.write(f"The demonstration's fault is {switch.read() or 'off'}")
        except OSError as error:
            raise CommandError(f"the switch cannot be used: {error.strerror}") from None
