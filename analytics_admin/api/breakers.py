"""The endpoints of circuit breakers: the list, one in full, its reset, control, probe and end."""

from contextlib import suppress
from typing import Any

from django.http import HttpRequest
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from analytics_admin.api.base import OperatorView, actor_of, report
from analytics_admin.api.etags import etag, if_match_generations
from analytics_admin.api.serializers import (
    BreakersQuery,
    ClearBody,
    ControlBody,
    NoQuery,
)
from analytics_admin.services import (
    FAILURE_MESSAGES,
    Act,
    BreakerPage,
    OperationPage,
    StoreUnavailable,
    allow_probe,
    as_plain,
    describe_breaker,
    forget_breaker,
    page_breakers,
    reset_circuit_breakers,
    set_breaker_control,
)


class ReadView(OperatorView):
    """An endpoint that answers an operator's question."""

    http_method_names = ["get", "head"]  # noqa: RUF012  Django's own annotation

    act = Act.VIEW_CONSOLE
    failure = "The state is unknown: %(reason)s"

    def answer_page(
        self, listed: BreakerPage | OperationPage, results: list[Any], **more: Any
    ) -> Response:
        """Answer with a page of a list; one beyond the last is not there."""
        if listed.page > listed.pages:
            raise NotFound(f"There is no page {listed.page}: the last one is {listed.pages}")
        place = {"count": listed.count, "page": listed.page, "pages": listed.pages}
        return Response({**place, **more, "results": results})


class BreakerListView(ReadView):
    def get(self, request: Request) -> Response:
        listed = page_breakers(**self.read_query(request, BreakersQuery))
        results = [as_plain(status) for status in listed.breakers]
        return self.answer_page(listed, results, states=dict(listed.states))


class BreakerView(ReadView):
    """One breaker: all that is known of it, and its end, which is an act."""

    http_method_names = ["get", "head", "delete"]  # noqa: RUF012  Django's own annotation

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        if request.method == "DELETE":
            self.act = Act.FORGET_CIRCUIT_BREAKER
            self.failure = FAILURE_MESSAGES[self.act]

    def get(self, request: Request, name: str) -> Response:
        self.read_query(request, NoQuery)
        detail = describe_breaker(name)
        return Response(as_plain(detail), headers={"ETag": etag(detail.status)})

    def delete(self, request: Request, name: str) -> Response:
        options = self.read_body(request, ClearBody)
        expected = _expected_generation(request, name)
        return report(
            forget_breaker(
                name=name, actor=actor_of(request), expected_generation=expected, **options
            )
        )


class BreakerResetView(OperatorView):
    act = Act.RESET_CIRCUIT_BREAKERS
    failure = FAILURE_MESSAGES[act]

    def post(self, request: Request, name: str) -> Response:
        options = self.read_body(request, ClearBody)
        expected = _expected_generation(request, name)
        return report(
            reset_circuit_breakers(
                names=[name], actor=actor_of(request), expected_generation=expected, **options
            )
        )


class BreakerControlView(OperatorView):
    act = Act.CONTROL_CIRCUIT_BREAKERS
    failure = FAILURE_MESSAGES[act]

    def put(self, request: Request, name: str) -> Response:
        options = self.read_body(request, ControlBody)
        expected = _expected_generation(request, name)
        return report(
            set_breaker_control(
                name=name, actor=actor_of(request), expected_generation=expected, **options
            )
        )


class BreakerProbeView(OperatorView):
    act = Act.ALLOW_PROBE
    failure = FAILURE_MESSAGES[act]

    def post(self, request: Request, name: str) -> Response:
        options = self.read_body(request, ClearBody)
        expected = _expected_generation(request, name)
        return report(
            allow_probe(name=name, actor=actor_of(request), expected_generation=expected, **options)
        )


def _expected_generation(request: Request, name: str) -> str | None:
    """Return the one generation that the service is to insist on; of several, the present one."""
    asked = if_match_generations(request)
    if asked is None:
        return None
    if len(asked) > 1:
        with suppress(StoreUnavailable):  # the act's to report
            now = describe_breaker(name).status.generation
            return now if now in asked else asked[0]
    return asked[0]
