"""How it reads whether the fleet's processes obey: after an operation, on its page, in the list."""

import re
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext, ngettext

from analytics_admin.console.labels import count
from analytics_admin.models import Operation, with_zone
from analytics_admin.services.errors import StoreUnavailable
from analytics_admin.services.obedience import (
    MAX_MISSING_NAMED,
    OBEYED_KINDS,
    Obedience,
    count_current,
)
from analytics_admin.services.runner import OperationResult

FOLLOWED_FOR = timedelta(minutes=15)
"""For how long the page of an operation that not all obeyed says who does now."""
_TAG = re.compile(r"aa-operation-([0-9a-f-]{36})(?: aa-obeyed-(\d+)-(\d+)| aa-obeyed-(unknown))?")


def operation_tag(result: OperationResult) -> str:
    """Return the tag of the message about an operation, from which ``read_tag`` makes a line."""
    tag = f"aa-operation-{result.operation_id}"
    if result.acknowledged is None:
        return tag
    return f"{tag} aa-obeyed-{result.acknowledged.figures.replace('/', '-')}"


def read_tag(tags: str) -> dict[str, Any] | None:
    """Return the operation's id, and who obeys as a sentence; None for any other message."""
    if (found := _TAG.fullmatch(tags or "")) is None:
        return None
    operation_id, obeyed, processes, is_unknown = found.groups()
    sentence = ""
    if processes is not None:
        known = Obedience(processes=int(processes), obeyed=int(obeyed))
        sentence = _as_sentence(known.totals.localized())
    elif is_unknown:
        sentence = gettext("Whether processes obey is unknown.")
    return {"id": UUID(operation_id), "obedience": sentence}


def describe_obedience(operation: Operation, *, is_store_away: bool) -> dict[str, Any]:
    """Return who obeyed the operation, and who does now if that is worth another look."""
    is_awaited = operation.kind in OBEYED_KINDS and operation.status == Operation.Status.DONE
    then = Obedience.from_record(operation.outcome_fields.get("acknowledged"))
    if not is_awaited:
        return {}
    lines = [] if then is None else [_as_sentence(then.message.localized())]
    is_young = timezone.now() - with_zone(operation.started_at) < FOLLOWED_FOR
    is_open = "count" in operation.outcome_fields if then is None else not then.is_complete
    if is_young and is_open and not is_store_away:
        with suppress(StoreUnavailable):
            lines.append(gettext("Now: %(text)s.") % {"text": format_current(count_current())})
    return {"obedience": " ".join(lines)}


def format_current(current: Obedience) -> str:
    """Return how many processes obey the last change, without a full stop."""
    if not current.processes:
        return gettext("no process uses circuit breakers")
    if current.is_complete:
        text = ngettext(
            "%(number)s process, up to date",
            "%(number)s processes, all up to date",
            current.processes,
        )
        return text % {"number": count(current.processes)}
    missing = [f"{process.host}/{process.pid}" for process in current.missing[:MAX_MISSING_NAMED]]
    text = ngettext(
        "%(obeyed)s of %(number)s process up to date, without %(missing)s",
        "%(obeyed)s of %(number)s processes up to date, without %(missing)s",
        current.processes,
    )
    unnamed = current.processes - (current.obeyed or 0) - len(missing)
    if unnamed > 0:
        missing.append(gettext("%(number)s more") % {"number": count(unnamed)})
    return text % {
        "obeyed": count(current.obeyed or 0),
        "number": count(current.processes),
        "missing": ", ".join(missing),
    }


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
