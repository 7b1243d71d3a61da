"""Clears of parts over REST, and the permission that allows these alone."""

import pytest
from django.contrib.auth.models import Permission

from analytics_admin.caching import search_cache
from analytics_admin.models import Operation
from tests.support.api import CLEAR, assert_error

pytestmark = pytest.mark.django_db

UNDO = "/api/v1/analytics/cache/undo"
PARTS = {
    "tags": {"tags": ["a"]},
    "tags softly": {"tags": ["a"], "mode": "soft"},
    "functions": {"functions": ["shop.search.find"]},
    "functions softly": {"functions": ["shop.search.find"], "mode": "soft"},
    "keys": {"keys": [["search", "lamp", 1]]},
}


@pytest.fixture
def helper(staff_user, settings):
    """Give somebody who may clear parts alone; return the name."""
    settings.ANALYTICS_ADMIN = {"REQUIRE_MODEL_PERMISSIONS": True}
    staff_user.user_permissions.add(Permission.objects.get(codename="clear_search_cache_part"))
    return staff_user.get_username()


def test_a_clear_of_a_part_leaves_the_rest(send, superuser):
    search_cache.set(["search", "lamp", 1], "one")
    search_cache.set(["search", "lamp", 2], "two", tags=["a"])
    answer = send("POST", CLEAR, PARTS["keys"])
    assert answer.json() == {"message": "Search cache cleared for 1 key"}
    assert search_cache.get(["search", "lamp", 1]) is None
    assert send("POST", CLEAR, PARTS["tags softly"]).status_code == 200
    assert search_cache.get(["search", "lamp", 2], tags=["a"]) is None
    assert send("POST", UNDO, {"tags": ["a"]}).status_code == 200
    assert search_cache.get(["search", "lamp", 2], tags=["a"]) == "two"


@pytest.mark.parametrize(
    "body",
    [
        {"tags": []},
        {"functions": "f"},
        {"keys": {"a": 1}},
        {"keys": []},
        {"keys": [["k"]], "tags": ["a"]},
        {"keys": [["k"]], "mode": "soft"},
        {"tags": [""]},
    ],
)
def test_an_unusable_part_is_400(send, superuser, body):
    assert_error(send("POST", CLEAR, body), 400, "invalid")
    assert not Operation.objects.exists()


@pytest.mark.parametrize("body", PARTS.values(), ids=PARTS)
def test_who_may_clear_parts_clears_parts(send, helper, body):
    assert send("POST", CLEAR, body, sub=helper).status_code == 200


def test_who_may_clear_parts_undoes_the_clear_of_a_part(send, helper):
    search_cache.set("tagged", "value", tags=["a"])
    send("POST", CLEAR, PARTS["tags softly"], sub=helper)
    assert send("POST", UNDO, {"tags": ["a"]}, sub=helper).status_code == 200


@pytest.mark.parametrize("body", [None, {"mode": "soft"}, {"dry_run": True}])
def test_who_may_clear_parts_clears_not_everything(send, helper, body):
    search_cache.set("kept", "value")
    assert_error(send("POST", CLEAR, body, sub=helper), 403, "permission_denied")
    assert_error(send("POST", UNDO, None, sub=helper), 403, "permission_denied")
    assert search_cache.get("kept") == "value"
    assert set(Operation.objects.values_list("status", flat=True)) == {"denied"}
