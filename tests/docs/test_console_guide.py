"""The guide to the console tells the truth: its columns, states, permissions and blocks exist."""

import re
from pathlib import Path

import pytest
from django.template.loader import get_template

from analytics_admin.conf import KEYS
from analytics_admin.console.breakers.rows import column_headings
from analytics_admin.console.labels import state_badge
from tests.docs.pages import code_blocks, read

GUIDE = read("howto/use-the-console.md")
FOLDER = "admin/analytics_admin"


@pytest.mark.parametrize("heading", column_headings().values())
def test_every_column_of_the_list_is_explained(heading):
    assert f"| {heading} |" in GUIDE


@pytest.mark.parametrize(
    "state", ["closed", "open", "half_open", "forced_open", "disabled", "metrics_only", "unknown"]
)
def test_every_state_is_named_as_pages_name_it(state):
    assert str(state_badge(state).word) in GUIDE


def test_every_setting_that_it_names_exists():
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", GUIDE)) - {"LOCALE_PATHS", "BREAKER_DEFAULTS"}
    assert named - set(KEYS) == set()
    assert {"CONSOLE_REFRESH_SECONDS", "REQUIRE_ENVIRONMENT_NAME"} <= named


@pytest.mark.parametrize(
    ("template", "block"),
    [
        ("search_cache", "facts"),
        ("search_cache", "operations"),
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


def test_another_admin_site_gets_the_pages():
    (block,) = code_blocks(GUIDE, "python")
    names = {}
    exec(compile(block, "docs", "exec"), names)
    models = {model._meta.model_name for model in names["operations_site"]._registry}
    assert models == {"circuitbreaker", "searchcache", "operation"}
