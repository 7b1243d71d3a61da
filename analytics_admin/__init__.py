"""Operators' hands on a fleet's circuit breakers and search cache.

Three doors (Django admin, REST, ``manage.py``) lead into one set of services::

    from analytics_admin.services import Actor, clear_search_cache, reset_circuit_breakers

    operator = Actor.system("nightly import")
    clear_search_cache(actor=operator, reason="catalogue re-imported")
    reset_circuit_breakers(actor=operator, reason="backend is healthy again")

Behind them stand ``analytics_admin.breakers`` (circuit breakers shared by every process
of a site) and ``analytics_admin.caching`` (the search cache and how it is cleared).
"""

__version__ = "0.1.0"
