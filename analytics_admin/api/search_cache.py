"""The endpoints of the search cache: status, clear, undo."""

from rest_framework.request import Request
from rest_framework.response import Response

from analytics_admin.api.base import OperatorView, ReadView, actor_of, operation_response
from analytics_admin.api.serializers import CacheQuery, ClearCacheBody, OperationBody
from analytics_admin.models import Operation
from analytics_admin.services import (
    FAILURE_MESSAGES,
    clear_search_cache,
    describe_search_cache,
    plain_search_cache,
    undo_clear,
)


class SearchCacheView(ReadView):
    """A store that is down is part of the status, not an error."""

    def get(self, request: Request) -> Response:
        options = self.read_query(request, CacheQuery)
        return Response(plain_search_cache(describe_search_cache(**options)))


class ClearSearchCacheView(OperatorView):
    act = Operation.Kind.CLEAR_SEARCH_CACHE
    failure = FAILURE_MESSAGES[act]

    def post(self, request: Request) -> Response:
        options = self.read_body(request, ClearCacheBody)
        return operation_response(clear_search_cache(actor=actor_of(request), **options))


class UndoClearView(OperatorView):
    act = Operation.Kind.UNDO_CLEAR
    failure = FAILURE_MESSAGES[act]

    def post(self, request: Request) -> Response:
        options = self.read_body(request, OperationBody)
        return operation_response(undo_clear(actor=actor_of(request), **options))
