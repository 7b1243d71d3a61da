"""``python -m tests.tools.openapi`` writes ``analytics_admin/api/openapi.json``.

The app serves the file as it is: it needs no generator, and a site's own one stays undisturbed.
"""
