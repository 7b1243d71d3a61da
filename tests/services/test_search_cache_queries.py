"""What is known of the search cache, through each door; what is not known is never a zero."""

import json
import re
from dataclasses import fields
from typing import Any

import pytest
from django.core.cache import caches

from analytics_admin import services
from analytics_admin.caching import search_cache
from analytics_admin.management.search_cache import render_status
from analytics_admin.management.tables import render_text
from analytics_admin.models import Operation
from analytics_admin.services import Actor, describe_search_cache
from analytics_admin.services.search_cache.queries import SearchCacheStatus
from tests.support.api import assert_error, nothing_changes
from tests.support.doors import run
from tests.support.servers import StoreServer, free_port

pytestmark = pytest.mark.django_db

API = "/api/v1/analytics/cache"
PAGE = "/admin/analytics_admin/searchcache/"
CLEAR = f"{PAGE}clear/"
PASSWORD = "hunter2-of-the-store"
COUNTS = ("last_5_minutes", "last_hour", "last_day", "load")


@pytest.fixture
def calls() -> None:
    """Two misses and three hits, of which this process has told."""
    for _ in range(3):
        search_cache.get_or_compute("lamp", lambda: "x" * 500)
    for _ in range(2):
        search_cache.get_or_compute("chair", lambda: "y" * 500)
    search_cache.reporter.report()


@pytest.fixture(params=["stopped", "frozen"])
def lost(request: pytest.FixtureRequest, settings: Any) -> Any:
    """Have an alias lie on a store that has stopped, or hangs."""
    with StoreServer(port=free_port(), requirepass=PASSWORD) as server:

        def lose(alias: str) -> None:
            address = f"redis://:{PASSWORD}@127.0.0.1:{server.port}/2"
            settings.CACHES = {
                **settings.CACHES,
                alias: {**settings.CACHES[alias], "LOCATION": address},
            }

        server.freeze() if request.param == "frozen" else server.stop()
        yield lose


@pytest.fixture
def get(client: Any, mint: Any, superuser: Any) -> Any:
    bearer = {"Authorization": f"Bearer {mint()}"}
    return lambda query="": client.get(f"{API}{query}", headers=bearer)


def facts(page: Any) -> dict[str, str]:
    return dict(re.findall(r'<dd id="aa-([a-z-]+)">(.*?)</dd>', page.text, re.DOTALL))


def row(page: Any, figure: str) -> list[str]:
    found = re.search(rf'id="aa-figure-{figure}">(.*?)</tr>', page.text, re.DOTALL)
    assert found
    return re.findall(r"</span> ([^<]*)</td>", found[1])


@pytest.mark.usefixtures("calls")
def test_the_service_tells_counts_keys_and_bytes():
    status = describe_search_cache(minutes=2)
    for period in (status.last_5_minutes, status.last_hour, status.last_day):
        assert (period.calls, period.hits, period.misses, period.fills) == (5, 3, 2, 2)
        assert period.hit_ratio == 0.6
    assert sum(minute.counts.hits for minute in status.history) == 3
    assert (status.reachable, status.keys, status.exact) == (True, 2, True)
    assert 1000 < status.bytes < 3000
    assert status.load.calls > 0
    assert (status.last_clear, status.undo_until) == (None, None)


@pytest.mark.usefixtures("calls")
def test_a_clear_is_told_and_blanks_no_count():
    result = services.clear_search_cache(actor=Actor.system("nightly"), reason="new prices")
    status = describe_search_cache()
    clear = status.last_clear
    assert (clear.actor, clear.channel, clear.mode) == ("nightly", "code", "hard")
    assert (clear.reason, clear.operation_id) == ("new prices", result.operation_id)
    assert clear.at == Operation.objects.get().started_at
    assert (status.keys, status.last_5_minutes.hits) == (0, 3)


@pytest.mark.parametrize(
    ("targets", "mode"),
    [
        ({}, "hard"),
        ({"mode": "soft", "tags": []}, "soft"),
        ({"mode": "hard", "tags": ["products"]}, "tags"),
    ],
)
def test_the_last_clear_is_told_with_its_way(targets, mode):
    Operation.objects.create(
        kind="clear_search_cache", status="done", actor="x", channel="api", targets=targets
    )
    assert describe_search_cache().last_clear.mode == mode


@pytest.mark.usefixtures("calls")
def test_a_flush_of_the_searches_database_blanks_no_count():
    caches["search"].client.get_client(write=True).flushdb()
    assert describe_search_cache().last_day.hits == 3


