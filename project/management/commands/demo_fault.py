"""``manage.py demo_fault``: makes the demo search backend fail, hang or work again."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from project.demo.faults import FAULTS, Fault, FaultSwitch


class Command(BaseCommand):
    help = (
        "Sets the fault of the demo search backend, for every process on this machine: off "
        "(works), on (each search fails), slow (each search times out), sometimes (fails for "
        "10 s of each 90). Without an argument, shows the current fault."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("fault", nargs="?", choices=FAULTS, help="the fault to set")

    def handle(self, *, fault: Fault | None, **options: Any) -> None:
        if not settings.DEMO_SEARCH:
            raise CommandError("the demo search is disabled: DEMO_SEARCH is off")
        switch = FaultSwitch(settings.DEMO_FOLDER)
        try:
            if fault:
                switch.set(fault)
            self.stdout.write(f"Demo fault: {switch.read() or 'off'}")
        except OSError as error:
            raise CommandError(f"cannot access the fault switch: {error.strerror}") from None
