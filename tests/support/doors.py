"""An operator at each of the four doors: the service, REST, the admin's pages and manage.py.

A request says once what is wanted, in the terms of each door; every door performs it and answers
alike, so that one test holds all of them to the same behaviour.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Protocol
from uuid import UUID

from django.core.management import CommandError, call_command
from django.test import Client

from analytics_admin import services
from analytics_admin.services import Actor
from analytics_admin.tokens import issue_access_token
from tests.support.console_pages import inputs, told

API = "/api/v1/analytics/"
SECTION = "/admin/analytics_admin/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An operation on something, as each door is asked for it."""

    service: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    command: tuple[str, ...]
    method: str = "POST"
    path: str
    """Of the endpoint, below the API's root."""
    body: dict[str, Any] = field(default_factory=dict)
    page: str
    """Where the console's button stands; ``button`` is where its form goes, below the page."""
    button: str
    form: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    generation: str | None = None
    """The one that the operator has seen, if any."""
    dry_run: bool = False
    """Only look at what would happen. In the console the confirm page says that."""


def clear(mode: str, tags: Sequence[str] = ()) -> Request:
    options = [part for tag in tags for part in ("--tag", tag)]
    return Request(
        service=services.clear_search_cache,
        arguments={"mode": mode, "tags": tags or None},
        command=("clear_search_cache", *(["--soft"] if mode == "soft" else []), *options),
        path="cache/clear",
        body={"tags": tags} if tags else {"mode": mode},
        page="searchcache/",
        button="clear/",
        form={"mode": "tags" if tags else mode, "tags": ",".join(tags)},
    )


def undo_clear() -> Request:
    return Request(
        service=services.undo_clear,
        command=("undo_clear",),
        path="cache/undo",
        page="searchcache/",
        button="undo/",
    )


def reset(name: str | None) -> Request:
    """Reset this breaker; None: all."""
    return Request(
        service=services.reset_circuit_breakers,
        arguments={"names": [name] if name else None},
        command=("reset_circuit_breakers", *([name] if name else [])),
        path=f"circuit-breakers/{name}/reset" if name else "circuit-breakers/reset",
        page=f"circuitbreaker/{name}/" if name else "circuitbreaker/",
        button="reset/",
    )


def control(name: str, control: str, seconds: int | None = None) -> Request:
    """Hold or release this breaker; for as long as each door holds it, if None."""
    length = {} if seconds is None else {"for_seconds": seconds}
    options = [] if seconds is None else ["--for", f"{seconds}s"]
    return Request(
        service=services.set_breaker_control,
        arguments={"name": name, "control": control, **length},
        command=("set_circuit_breaker", name, control, *options),
        method="PUT",
        path=f"circuit-breakers/{name}/control",
        body={"control": control, **length},
        page=f"circuitbreaker/{name}/",
        button="control/",
        form={"control": control, "for_seconds": str(seconds or 3600)},
    )


def allow_probe(name: str) -> Request:
    return Request(
        service=services.allow_probe,
        arguments={"name": name},
        command=("allow_probe", name),
        path=f"circuit-breakers/{name}/probe",
        page=f"circuitbreaker/{name}/",
        button="probe/",
    )


