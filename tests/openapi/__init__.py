"""Writes ``analytics_admin/api/openapi.json`` from the endpoints; ``python -m tests.openapi`` does.

The app serves the file as it is: it needs no generator, and a site's own one stays undisturbed.
"""
