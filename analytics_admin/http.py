"""Responses for views that answer from the search cache."""

from typing import Any

from django.http import HttpResponse

from analytics_admin.caching import TextLookup


class CachedJsonResponse(HttpResponse):
    """A value of the search cache as it is stored, for views of Django and of REST framework.

    Takes what ``lookup_text(…)`` or ``text(…)`` returns. Of a lookup it tells the state in
    ``X-Cache`` and, in whole seconds, the age in ``Age``. JSON is always sent as UTF-8.

    Raises:
        TypeError: it is none of these.
    """

    def __init__(self, answer: TextLookup | str, **options: Any) -> None:
        options.setdefault("content_type", "application/json")
        text = answer if isinstance(answer, str) else getattr(answer, "text", None)
        if not isinstance(text, str):
            kind = type(answer).__name__
            raise TypeError(f"expected what lookup_text() or text() returns, not a {kind}")
        super().__init__(text.encode(), **options)
        if isinstance(answer, str):
            return
        self.headers.setdefault("X-Cache", answer.state)
        self.headers.setdefault("Age", str(int(answer.age)))
