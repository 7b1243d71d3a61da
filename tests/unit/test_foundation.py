"""placeholder-free smoke: the store answers"""

from django.core.cache import caches


def test_throw_away_store_answers():
    caches["search"].set("a", 1)
    assert caches["search"].get("a") == 1
