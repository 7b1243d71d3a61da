"""A small site that runs analytics_admin: settings, a store for development, a demonstration."""
