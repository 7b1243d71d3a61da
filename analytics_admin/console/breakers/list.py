"""The list of circuit breakers: its filters, its page, the verdict on all."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.core.paginator import Paginator
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from analytics_admin.console.breakers.rows import (
    build_rows,
    column_headings,
    rows_etag_source,
    summarize_recent,
)
from analytics_admin.console.labels import count, state_badge
from analytics_admin.console.obedience import format_current
from analytics_admin.services.breakers import queries
from analytics_admin.services.breakers.queries import (
    BREAKER_STATES,
    MAX_BREAKERS_PER_PAGE,
    REJECTING_STATES,
)
from analytics_admin.services.breakers.types import BreakerPage

DEFAULT_SORT = "urgency"
MAX_SEARCH_LENGTH = 100


class ListForm(forms.Form):
    """Filters and order of the list; sent by GET."""

    search = forms.CharField(label=_("Name contains"), required=False, max_length=MAX_SEARCH_LENGTH)
    state = forms.ChoiceField(
        label=_("State"),
        required=False,
        choices=[("", _("All")), *((state, state_badge(state).word) for state in BREAKER_STATES)],
    )
    sort = forms.ChoiceField(
        label=_("Order"),
        required=False,
        choices=[("urgency", _("Most urgent first")), ("name", _("By name"))],
    )


def list_query(sent: QueryDict) -> str:
    """Return the query of the list's filters, order and page; "" for the default list.

    Unknown parameters are left out.
    """
    page = _read_page(sent)
    return _encode({**_read_filters(ListForm(sent)), "page": "" if page == 1 else page})


def describe_list(request: HttpRequest, url_of: Callable[[str], str]) -> dict[str, Any]:
    """Return the list as its address asks for it; all breakers if a filter is unknown.

    ``url_of`` returns the address of a breaker's own page, "" where it has none.

    Raises:
        StoreUnavailable
    """
    form = ListForm(request.GET)
    filters = _read_filters(form)
    page = _find_page(filters, _read_page(request.GET))
    paged = Paginator(range(page.count), MAX_BREAKERS_PER_PAGE).page(page.page)
    recent = {name: summarize_recent(activity) for name, activity in page.activity.items()}
    query = _encode(filters)
    processes = format_current(page.processes) if page.processes else ""
    return {
        "processes": processes,
        "etag_source": (
            filters,
            page.page,
            page.count,
            page.states,
            processes,
            rows_etag_source(page, recent),
        ),
        "filter_form": ListForm(initial={**filters, "sort": filters["sort"] or DEFAULT_SORT}),
        "complaint": ""
        if form.is_valid()
        else gettext("Unknown filter. Showing all circuit breakers."),
        "filtered": bool(filters["search"] or filters["state"]),
        "listing": bool(page.breakers),
        "headings": column_headings(),
        # Built when the template asks for them: a page that is not new needs none.
        "rows": build_rows(page, recent, url_of),
        "page": paged,
        "page_range": paged.paginator.get_elided_page_range(page.page),
        "page_address": f"?{query}&page=" if query else "?page=",
        "listed": count(page.count),
        "verdict": verdict(page.states),
        "tone": tone(page.states),
    }


def verdict(states: Mapping[str, int]) -> str:
    """Return in one line how many of all breakers reject calls now."""
    every = sum(states.values())
    if not every:
        return gettext("No circuit breaker is registered yet")
    refusing = sum(states.get(state, 0) for state in REJECTING_STATES)
    figures = {"open": count(refusing), "all": count(every)}
    text = ngettext("%(open)s of %(all)s breaker open", "%(open)s of %(all)s breakers open", every)
    return text % figures


def tone(states: Mapping[str, int]) -> str:
    """Return the verdict's tone: good only when every breaker is closed."""
    met = {state for state, number in states.items() if number}
    if met.intersection(REJECTING_STATES):
        return "bad"
    if not met:
        return "quiet"
    return "good" if met == {"closed"} else "warn"


def _read_filters(form: ListForm) -> dict[str, str]:
    filters = form.cleaned_data if form.is_valid() else {}
    return {key: filters.get(key, "") for key in ("search", "state", "sort")}


def _read_page(sent: QueryDict) -> int:
    try:
        return max(1, int(sent.get("page") or 1))
    except ValueError:
        return 1


def _find_page(filters: Mapping[str, str], number: int) -> BreakerPage:
    """Return the page, or the last one if there are fewer."""
    arguments: dict[str, Any] = {
        "state": filters["state"] or None,
        "search": filters["search"],
        "sort": filters["sort"] or DEFAULT_SORT,
        "activity": True,
        "processes": True,
    }
    page = queries.page_breakers(**arguments, page=number)
    if number <= page.pages:
        return page
    page = queries.page_breakers(**arguments, page=page.pages)
    # Breakers may have been forgotten between the two queries.
    return page if page.page <= page.pages else queries.page_breakers(**arguments)


def _encode(filters: Mapping[str, Any]) -> str:
    """Return the query without default values."""
    default = ("sort", DEFAULT_SORT)
    return urlencode({k: v for k, v in filters.items() if v and (k, v) != default})