def forget(name: str) -> Request:
    return Request(
        service=services.forget_breaker,
        arguments={"name": name},
        command=("forget_circuit_breaker", name),
        method="DELETE",
        path=f"circuit-breakers/{name}",
        page=f"circuitbreaker/{name}/",
        button="forget/",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a door said: the message, or why not; the row, where the door tells its id."""

    done: bool
    message: str
    operation_id: UUID | None = None


class Door(Protocol):
    """Performs a request, as each operator comes to it."""

    def perform(self, request: Request) -> Answer:
        """Return what was said of the operation, done or not."""


@dataclass(frozen=True, slots=True)
class ServiceDoor:
    user: Any

    def perform(self, request: Request) -> Answer:
        seen = _if_seen("expected_generation", request)
        try:
            result = request.service(
                actor=Actor.from_user(self.user),
                reason=request.reason,
                dry_run=request.dry_run,
                **request.arguments,
                **seen,
            )
        except services.OperatorError as error:
            return Answer(done=False, message=str(error))
        return Answer(done=True, message=result.message, operation_id=result.operation_id)


@dataclass(frozen=True, slots=True)
class RestDoor:
    user: Any

    def perform(self, request: Request) -> Answer:
        body = {"reason": request.reason, "dry_run": request.dry_run, **request.body}
        answer = self.send(request.method, request.path, body, request.generation)
        said = answer.json()
        row = answer.headers.get("X-Operation-Id")
        return Answer(
            done=answer.status_code == 200,
            message=said["message"] if answer.status_code == 200 else said["detail"],
            operation_id=UUID(row) if row else None,
        )

    def send(self, method: str, path: str, body: Any, generation: str | None = None) -> Any:
        """Send a request with a token of the user; return the HTTP answer."""
        headers = {"Authorization": f"Bearer {issue_access_token(self.user)}"}
        if generation is not None:
            headers["If-Match"] = f'"{generation}"'
        content = json.dumps(body)
        return Client().generic(
            method, API + path, content, content_type="application/json", headers=headers
        )


@dataclass(frozen=True, slots=True)
class ConsoleDoor:
    user: Any

    def perform(self, request: Request) -> Answer:
        """Press the button, fill in the confirm page as it came, read the message after it."""
        client = self._client()
        url = f"{SECTION}{request.page}{request.button}"
        sent = {**_form(client.get(f"{SECTION}{request.page}"), url), **request.form}
        sent |= _if_seen("expected_generation", request)
        answer = client.post(url, sent, follow=True)
        if 'name="confirmed"' in answer.text:
            if request.dry_run:
                return Answer(done=False, message=answer.text)
            answer = client.post(url, {**_form(answer, url), "reason": request.reason}, follow=True)
        ((level, message),) = told(answer)
        return Answer(done=level == "success", message=message)

    def offers(self, request: Request) -> bool:
        """Say whether the page has the button."""
        page = self._client().get(f"{SECTION}{request.page}")
        return f'action="{SECTION}{request.page}{request.button}"' in page.text

    def _client(self) -> Client:
        client = Client(enforce_csrf_checks=True)
        client.force_login(self.user)
        return client


class CommandDoor:
    def perform(self, request: Request) -> Answer:
        seen = [part for pair in _if_seen("--if-generation", request).items() for part in pair]
        way = "--dry-run" if request.dry_run else "--no-input"
        code, out, _ = run(*request.command, way, "--json", "--reason", request.reason, *seen)
        said = json.loads(out)
        row = said.get("operation_id")
        return Answer(
            done=code == 0,
            message=said["message"] if code == 0 else said["detail"],
            operation_id=UUID(row) if row else None,
        )


def _if_seen(name: str, request: Request) -> dict[str, str]:
    return {} if request.generation is None else {name: request.generation}


def _form(page: Any, url: str) -> dict[str, list[str]]:
    """Return what the page's form to this address sends as it stands, if the page has it."""
    fields: dict[str, list[str]] = {}
    for name, value in inputs(page, url) if f'action="{url}"' in page.text else []:
        fields.setdefault(name, []).append(value.strip())
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert token is not None
    return {**fields, "csrfmiddlewaretoken": [token[1]]}


def run(*argv: str) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, stdout and stderr."""
    out, err = StringIO(), StringIO()
    try:
        call_command(*argv, stdout=out, stderr=err)
    except CommandError as error:
        return error.returncode, out.getvalue(), f"{err.getvalue()}{error}"
    return 0, out.getvalue(), err.getvalue()


def every_door(user: Any) -> dict[str, Door]:
    """Return the doors by name; the user is who comes to each but the shell."""
    return {
        "service": ServiceDoor(user),
        "rest": RestDoor(user),
        "console": ConsoleDoor(user),
        "command": CommandDoor(),
    }
