"""A demo shop search: a real index, cache and breaker over made-up products.

Written like a site's own code. Served where the setting ``DEMO_SEARCH`` is on.
"""
