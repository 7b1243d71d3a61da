"""A small site that runs analytics_admin: settings, a development store and a demo."""
