"""Fixtures for tests of whole processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.deployments import Deployment
from tests.support.sites import Site

BUSY_OPERATORS = """
ANALYTICS_ADMIN = {**ANALYTICS_ADMIN, "THROTTLE_RATES": {"write": None, "login": None}}
ROOT_URLCONF = "site_urls"
"""
# Holds that a test can wait for: the admin offers none of so few seconds.
SHORT_HOLDS = """
from analytics_admin.console import forms

forms.HOLD_DURATIONS.insert(0, ("1.2", "a moment"))
for form in (forms.ControlForm, forms.ConfirmControlForm):
    form.base_fields["for_seconds"].choices = forms.HOLD_DURATIONS

from project.urls import *
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "site")
    yield site
    site.close()


@pytest.fixture(scope="session")
def staffed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A site for operators who act all the time; two workers serve it."""
    deployment = Deployment(tmp_path_factory.mktemp("staffed") / "site", settings=BUSY_OPERATORS)
    (deployment.site.folder / "site_urls.py").write_text(SHORT_HOLDS)
    try:
        deployment.prepare()
        deployment.serve(workers=2)
        yield deployment
    finally:
        deployment.close()
