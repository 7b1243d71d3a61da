"""The endpoints of circuit breakers: list, detail, reset, control, probe, forget; one or many."""

from contextlib import suppress
from typing import Any

from django.http import HttpRequest
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response

from analytics_admin.api.base import (
    OperatorView,
    ReadView,
    operation_response,
    page_response,
)
from analytics_admin.api.etags import etag, if_match_generations
from analytics_admin.api.serializers import (
    BreakersQuery,
    ControlBody,
    ControlNamesBody,
    NamesBody,
    NoQuery,
    OperationBody,
    ResetBody,
    StrictSerializer,
)
from analytics_admin.models import Operation
from analytics_admin.services.breakers import operations, processes, queries
from analytics_admin.services.errors import StoreUnavailable
from analytics_admin.services.json import row_to_json, to_json

OF_ONE_BREAKER = ("GET", "HEAD", "DELETE")
"""Methods that address a breaker itself."""


class BreakerListView(ReadView):
    def get(self, request: Request) -> Response:
        page = queries.page_breakers(activity=True, **self.read_query(request, BreakersQuery))
        rows = (row_to_json(status, page.activity[status.name]) for status in page.breakers)
        return page_response(page, rows, states=dict(page.states))


class BreakerView(ReadView):
    """One breaker: GET describes it, DELETE forgets it."""

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        if request.method == "DELETE":
            self.action = Operation.Kind.FORGET_CIRCUIT_BREAKER

    def get(self, request: Request, name: str) -> Response:
        self.read_query(request, NoQuery)
        detail = queries.describe_breaker(name)
        return Response(to_json(detail), headers={"ETag": etag(detail.status.generation)})

    def delete(self, request: Request, name: str) -> Response:
        arguments = _read_arguments(self, request, name)
        return operation_response(operations.forget_breaker(name=name, **arguments))


class BreakersView(BreakerView):
    """An operation on many breakers; a breaker of the path's name is read and forgotten here."""

    name: str  # the path's
    operation: Operation.Kind

    _is_of_breaker = False

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        if request.method not in OF_ONE_BREAKER:
            self.action = self.operation

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        with suppress(AuthenticationFailed):
            if request.method in OF_ONE_BREAKER and request.auth is not None:
                self._is_of_breaker = queries.is_known(self.name)
        super().initial(request, *args, **kwargs)

    @property
    def allowed_methods(self) -> list[str]:
        every: list[str] = super().allowed_methods
        if self._is_of_breaker:
            return every
        return [method for method in every if method not in OF_ONE_BREAKER]

    def get(self, request: Request, name: str = "") -> Response:
        return super().get(request, self.name)

    def delete(self, request: Request, name: str = "") -> Response:
        return super().delete(request, self.name)


class BreakersResetView(BreakersView):
    name = "reset"
    operation = Operation.Kind.RESET_CIRCUIT_BREAKERS

    def post(self, request: Request) -> Response:
        options = self.read_body(request, ResetBody)
        return operation_response(operations.reset_circuit_breakers(actor=self.actor, **options))


class BreakersControlView(BreakersView):
    name = "control"
    operation = Operation.Kind.CONTROL_CIRCUIT_BREAKERS

    def put(self, request: Request) -> Response:
        options = self.read_body(request, ControlNamesBody)
        return operation_response(operations.set_breaker_controls(actor=self.actor, **options))


class BreakersProbeView(BreakersView):
    name = "probe"
    operation = Operation.Kind.ALLOW_PROBE

    def post(self, request: Request) -> Response:
        options = self.read_body(request, NamesBody)
        return operation_response(operations.allow_probes(actor=self.actor, **options))


class BreakersForgetView(BreakersView):
    name = "forget"
    operation = Operation.Kind.FORGET_CIRCUIT_BREAKER

    def post(self, request: Request) -> Response:
        options = self.read_body(request, NamesBody)
        return operation_response(operations.forget_breakers(actor=self.actor, **options))


class BreakerResetView(OperatorView):
    action = Operation.Kind.RESET_CIRCUIT_BREAKERS

    def post(self, request: Request, name: str) -> Response:
        arguments = _read_arguments(self, request, name)
        return operation_response(operations.reset_circuit_breakers(names=[name], **arguments))


class BreakerControlView(OperatorView):
    action = Operation.Kind.CONTROL_CIRCUIT_BREAKERS

    def put(self, request: Request, name: str) -> Response:
        arguments = _read_arguments(self, request, name, ControlBody)
        return operation_response(operations.set_breaker_control(name=name, **arguments))


class BreakerProbeView(OperatorView):
    action = Operation.Kind.ALLOW_PROBE

    def post(self, request: Request, name: str) -> Response:
        arguments = _read_arguments(self, request, name)
        return operation_response(operations.allow_probe(name=name, **arguments))


class ProcessListView(ReadView):
    """The processes that use circuit breakers."""

    def get(self, request: Request) -> Response:
        self.read_query(request, NoQuery)
        found = processes.list_processes()
        current = sum(process.is_current for process in found)
        rows = [to_json(process) for process in found]
        return Response({"count": len(rows), "current": current, "results": rows})


def _read_arguments(
    view: OperatorView, request: Request, name: str, body: type[StrictSerializer] = OperationBody
) -> dict[str, Any]:
    """Return the arguments, but for the name, of an operation on the breaker in the path."""
    options = view.read_body(request, body)
    expected = _expected_generation(request, name)
    return {"actor": view.actor, "expected_generation": expected, **options}


def _expected_generation(request: Request, name: str) -> str | None:
    """Return the generation that the service is to require; of several, the current one."""
    generations = if_match_generations(request)
    if generations is None:
        return None
    if len(generations) > 1:
        with suppress(StoreUnavailable):  # the operation will report it
            current = queries.describe_breaker(name).status.generation
            return current if current in generations else generations[0]
    return generations[0]
