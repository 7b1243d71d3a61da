"""``manage.py doctor``: look at the stores, the database and the settings, and say what to do."""

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from analytics_admin.management.base import EXIT_FAILED, EXIT_WARNINGS, OperatorCommand, printable
from analytics_admin.monitoring.doctor import Report, StoreReport, examine_site

EXIT_CODES = {"warnings": EXIT_WARNINGS, "errors": EXIT_FAILED}


class Command(OperatorCommand):
    help = "Look at stores, database and settings; say what is wrong, and what to do."
    requires_system_checks = ()  # it runs them itself, and goes on after errors

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object on stdout, nothing else"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        report = examine_site()
        if options["json"]:
            self.write_json(asdict(report))
        else:
            self.write("\n".join(_format(report)))
        if report.status != "ok":
            raise CommandError(_verdict(report), returncode=EXIT_CODES[report.status])


def _format(report: Report) -> list[str]:
    lines = [_store_line(store) for store in report.stores]
    if report.processes is not None:
        lines.append(f"processes: {report.processes}")
    for finding in report.findings:
        lines += ["", f"{finding.level.upper()} {printable(finding.text)} ({finding.id})"]
        lines += [f"  {printable(finding.hint)}"] if finding.hint else []
    return [*lines, "", "Nothing to do"] if report.status == "ok" else lines


def _verdict(report: Report) -> str:
    levels = [finding.level for finding in report.findings]
    errors, warnings = levels.count("error"), levels.count("warning")
    return f"{_number(errors, 'error')}, {_number(warnings, 'warning')}"


def _number(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _store_line(store: StoreReport) -> str:
    where = f"{store.store} (CACHES['{printable(store.alias)}'])"
    if not store.reachable:
        return f"{where}: {store.unavailable}"
    parts = [store.server or "a server that may not be asked"]
    if store.latency_median_ms is not None:
        parts.append(f"{store.latency_median_ms:.1f} ms, p99 {store.latency_p99_ms:.1f} ms")
    if store.role == "slave":
        parts.append("a replica")
    if store.replicas:
        confirmed = "unknown" if store.replicas_confirmed is None else store.replicas_confirmed
        parts.append(f"replicas {store.replicas}, up to date {confirmed}")
    parts += [f"eviction {store.eviction}"] if store.eviction else []
    parts += [f"persistence {store.persistence}"] if store.persistence else []
    if store.clock_ahead_seconds is not None:
        parts.append(f"clock {store.clock_ahead_seconds:+.1f} s")
    return f"{where}: {', '.join(parts)}"
