"""``python -m tests.tools.openapi`` writes ``analytics_admin/api/openapi.json``.

The app serves the file unchanged: sites need no generator, and their own is not affected.
"""
