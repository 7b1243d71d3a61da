"""Registers the console's pages with the Django admin."""

from django.contrib import admin

from analytics_admin.console import register

register(admin.site)
