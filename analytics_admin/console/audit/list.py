"""The admin's list of operations at a bounded cost, however long the audit trail is."""

from typing import TYPE_CHECKING, Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from analytics_admin.console.audit.filters import OLDER_THAN
from analytics_admin.console.labels import count
from analytics_admin.models import Operation
from analytics_admin.services.audit_pages import (
    MAX_EXAMINED,
    MAX_PAGED,
    TrailPage,
    read_page,
)

if TYPE_CHECKING:
    _Paginator = Paginator[Operation]
else:
    _Paginator = Paginator

# By whether it is a search, and whether it went on where another had stopped.
_LIMITS = {
    (True, False): _("Searched the newest %(number)s operations only."),
    (True, True): _("Searched the next %(number)s operations only."),
    (False, False): _("Sorted the newest %(number)s operations only."),
    (False, True): _("Sorted the next %(number)s operations only."),
}


class OperationPaginator(_Paginator):
    """Numbers the pages that were counted, and those up to one after the page that is shown."""

    def __init__(self, part: TrailPage, per_page: int, number: int) -> None:
        super().__init__(part.operations, per_page)
        self.count = part.count or 0  # nobody counts once more
        pages = max(1, -(-self.count // per_page))
        if part.count_capped:
            following = number + (1 if part.next else 0)
            pages = max(pages, min(following, MAX_PAGED // per_page))
        self.num_pages = pages


class OperationList(ChangeList):
    """The rows that match, by pages; ``part`` says where a count or a search has stopped.

    Its queryset are the rows to search. The search is not in it, as a search is bounded.
    """

    part: TrailPage

    def get_results(self, request: HttpRequest) -> None:
        """Read one page, or all rows where they are few and asked for."""
        number = max(1, self.page_num)
        shows_all = False
        if self.show_all:
            self.part = self._read(1, self.list_max_show_all)
            shows_all = self._matches <= self.list_max_show_all
        if not shows_all:
            self.part = self._read(number, self.list_per_page)
            if self._matches <= self.list_per_page and number > 1:  # the only page, as in any list
                self.part = self._read(1, self.list_per_page)
            elif self.page_num < 1 or (not self.part.operations and number > 1):
                raise IncorrectLookupParameters
        self.result_count = self._matches
        self.result_list = self.part.operations
        self.full_result_count = self._matches  # the search form shows no count: the page does
        self.show_full_result_count = False
        self.show_admin_actions = False
        self.can_show_all = self._matches <= self.list_max_show_all
        self.multi_page = self._matches > self.list_per_page
        self.paginator = OperationPaginator(self.part, self.list_per_page, number)

    def url_for_result(self, result: Any) -> str:
        """Return the permalink, as ``reverse`` would: a page has many, at one address."""
        return f"{self._address}{result.pk}/"

    @cached_property
    def _address(self) -> str:
        model_admin: Any = self.model_admin
        address: str = model_admin.url()
        return address

    def _read(self, number: int, size: int) -> TrailPage:
        begin = (number - 1) * size
        return read_page(self.queryset, search=self.query, begin=begin, size=size)

    @property
    def _matches(self) -> int:
        return self.part.count or 0

    @cached_property
    def total(self) -> str:
        """How many operations match, as far as they are counted."""
        number = self._matches
        if self.part.count_capped:
            return gettext("More than %(number)s operations") % {"number": count(number)}
        text = ngettext("%(number)s operation", "%(number)s operations", number)
        return text % {"number": count(number)}

    @cached_property
    def limit(self) -> str:
        """Where a search or a sort has stopped; "" where it saw everything."""
        if self.part.edge is None:
            return ""
        return str(_LIMITS[bool(self.query.strip()), OLDER_THAN in self.params]) % {
            "number": count(MAX_EXAMINED)
        }

    @cached_property
    def older_label(self) -> str:
        """What the link to older operations says."""
        if self.part.edge is None:
            return gettext("Older operations")
        is_search = bool(self.query.strip())
        return gettext("Search older operations") if is_search else gettext("Sort older operations")

    @cached_property
    def older(self) -> str:
        """The address of the operations after those that pages, a search or a sort can reach."""
        position = self.part.edge
        if self.part.count_capped and self.page_num * self.list_per_page >= MAX_PAGED:
            position = self.part.next
        if position is None:
            return ""
        query: str = self.get_query_string({OLDER_THAN: str(position)})
        return query


class ExportedOperations(OperationList):
    """The rows for an export, which reads them by itself."""

    def get_results(self, request: HttpRequest) -> None:
        """Read nothing."""
