"""Tags of the search cache: cleared in one step, for every reader."""

import pytest

from tests.support.cache_aliases import raw
from tests.support.search_caches import STORES, Backend, InThread

pytestmark = STORES


def test_clearing_a_tag_takes_the_values_that_have_it_and_no_others(cache):
    for name, tags in {"a": ["x"], "b": ["x", "y"], "c": ["y"], "d": []}.items():
        cache.set(name, name, tags=tags)
    cache.clear_tags(["x"])
    assert cache.get("a", tags=["x"]) is None
    assert cache.get("b", tags=["x", "y"]) is None
    assert cache.get("c", tags=["y"]) == "c"
    assert cache.get("d") == "d"


def test_a_call_with_other_tags_than_the_values_is_a_miss(cache):
    cache.set("q", 1, tags=["x", "y"])
    cache.set("other", 1, tags=["x", "z"])
    for tags in ([], ["x"], ["y"], ["x", "z"], ["x", "y", "z"]):
        assert cache.get("q", tags=tags) is None
    assert cache.get("q", tags=["y", "x", "y"]) == 1


def test_tags_given_by_one_caller_and_forgotten_by_another_clear_all_the_same(cache):
    backend = Backend(1)
    assert cache.get_or_compute("q", backend, tags=["x"]) == 1
    backend.value = 2
    assert cache.get_or_compute("q", backend) == 2
    cache.clear_tags(["x"])
    backend.value = 3
    assert cache.get_or_compute("q", backend, tags=["x"]) == 3


def test_a_value_computed_before_its_tag_was_cleared_is_not_stored(cache):
    backend = Backend("old")
    backend.go_on.clear()
    call = InThread(lambda: cache.get_or_compute("q", backend, tags=["x"]))
    assert backend.begun.wait(20)
    cache.clear_tags(["x"])
    backend.go_on.set()
    assert call.result() == "old"
    assert cache.get("q", tags=["x"]) is None
    assert cache.counter.take().refused_fills == 1


@pytest.mark.parametrize("tag", ["*", "a b", "a\nb", "a\x00", "[x]", "ö", "\ud800", "x" * 500])
def test_any_text_can_be_a_tag(cache, tag):
    cache.set("q", 1, tags=[tag])
    cache.set("r", 1, tags=["plain"])
    assert cache.get("q", tags=[tag]) == 1
    cache.clear_tags([tag])
    assert (cache.get("q", tags=[tag]), cache.get("r", tags=["plain"])) == (None, 1)


@pytest.mark.parametrize(
    "tags", ["products", b"x", [1], [None], [""], ["x" * 10_000], ["x"] * 1 + [b"y"]]
)
def test_tags_that_cannot_be_are_refused_before_anything_is_done(cache, tags):
    backend = Backend()
    with pytest.raises((TypeError, ValueError), match="tag"):
        cache.get_or_compute("q", backend, tags=tags)
    with pytest.raises((TypeError, ValueError), match="tag"):
        cache.clear_tags(tags)
    assert backend.calls == 0


def test_more_than_fifty_tags_are_refused(cache):
    with pytest.raises(ValueError, match="50 tags"):
        cache.set("q", 1, tags=[str(n) for n in range(51)])


def test_clearing_no_tags_does_nothing(cache):
    cache.set("q", 1)
    cache.clear_tags([])
    assert cache.get("q") == 1


def test_a_tags_token_outlives_every_value_that_has_it(cache, kind):
    if kind == "memory":  # there it never expires
        return
    for timeout in (10, 100_000, 100):
        cache.set("q", 1, timeout=timeout, stale_for=timeout, tags=["x"])
        (name,) = raw().keys("s:1:2:tag:*")
        assert raw().ttl(name) > 1.9 * timeout
    assert raw().ttl(name) > 190_000 * 0.9
    cache.get_or_compute("r", Backend(), timeout=None, tags=["x"])
    assert raw().ttl(name) == -1
