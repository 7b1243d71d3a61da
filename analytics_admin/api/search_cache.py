"""The endpoints of the search cache: status, clear, undo."""

from rest_framework.request import Request
from rest_framework.response import Response

from analytics_admin.api.base import OperatorView, ReadView, operation_response
from analytics_admin.api.serializers import CacheQuery, ClearCacheBody, UndoBody
from analytics_admin.models import Operation
from analytics_admin.permissions import CLEAR_PART
from analytics_admin.services.json import to_json
from analytics_admin.services.search_cache.operations import clear_search_cache, undo_clear
from analytics_admin.services.search_cache.queries import describe_search_cache


class SearchCacheView(ReadView):
    """A store that is down is part of the status, not an error."""

    def get(self, request: Request) -> Response:
        options = self.read_query(request, CacheQuery)
        return Response(to_json(describe_search_cache(**options)))


class ClearSearchCacheView(OperatorView):
    action = Operation.Kind.CLEAR_SEARCH_CACHE
    permission = CLEAR_PART

    def post(self, request: Request) -> Response:
        options = self.read_body(request, ClearCacheBody)
        return operation_response(clear_search_cache(actor=self.actor, **options))


class UndoClearView(OperatorView):
    action = Operation.Kind.UNDO_CLEAR
    permission = CLEAR_PART

    def post(self, request: Request) -> Response:
        options = self.read_body(request, UndoBody)
        return operation_response(undo_clear(actor=self.actor, **options))
