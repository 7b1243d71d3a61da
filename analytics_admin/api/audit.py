"""The endpoints of the audit trail: the list of operations, newest first, and one operation."""

from uuid import UUID

from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from analytics_admin.api.base import CompactJSON, ReadView
from analytics_admin.api.serializers import NoQuery, OperationsQuery
from analytics_admin.services.audit_pages import PageOutOfReach
from analytics_admin.services.audit_queries import (
    OperationFilter,
    describe_operation,
    page_operations,
)
from analytics_admin.services.json import to_json

PAGING = ("page", "page_size", "cursor")


class _AsciiJSON(CompactJSON):
    """Escapes non-ASCII text: a row's JSON may hold half a surrogate pair, unwritable otherwise."""

    ensure_ascii = True


class OperationListView(ReadView):
    renderer_classes = (_AsciiJSON,)
    failure = "The audit trail cannot be read: %(reason)s"

    def get(self, request: Request) -> Response:
        options = self.read_query(request, OperationsQuery)
        paging = {name: options.pop(name) for name in PAGING if name in options}
        try:
            page = page_operations(chosen=OperationFilter(**options), **paging)
        except PageOutOfReach as error:
            raise ValidationError({"page": str(error)}) from None
        if not page.operations and page.page not in {None, 1}:
            known = f": the last one is {page.pages}" if not page.count_capped else ""
            raise NotFound(f"There is no page {page.page}{known}")
        limits = {"count_capped": page.count_capped, "search_capped": page.search_capped}
        position = {"count": page.count, **limits, "page": page.page, "pages": page.pages}
        results = [to_json(operation) for operation in page.operations]
        return Response({**position, "next_cursor": page.next_cursor, "results": results})


class OperationView(ReadView):
    renderer_classes = (_AsciiJSON,)
    failure = OperationListView.failure

    def get(self, request: Request, operation_id: UUID) -> Response:
        self.read_query(request, NoQuery)
        return Response(to_json(describe_operation(operation_id)))
