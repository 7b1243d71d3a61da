"""Every operation of the console in each of its ways, on a site whose name is typed first."""

from dataclasses import replace

from django.contrib.admin.models import LogEntry
from django.core.cache import caches

from analytics_admin import services
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from tests.console.test_confirm_once import CASES, filled_in
from tests.support.console_pages import told

SHELL = Actor.system("root", channel="command")


def hold() -> None:
    for name in ("once.1", "once.2"):
        services.set_breaker_control(name=name, control="disabled", actor=SHELL)
    Operation.objects.all().delete()


HOLD, TICKED = CASES["hold one"], CASES["hold ticked"]
RELEASE = {"control": "automatic"}
TYPED = {
    **CASES,
    "clear softly": replace(
        CASES["clear"],
        pressed={"mode": "soft"},
        message="Search cache cleared softly: stale results for at most 60 s",
    ),
    "clear by tags": replace(
        CASES["clear"],
        pressed={"mode": "tags", "tags": "a, b"},
        message="Search cache cleared for 2 tags",
    ),
    "reset the open ones": replace(
        CASES["reset all"],
        pressed={"only_open": "True"},
        message="2 circuit breakers reset successfully",
    ),
    "release one": replace(
        HOLD,
        pressed=HOLD.pressed | RELEASE,
        before=hold,
        message="Circuit breaker once.1 set to automatic",
    ),
    "release ticked": replace(
        TICKED,
        pressed=TICKED.pressed | RELEASE,
        before=hold,
        message="2 circuit breakers set to automatic",
    ),
}


def standing():
    """Return all that an operation could change or leave behind."""
    client = caches["search"].client.get_client(write=True)
    return (
        {key: client.dump(key) for key in client.keys("*")},
        [(it.name, it.state, it.control, it.generation) for it in services.list_breakers()],
        Operation.objects.count(),
        LogEntry.objects.count(),
    )


def typed(page, case, name, **more):
    """Return what the confirm page sends; without the field where the name is None."""
    sent = filled_in(page, case, **more) | {"environment_name": name}
    return {key: value for key, value in sent.items() if value is not None}


def assert_done(answer, case, before=""):
    ((level, said),) = told(answer)
    assert level == "success"
    assert said.startswith(before + case.message)


def rest(sent):
    """Return what is to be kept: each page is an attempt of its own, and wants the name anew."""
    return {key: it for key, it in sent.items() if key not in {"attempt", "environment_name"}}
