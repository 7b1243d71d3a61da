"""The guide to the console tells the truth: its columns, states, permissions and blocks exist."""

import re
from pathlib import Path

import pytest
from django.template.loader import get_template

from analytics_admin.conf import KEYS
from analytics_admin.console.breakers.rows import column_headings
from analytics_admin.console.labels import state_badge
from analytics_admin.services import Act

GUIDE = (Path(__file__).parents[2] / "docs" / "console.md").read_text()
FOLDER = "admin/analytics_admin"


@pytest.mark.parametrize("heading", column_headings().values())
def test_every_column_of_the_list_is_explained(heading):
    assert f"| {heading} |" in GUIDE


@pytest.mark.parametrize(
    "state", ["closed", "open", "half_open", "forced_open", "disabled", "metrics_only", "unknown"]
)
def test_every_state_is_named_as_pages_name_it(state):
    assert str(state_badge(state).word) in GUIDE


def test_every_permission_is_explained_and_no_other():
    assert set(re.findall(r"^\| `([\w.]+)` \|", GUIDE, re.MULTILINE)) == {
        act.permission for act in Act
    }


def test_every_setting_that_it_names_exists():
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", GUIDE)) - {"LOCALE_PATHS"}
    assert named - set(KEYS) == set()
    told = {"CONSOLE_REFRESH_SECONDS", "ENVIRONMENT_NAME", "READ_ONLY", "REQUIRE_REASON"}
    assert {*told, "REQUIRE_ENVIRONMENT_NAME"} <= named


@pytest.mark.parametrize(
    ("template", "block"),
    [
        ("search_cache", "facts"),
        ("search_cache", "acts"),
        ("search_cache", "charts"),
        ("circuit_breaker", "evidence"),
        ("base", "facts"),
    ],
)
def test_the_blocks_that_it_names_can_be_filled(template, block):
    assert f"`{block}`" in GUIDE
    assert (
        f"{{% block {block} %}}"
        in Path(get_template(f"{FOLDER}/{template}.html").origin.name).read_text()
    )
