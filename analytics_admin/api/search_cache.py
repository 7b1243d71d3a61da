"""The endpoint that says what is known of the search cache."""

from rest_framework.request import Request
from rest_framework.response import Response

from analytics_admin.api.breakers import ReadView
from analytics_admin.api.serializers import CacheQuery
from analytics_admin.services import describe_search_cache, plain_search_cache


class SearchCacheView(ReadView):
    """A store that is down is part of the answer, not an error."""

    def get(self, request: Request) -> Response:
        options = self.read_query(request, CacheQuery)
        return Response(plain_search_cache(describe_search_cache(**options)))
