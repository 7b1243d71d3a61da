"""An operator's process: it does each act that the driver sends, several at once if need be.

By the Python API, or over REST with a token as a client would.
"""

import json
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import django
import jwt

if __name__ == "__main__":
    django.setup()

from django.contrib.auth import get_user_model
from django.db import connections
from django.test import Client

from analytics_admin import services
from analytics_admin.breakers import circuit_breaker
from analytics_admin.services import Actor, OperatorError
from tests.support.chaos.events import Begun, Fault, Told
from tests.support.chaos.plan import NAMES, SHARED
from tests.support.chaos.program import POLICY, Orders, orders, ready
from tests.support.history.events import HistoryFile

THREADS = 4
API = "/api/v1/analytics"
DONE = "done"
USER = "root"


def main(given: Orders) -> None:
    logging.getLogger("django.request").setLevel(logging.CRITICAL)
    for name in (*NAMES, SHARED):
        circuit_breaker(name, **POLICY)  # never called: each call is written down
    operator = _Operator(given)
    ready()
    with ThreadPoolExecutor(THREADS) as threads:
        for line in sys.stdin:
            threads.submit(operator.act, **json.loads(line))


class _Operator:
    def __init__(self, given: Orders) -> None:
        self._process: str = given.process
        self._history: HistoryFile = given.history()
        user = get_user_model().objects.get(username=USER)
        self._actor = Actor.from_user(user)
        claims = {"sub": USER, "exp": int(time.time()) + 86_400}
        token = jwt.encode(claims, os.environ["JWT_SIGNING_KEY"], algorithm="HS256")
        self._rest = partial(_send, f"Bearer {token}")

    def act(self, *, id: str, kind: str, over_rest: bool, targets: dict[str, Any]) -> None:
        begun = Begun(
            act=id, kind=kind, at=time.monotonic(), over_rest=over_rest, targets=dict(targets)
        )
        self._history.write(begun)
        try:
            told = self._over_rest(begun) if over_rest else self._by_code(begun)
        except Exception as error:
            fault = Fault(process=self._process, at=time.monotonic(), what=f"{kind}: {error!r}")
            self._history.write(fault)
        else:
            self._history.write(told)
        finally:
            connections.close_all()

    def _by_code(self, act: Begun) -> Told:
        try:
            result = _SERVICES[act.kind](actor=self._actor, reason=act.act, **_arguments(act))
        except OperatorError as error:
            return Told(
                act=act.act,
                at=time.monotonic(),
                outcome=error.code,
                text=str(error),
                operation_id=str(error.operation_id or ""),
            )
        return Told(
            act=act.act,
            at=time.monotonic(),
            outcome=DONE,
            text=str(result.message),
            operation_id=str(result.operation_id),
            warnings=tuple(map(str, result.warnings)),
        )

    def _over_rest(self, act: Begun) -> Told:
        method, path = _PATHS[act.kind]
        body = {"reason": act.act, **_arguments(act)}
        name = body.pop("name", "")
        answer = self._rest(method, path.format(name=name), body)
        said = answer.json()
        return Told(
            act=act.act,
            at=time.monotonic(),
            outcome=DONE if answer.status_code == 200 else said.get("code", said["detail"]),
            text=str(said.get("message", said.get("detail"))),
            operation_id=answer.headers.get("X-Operation-Id", ""),
            warnings=tuple(filter(None, [answer.headers.get("X-Warning")])),
        )


def _send(token: str, method: str, path: str, body: dict[str, Any]) -> Any:
    return Client(raise_request_exception=False).generic(
        method,
        f"{API}/{path}",
        json.dumps(body),
        content_type="application/json",
        headers={"authorization": token},
    )


_SERVICES: dict[str, Any] = {
    "hold": services.set_breaker_control,
    "release": partial(services.set_breaker_control, control="automatic"),
    "reset": lambda *, name, **more: services.reset_circuit_breakers(names=[name], **more),
    "probe": services.allow_probe,
    "clear": services.clear_search_cache,
    "undo": services.undo_clear,
}
_PATHS = {
    "hold": ("PUT", "circuit-breakers/{name}/control"),
    "release": ("PUT", "circuit-breakers/{name}/control"),
    "reset": ("POST", "circuit-breakers/{name}/reset"),
    "probe": ("POST", "circuit-breakers/{name}/probe"),
    "clear": ("POST", "cache/clear"),
    "undo": ("POST", "cache/undo"),
}


def _arguments(act: Begun) -> dict[str, Any]:
    own = {key: value for key, value in act.targets.items() if value is not None}
    return own | ({"control": "automatic"} if act.kind == "release" and act.over_rest else {})


if __name__ == "__main__":
    main(orders())
