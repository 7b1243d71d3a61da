"""The yardstick of the console's list: Django's own changelist of a table, beside the site's URLs.

As many columns as the list of breakers has, ticks included, and nothing else: no filter, no search.
"""

from datetime import UTC, datetime, timedelta
from typing import ClassVar

from django.contrib import admin
from django.db import connection, models
from django.urls import path

from project.urls import urlpatterns as site_patterns

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Row(models.Model):
    name = models.CharField(max_length=100)
    state = models.CharField(max_length=20, choices=[("open", "Open"), ("closed", "Closed")])
    failure_rate = models.FloatField()
    calls_per_minute = models.IntegerField()
    rejected = models.IntegerField()
    history = models.CharField(max_length=200)
    next_probe = models.DateTimeField(null=True)
    hold = models.CharField(max_length=100)
    changed_at = models.DateTimeField()

    class Meta:
        app_label = "analytics_admin"

    def __str__(self) -> str:
        return self.name


class RowAdmin(admin.ModelAdmin):
    list_display: ClassVar = (
        "name",
        "state",
        "failure_rate",
        "calls_per_minute",
        "rejected",
        "history",
        "next_probe",
        "hold",
        "changed_at",
    )
    list_per_page = 100


def fill_table(number: int) -> None:
    """Create the table with so many rows."""
    with connection.schema_editor() as editor:
        editor.create_model(Row)
    Row.objects.bulk_create(
        Row(
            name=f"registered-{index}",
            state="closed" if index % 200 else "open",
            failure_rate=index % 1000 / 10,
            calls_per_minute=index % 90,
            rejected=index % 7,
            history="M0 24v-12h3v12z" * 10,
            next_probe=None if index % 200 else BEGAN + timedelta(seconds=index),
            hold="none",
            changed_at=BEGAN + timedelta(seconds=index),
        )
        for index in range(number)
    )


plain_site = admin.AdminSite(name="plain")
plain_site.register(Row, RowAdmin)

urlpatterns = [path("plain/", plain_site.urls), *site_patterns]
