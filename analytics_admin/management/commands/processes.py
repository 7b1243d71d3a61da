"""``manage.py processes``: list the processes that use circuit breakers."""

from argparse import ArgumentParser
from typing import Any

from analytics_admin.management.base import OperatorCommand, printable
from analytics_admin.services.breakers.processes import ProcessStatus, list_processes
from analytics_admin.services.json import to_json

COLUMNS = ("HOST", "PID", "RELEASE", "POLICIES", "SINCE", "HEARD", "STATE")


class Command(OperatorCommand):
    help = "List the processes that use circuit breakers, and whether each obeys the last change."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object on stdout, nothing else"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        processes = list_processes()
        current = sum(process.is_current for process in processes)
        if options["json"]:
            rows = [to_json(process) for process in processes]
            self.write_json({"count": len(rows), "current": current, "processes": rows})
        elif processes:
            self.write(_format(processes))
        else:
            self.write("No process uses circuit breakers")


def _format(processes: list[ProcessStatus]) -> str:
    from analytics_admin.management.tables import align

    return align([COLUMNS, *map(_cells, processes)])


def _cells(process: ProcessStatus) -> tuple[str, ...]:
    return (
        printable(process.host) or "-",
        str(process.pid),
        printable(process.release) or "-",
        printable(process.policies) or "-",
        f"{process.since:%Y-%m-%dT%H:%M:%SZ}",
        f"{process.silent_for:.1f}s",
        "silent" if process.is_silent else "current" if process.is_current else "behind",
    )