@pytest.mark.parametrize("status", ["failed", "denied", "started", "unknown"])
def test_a_clear_that_is_not_known_to_be_done_is_not_the_last_one(status):
    Operation.objects.create(kind="clear_search_cache", status=status, actor="x", channel="api")
    assert describe_search_cache().last_clear is None


@pytest.mark.parametrize(
    ("minutes", "error"),
    [(True, TypeError), ("5", TypeError)] + [(wrong, ValueError) for wrong in (-1, 1441)],
)
def test_the_service_refuses_minutes_that_cannot_be(minutes, error):
    with pytest.raises(error, match="minutes"):
        describe_search_cache(minutes=minutes)


@pytest.mark.usefixtures("calls")
def test_looking_changes_nothing(get, operator):
    with nothing_changes():
        get("?minutes=5")
        run("search_cache", "--minutes", "5")
        operator.get(PAGE)


@pytest.mark.usefixtures("still_counting", "calls")
def test_the_api_the_command_and_the_service_say_the_same(get):
    said = services.to_json(describe_search_cache(minutes=3))
    answers = [
        get("?minutes=3").json(),
        json.loads(run("search_cache", "--json", "--minutes", "3")[1]),
        said,
    ]
    for answer in answers:
        answer.pop("load")  # falls while the minute goes on
        answer.pop("server_bytes")
    assert answers[0] == answers[1] == answers[2]
    assert answers[0].keys() | {"load", "server_bytes"} == {
        item.name for item in fields(SearchCacheStatus)
    }
    assert len(answers[0]["history"]) == 3
    assert answers[0]["last_day"]["hit_ratio"] == 0.6


def test_without_minutes_there_is_no_history(get):
    answer = get()
    assert (answer.status_code, answer.json()["history"]) == (200, [])
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "query", ["?minutes=-1", "?minutes=1441", "?minutes=x", "?minutes=", "?minutes=1&minutes=2"]
)
def test_the_api_refuses_minutes_that_cannot_be(get, query):
    assert_error(get(query), 400, "invalid")


def test_the_api_refuses_an_unknown_option(get):
    assert_error(get("?minute=5"), 400, "invalid", "minute")


def test_the_api_is_for_those_who_may_see_the_console(
    client, mint, plain_user, staff_user, settings
):
    assert_error(client.get(API), 401, "not_authenticated")
    bearer = {"Authorization": f"Bearer {mint('una')}"}
    assert_error(client.get(API, headers=bearer), 403, "permission_denied", "Not authorized")
    bearer = {"Authorization": f"Bearer {mint('sam')}"}
    assert client.get(API, headers=bearer).status_code == 200
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_MODEL_PERMISSIONS": True}
    assert client.get(API, headers=bearer).status_code == 403
    assert not Operation.objects.exists()
    bearer = {"Authorization": f"Bearer {mint('sam')}"}
    assert client.post(API, headers=bearer).status_code == 405


@pytest.mark.usefixtures("calls")
def test_a_store_that_is_away_is_part_of_the_answer(get, lost, operator):
    lost("search")
    answer = get()
    assert answer.status_code == 200
    told = answer.json()
    assert told["reachable"] is False
    assert told["unavailable"].startswith("the store")
    assert (told["keys"], told["bytes"], told["foreign"]) == (None, None, None)
    assert told["last_day"]["hits"] == 3
    code, out, _ = run("search_cache")
    assert code == 0
    assert re.search(r"^store +unknown: the store", out, re.MULTILINE)
    assert re.search(r"^keys +unknown$", out, re.MULTILINE)
    page = operator.get(PAGE)
    assert facts(page)["keys"] == facts(page)["bytes"] == "Unknown"
    assert row(page, "hits") == ["3", "3", "3"]
    for text in (answer.text, out, page.text):
        assert PASSWORD not in text


@pytest.mark.usefixtures("calls")
def test_with_the_breakers_alias_away_counts_are_unknown_and_no_zero(get, lost, operator):
    lost("breakers")
    told = get("?minutes=5").json()
    assert told["statistics_unavailable"].startswith("the store")
    assert [told[name] for name in COUNTS] == [None] * 4
    assert told["history"] is None
    assert (told["reachable"], told["keys"]) == (True, 2)
    out = run("search_cache", "--minutes", "5")[1]
    assert re.search(r"^statistics +unknown: the store", out, re.MULTILINE)
    assert "calls" not in out
    page = operator.get(PAGE)
    assert "Unknown: the store" in page.text
    assert "aa-figure-hits" not in page.text
    confirm = operator.post(CLEAR)
    assert "The load on the search is unknown: the store" in confirm.text


