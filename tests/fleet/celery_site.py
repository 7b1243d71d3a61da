"""Celery's application beside the site: one task, a search that is counted in two ways."""

import os

from celery import Celery

from tests.fleet.served_site import counted_search

app = Celery("site", broker=os.environ["CELERY_BROKER_URL"])
app.conf.broker_connection_retry_on_startup = True
app.task(counted_search, name="search")
