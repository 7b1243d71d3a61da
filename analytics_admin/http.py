"""Responses for views that answer from the search cache."""

from typing import Any

from django.http import HttpResponse

from analytics_admin.caching import TextLookup


class CachedJsonResponse(HttpResponse):
    """A value of the search cache as it is stored, for views of Django and of REST framework.

    Takes what ``lookup_text(…)`` or ``text(…)`` returns. Of a lookup it tells the state in
    ``X-Cache`` and, in whole seconds, the age in ``Age``.
    """

    def __init__(self, answer: TextLookup | str, **options: Any) -> None:
        options.setdefault("content_type", "application/json")
        if isinstance(answer, str):
            super().__init__(answer, **options)
            return
        super().__init__(answer.text, **options)
        self.headers.setdefault("X-Cache", answer.state)
        self.headers.setdefault("Age", str(int(answer.age)))