@pytest.mark.usefixtures("calls")
def test_searches_do_not_wait_for_a_breakers_alias_that_hangs(lost):
    lost("breakers")
    assert search_cache.lookup("lamp", lambda: None).state == "hit"
    search_cache.reporter.report()
    assert search_cache.reporter._sent[0].counts.hits == 1


@pytest.mark.usefixtures("calls")
def test_the_command_shows_it_without_frames_in_a_pipe():
    services.clear_search_cache(actor=Actor.system("night\x1b[31mly"), reason="new\nprices")
    caches["search"].client.get_client(write=True).set("session:\x1b[31m1", 1)
    code, out, err = run("search_cache", "--minutes", "2")
    assert (code, err) == (0, "")
    assert re.search(r"^store +reachable$", out, re.MULTILINE)
    assert re.search(r"^  hit ratio +60\.0% +60\.0% +60\.0%$", out, re.MULTILINE)
    assert re.search(r"^last clear +\S+Z by night.*ly \(hard\): new", out, re.MULTILINE)
    assert "other keys in the database, which a clear removes too" in out
    assert re.search(r"^  session: +1 ", out, re.MULTILINE)
    assert len(re.findall(r"^  \S+:00\.000Z ", out, re.MULTILINE)) == 2
    assert "\x1b" not in out


@pytest.mark.usefixtures("calls")
def test_the_command_draws_tables_on_a_terminal():
    drawn = render_text(*render_status(describe_search_cache(minutes=1)), color=False)
    assert "│" in drawn
    for words in ("store", "reachable", "stale served", "60.0%", "last minutes"):
        assert words in drawn


@pytest.mark.parametrize("minutes", ["-1", "1441", "x", "1.5", "٣"])
def test_the_command_refuses_minutes_that_cannot_be(minutes):
    assert run("search_cache", "--minutes", minutes)[0] != 0


@pytest.mark.usefixtures("calls")
def test_the_page_says_it_in_words(operator):
    caches["search"].client.get_client(write=True).set("<b>session:1", 1)
    page = operator.get(PAGE)
    assert "Reachable" in facts(page)["store"]
    assert facts(page)["keys"] == "3"
    assert facts(page)["bytes"].startswith("about ")
    assert row(page, "hit_ratio") == ["60.0 %"] * 3
    assert "a clear removes these keys too" in page.text
    assert "<bdi>&lt;b&gt;session:</bdi>" in page.text
    assert "<b>session" not in page.text


def test_a_page_without_calls_has_zeros_and_no_ratio(operator):
    page = operator.get(PAGE)
    assert row(page, "hits") == ["0"] * 3
    assert row(page, "hit_ratio") == ["\N{EN DASH}"] * 3


@pytest.mark.usefixtures("calls")
def test_the_confirm_page_says_what_a_clear_means_for_the_backend(operator):
    caches["search"].client.get_client(write=True).set("session:1", 1)
    page = operator.post(CLEAR)
    assert "They use about " in page.text
    assert "The hit ratio was 60.0 %." in page.text
    assert "a clear removes these keys too" in page.text


@pytest.mark.usefixtures("calls")
def test_the_dry_run_says_the_same_through_api_and_command(client, mint, superuser):
    caches["search"].client.get_client(write=True).set("session:1", 1)
    answer = client.post(
        f"{API}/clear",
        {"dry_run": True},
        content_type="application/json",
        headers={"Authorization": f"Bearer {mint()}"},
    ).json()["preview"]
    told = json.loads(run("clear_search_cache", "--dry-run", "--json")[1])["preview"]
    for preview in (answer, told):
        assert (preview["keys"], preview["load"]["hit_ratio"]) == (3, 0.6)
        (kind,) = preview["foreign"]
        assert (kind["prefix"], kind["keys"]) == ("session:", 1)
        assert kind["share"] == pytest.approx(0.25)
    assert answer.keys() == told.keys()


@pytest.mark.usefixtures("calls")
def test_the_command_says_beforehand_what_a_clear_means():
    caches["search"].client.get_client(write=True).set("session:\x1b1", 1)
    _, out, _ = run("clear_search_cache", "--dry-run")
    first, memory, now, after, way, stranger = out.splitlines()
    assert way == "  removal: the whole database is flushed"
    assert first == "Dry run: 3 keys would be removed"
    assert memory.startswith("  memory: about ")
    at_once = r"(less than 0\.1|0\.0) at once"
    assert re.fullmatch(rf"  load now: 0\.0 calls/s, 0\.0 searches/s, {at_once}", now)
    assert after.startswith("  load after the clear, until the cache has filled: up to 0.0 calls/s")
    assert stranger == "  removed too: 1 other keys with session: in front (25.0% of all)"
