"""The endpoints of the audit trail: the list of operations, newest first, and one operation."""

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from analytics_admin.api.base import CompactJSON, ReadView, page_response
from analytics_admin.api.serializers import NoQuery, OperationsQuery
from analytics_admin.services.audit_queries import (
    OperationFilter,
    describe_operation,
    page_operations,
)
from analytics_admin.services.json import to_json


class _AsciiJSON(CompactJSON):
    """Escapes non-ASCII text: a row's JSON may hold half a surrogate pair, unwritable otherwise."""

    ensure_ascii = True


class OperationListView(ReadView):
    renderer_classes = (_AsciiJSON,)
    failure = "The audit trail cannot be read: %(reason)s"

    def get(self, request: Request) -> Response:
        options = self.read_query(request, OperationsQuery)
        paging = {name: options.pop(name) for name in ("page", "page_size") if name in options}
        page = page_operations(chosen=OperationFilter(**options), **paging)
        return page_response(page, page.operations)


class OperationView(ReadView):
    renderer_classes = (_AsciiJSON,)
    failure = OperationListView.failure

    def get(self, request: Request, operation_id: UUID) -> Response:
        self.read_query(request, NoQuery)
        return Response(to_json(describe_operation(operation_id)))
