"""The endpoints of the audit trail: its pages, newest first, and one row."""

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from analytics_admin.api.base import CompactJSON
from analytics_admin.api.breakers import ReadView
from analytics_admin.api.serializers import NoQuery, OperationsQuery
from analytics_admin.services import (
    OperationFilter,
    describe_operation,
    page_operations,
    plain_operation,
)


class _AsciiJSON(CompactJSON):
    """For whatever a row's JSON holds: half a surrogate pair cannot be written but as an escape."""

    ensure_ascii = True


class OperationListView(ReadView):
    renderer_classes = (_AsciiJSON,)
    failure = "The audit trail cannot be read: %(reason)s"

    def get(self, request: Request) -> Response:
        options = self.read_query(request, OperationsQuery)
        paging = {name: options.pop(name) for name in ("page", "page_size") if name in options}
        listed = page_operations(chosen=OperationFilter(**options), **paging)
        return self.answer_page(listed, [plain_operation(it) for it in listed.operations])


class OperationView(ReadView):
    renderer_classes = (_AsciiJSON,)
    failure = OperationListView.failure

    def get(self, request: Request, operation_id: UUID) -> Response:
        self.read_query(request, NoQuery)
        return Response(plain_operation(describe_operation(operation_id)))
