"""Registers the console's pages with the Django admin."""
