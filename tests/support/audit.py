"""What the tests of the audit trail's pages share."""

from typing import Any
from uuid import UUID

from django.urls import reverse

from analytics_admin.models import Operation

LIST = "/admin/analytics_admin/operation/"
EXPORT = f"{LIST}export/"
HOSTILE = "<script>alert(1)</script>"


def record(**fields: Any) -> Operation:
    return Operation.objects.create(
        **{"kind": "clear_search_cache", "channel": "api", "actor": "ada", "status": "done"}
        | fields
    )


def shown(answer: Any) -> list[UUID]:
    return [row.pk for row in answer.context["cl"].result_list]


def page_of(operation: Operation) -> str:
    return reverse("admin:analytics_admin_operation_change", args=[operation.pk])
