"""What the checks find in SIMPLE_JWT."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from tests.checks.test_settings import PASSWORD, ids, text


@pytest.mark.parametrize(
    ("jwt", "found"),
    [
        ({"SIGNING_KEY": "k" * 32}, []),
        ({"SIGNING_KEY": "k" * 31}, ["E009"]),
        ({"SIGNING_KEY": b"k" * 31}, ["E009"]),
        ({"SIGNING_KEY": "é" * 16}, []),
        ({"SIGNING_KEY": ""}, ["E009"]),
        ({"SIGNING_KEY": "k" * 63, "ALGORITHM": "HS512"}, ["E009"]),
        ({"SIGNING_KEY": "PEM", "ALGORITHM": "RS256"}, []),
    ],
)
def test_a_signing_key_shorter_than_its_hash_is_an_error(
    jwt: dict[str, Any], found: list[str]
) -> None:
    with override_settings(SIMPLE_JWT=jwt):
        assert ids() == found


def test_without_a_signing_key_the_secret_key_is_judged() -> None:
    with override_settings(SIMPLE_JWT={}, SECRET_KEY=PASSWORD):
        assert ids() == ["E009"]


def test_refresh_tokens_that_do_not_state_their_type_are_a_warning() -> None:
    with override_settings(SIMPLE_JWT={"SIGNING_KEY": "k" * 32, "TOKEN_TYPE_CLAIM": None}):
        assert ids() == ["W005"]
        assert "EXTERNAL_TOKEN_MAX_LIFETIME" in text()


@pytest.mark.parametrize(
    ("longest", "found"),
    [(3600, []), (timedelta(hours=1), []), (7200, ["W005"]), (timedelta(days=1), ["W005"])],
)
def test_unless_tokens_from_elsewhere_may_not_live_as_long(longest: Any, found: list[str]) -> None:
    jwt = {
        "SIGNING_KEY": "k" * 32,
        "TOKEN_TYPE_CLAIM": None,
        "REFRESH_TOKEN_LIFETIME": timedelta(hours=2),
    }
    site = {"EXTERNAL_TOKEN_MAX_LIFETIME": longest}
    with override_settings(SIMPLE_JWT=jwt, ANALYTICS_ADMIN=site):
        assert [issue for issue in ids() if issue == "W005"] == found


def test_tokens_without_an_id_still_state_their_type() -> None:
    with override_settings(SIMPLE_JWT={"SIGNING_KEY": "k" * 32, "JTI_CLAIM": None}):
        assert ids() == []
