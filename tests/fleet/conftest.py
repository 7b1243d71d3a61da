"""Fixtures for tests of whole processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.sites import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "site")
    yield site
    site.close()
