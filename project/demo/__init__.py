"""A shop's search for operators to look at: a real index, cache and breaker over made-up goods.

Made like a site's own code over analytics_admin. Served where the setting ``DEMO_SEARCH`` is on.
"""
