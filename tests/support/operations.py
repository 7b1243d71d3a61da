"""What acts change, and all that they could want, for tests that send everything everywhere."""

import json
from typing import Any
from urllib.parse import urlencode

from django.core.cache import caches
from django.test import Client

from analytics_admin.models import Operation
from analytics_admin.services import Actor, clear_search_cache, describe_breaker, list_breakers
from tests.support.breakers import rest_engines, trip
from tests.support.routes import API, example

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
FORM = "application/x-www-form-urlencoded"  # as a browser sends one; Django's client does not
CLICKS = [*METHODS, "CONFIRM"]  # the confirm page sent back: the only one that may act
BODIES = {
    "analytics/circuit-breakers/<str:name>/control": {"control": "disabled"},
    "analytics/circuit-breakers/control": {"names": ["guarded"], "control": "disabled"},
    "analytics/circuit-breakers/probe": {"names": ["guarded"]},
    "analytics/circuit-breakers/forget": {"names": ["guarded"]},
    "auth/token": {"username": "super", "password": "pw"},
}


def stage() -> Any:
    """Have something that each act would change; return the id of an operation on record."""
    Operation.objects.all().delete()
    rest_engines()  # none is to bring back what it knows
    caches["default"].client.get_client(write=True).flushall()
    caches["search"].set("query", "answer")
    clear_search_cache(actor=Actor.system("stage"), mode="soft")
    trip("guarded")
    return Operation.objects.get().pk


def state() -> Any:
    """Return all that an act would change, and the acts on record but for the refused ones."""
    breakers = {it.name: (it.state, it.control, it.generation) for it in list_breakers()}
    acts = Operation.objects.exclude(status=Operation.Status.DENIED)
    return caches["search"].get("query"), breakers, list(acts.values_list("pk", flat=True))


def denied() -> int:
    """Take the rows of refused acts away; return how many there were."""
    return Operation.objects.filter(status=Operation.Status.DENIED).delete()[0]


def everything_that_acts_want() -> dict[str, Any]:
    generation = describe_breaker("guarded").status.generation
    return {
        "names": ["guarded"],
        "generations": [generation],
        "expected_generation": generation,
        "control": "disabled",
        "for_seconds": "900",
    }


def submit(client: Client, url: str, sent: dict[str, Any]) -> Any:
    """Send a form as a browser does."""
    return client.post(url, urlencode(sent, doseq=True), content_type=FORM)


def click(client: Client, method: str, url: str, sent: dict[str, Any]) -> Any:
    """Send it; by the methods that are not to act, in the address, and as if it were confirmed."""
    confirmed = {**sent, "confirmed": "yes"} if sent else {}
    if method in {"POST", "CONFIRM"}:
        return submit(client, url, confirmed if method == "CONFIRM" else sent)
    return client.generic(method, f"{url}?{urlencode(confirmed, doseq=True)}")


def call(
    method: str, address: str, body: dict[str, Any], headers: dict[str, str], operation: Any = ""
) -> Any:
    sent = json.dumps(body) if body and method in {"POST", "PUT"} else ""
    url, kind = API + example(address, operation), "application/json"
    return Client().generic(method, url, sent, content_type=kind, headers=headers)
