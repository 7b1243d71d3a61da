"""What ``manage.py doctor`` finds: the system checks, and what only a look at the site tells."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from django.core.checks import CheckMessage, run_checks
from django.core.checks.messages import ERROR, WARNING
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, router
from django.db.migrations.executor import MigrationExecutor

from analytics_admin.conf import app_settings
from analytics_admin.models import Operation
from analytics_admin.services.audit import describe_database_error
from analytics_admin.services.breakers.processes import ProcessStatus, list_processes
from analytics_admin.stores.client import StoreUnavailable, is_local_memory
from analytics_admin.stores.examination import SAMPLES, Examination, examine

TAG = APP = "analytics_admin"
SLOW_MEDIAN_SECONDS = 0.02
SLOW_P99_SECONDS = 0.1
UNREACHABLE = f"{APP}.I001"
"""The check of a store that does not answer, which is an error here."""
Level = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it should be, and what to do."""

    id: str
    """That of the system check, or a word of this module's."""
    level: Level
    text: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReport:
    """One store; None is what is not known."""

    store: str
    """``breakers`` or ``search_cache``."""
    alias: str
    reachable: bool
    unavailable: str = ""
    """Why it is not reachable."""
    latency_median_ms: float | None = None
    latency_p99_ms: float | None = None
    server: str | None = None
    """Kind and version; "local memory" within one process."""
    role: str | None = None
    replicas: int | None = None
    replicas_confirmed: int | None = None
    """How many confirmed a write in time."""
    eviction: str | None = None
    persistence: str | None = None
    clock_ahead_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was found; the worst first."""

    status: Literal["ok", "warnings", "errors"]
    stores: Sequence[StoreReport]
    processes: int | None
    """How many use circuit breakers; None: unknown."""
    findings: Sequence[Finding]


def examine_site() -> Report:
    """Look at everything. Takes seconds where something hangs."""
    stores = [_describe(store, alias) for store, alias in _aliases()]
    may_ask = any(store.reachable for store in stores)  # else each check would wait in vain
    findings = [*_find_in_stores(stores), *_find_by_checks(deploy=may_ask)]
    findings += [*_find_in_database(), *_find_in_tokens()]
    processes = _read_processes() if stores[0].reachable else None
    findings += _find_in_processes(processes or ())
    order = ("error", "warning", "info")
    findings.sort(key=lambda finding: (order.index(finding.level), finding.id))
    levels = {finding.level for finding in findings}
    return Report(
        status="errors" if "error" in levels else "warnings" if "warning" in levels else "ok",
        stores=stores,
        processes=None if processes is None else len(processes),
        findings=findings,
    )


def _aliases() -> Iterator[tuple[str, str]]:
    settings = app_settings()
    yield "breakers", settings.breaker_cache
    yield "search_cache", settings.search_cache


def _describe(store: str, alias: str) -> StoreReport:
    if is_local_memory(alias):
        return StoreReport(store=store, alias=alias, reachable=True, server="local memory")
    try:
        server = examine(alias)
    except StoreUnavailable as error:
        return StoreReport(store=store, alias=alias, reachable=False, unavailable=error.reason)
    return StoreReport(
        store=store,
        alias=alias,
        reachable=True,
        latency_median_ms=round(1000 * server.median, 3),
        latency_p99_ms=round(1000 * server.p99, 3),
        server=_name(server),
        role=server.role or None,
        replicas=server.replicas,
        replicas_confirmed=server.confirmed,
        eviction=server.eviction or None,
        persistence=server.persistence or None,
        clock_ahead_seconds=round(server.clock_ahead, 3),
    )


def _name(server: Examination) -> str | None:
    return f"{server.kind} {server.version}" if server.kind else None


def _find_in_stores(stores: Sequence[StoreReport]) -> Iterator[Finding]:
    for store in stores:
        where = f"CACHES['{store.alias}']"
        if not store.reachable:
            yield Finding(
                id="store_unreachable",
                level="error",
                text=f"{where}: {store.unavailable}.",
                hint=f"Start the server, or correct {where}; then run this again.",
            )
        median, p99 = store.latency_median_ms or 0.0, store.latency_p99_ms or 0.0
        if median > 1000 * SLOW_MEDIAN_SECONDS or p99 > 1000 * SLOW_P99_SECONDS:
            yield Finding(
                id="store_slow",
                level="warning",
                text=f"{where} answers in {median:g} ms, and the slowest of {SAMPLES} times in "
                f"{p99:g} ms.",
                hint="Bring site and store nearer to each other, or look for slow commands there.",
            )


def _find_by_checks(*, deploy: bool) -> Iterator[Finding]:
    try:
        messages = run_checks(tags=[TAG], include_deployment_checks=deploy)
    except ImproperlyConfigured as error:
        text = f"The system checks cannot run: {error}"
        yield Finding(id="checks_failed", level="error", text=text, hint="Correct the settings.")
        return
    for message in messages:
        if message.id != UNREACHABLE and not message.is_silenced():
            yield Finding(
                id=str(message.id),
                level=_level(message),
                text=str(message.msg),
                hint=str(message.hint or ""),
            )


def _level(message: CheckMessage) -> Level:
    if message.level >= ERROR:
        return "error"
    return "warning" if message.level >= WARNING else "info"


def _find_in_database() -> Iterator[Finding]:
    alias = router.db_for_write(Operation)
    try:
        executor = MigrationExecutor(connections[alias])
        targets = [key for key in executor.loader.graph.leaf_nodes() if key[0] == APP]
        pending = executor.migration_plan(targets)
    except DatabaseError as error:
        text = f"The database of the audit trail: {describe_database_error(error)}."
        hint = "Start it, or correct DATABASES: operations are refused without it."
        yield Finding(id="database_unavailable", level="error", text=text, hint=hint)
        return
    except Exception as error:  # a driver that is missing, a migration that cannot be read
        text = f"The migrations cannot be read: {type(error).__name__}."
        hint = "Run manage.py migrate, which says more."
        yield Finding(id="database_unavailable", level="error", text=text, hint=hint)
        return
    if pending:
        names = ", ".join(str(migration) for migration, _ in pending[:3])
        yield Finding(
            id="migrations_pending",
            level="error",
            text=f"{len(pending)} migrations are pending: {names}.",
            hint="Run manage.py migrate.",
        )


def _find_in_tokens() -> Iterator[Finding]:
    if app_settings().external_token_max_lifetime is None:
        yield Finding(
            id="external_tokens_unlimited",
            level="info",
            text="A token that is minted elsewhere may live for years.",
            hint="Set EXTERNAL_TOKEN_MAX_LIFETIME to the longest time that you need.",
        )


def _read_processes() -> Sequence[ProcessStatus] | None:
    try:
        return list_processes()
    except StoreUnavailable:
        return None


def _find_in_processes(processes: Sequence[ProcessStatus]) -> Iterator[Finding]:
    if silent := [process for process in processes if process.is_silent]:
        yield Finding(
            id="processes_silent",
            level="warning",
            text=f"{len(silent)} of {len(processes)} processes are silent: {_places(silent)}.",
            hint="See whether they hang, lack processor time, or have ended by kill -9.",
        )
    if deaf := [process for process in processes if not process.gets_pushes]:
        yield Finding(
            id="processes_without_pushes",
            level="warning",
            text=f"{len(deaf)} of {len(processes)} processes ask for changes instead of hearing of "
            f"them: {_places(deaf)}.",
            hint="Start uWSGI with enable-threads, and permit SUBSCRIBE to the breakers' user.",
        )
    if len(releases := {process.release for process in processes}) > 1:
        yield Finding(
            id="releases_differ",
            level="info",
            text=f"Processes run several releases: {', '.join(sorted(releases))}.",
            hint="Complete the deployment.",
        )


def _places(processes: Sequence[ProcessStatus]) -> str:
    named = [f"{process.host}/{process.pid}" for process in processes[:5]]
    return ", ".join([*named, "…"] if len(processes) > len(named) else named)
