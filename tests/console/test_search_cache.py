"""The search cache's page: charts, the load after a clear, tags, the last clears."""

import re
import time
from datetime import timedelta

import pytest
from django.core.cache import caches
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from analytics_admin import services
from analytics_admin.caching import search_cache
from analytics_admin.caching.inspection import survey
from analytics_admin.caching.inspection.status import inspect
from analytics_admin.caching.statistics.counters import Counts
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from tests.console.search_cache_pages import PAGE, part, tell
from tests.support.console_pages import asked

pytestmark = pytest.mark.django_db

SHELL = Actor.system("nightly")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is for this process: the middle of a minute."""
    now = [time.time() // 60 * 60 + 30.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


# Charts


def test_the_charts_show_each_series_and_the_hit_ratio_with_words_beside_them(operator, clock):
    tell(
        *((ago, Counts(hits=8, misses=1, stale_served=1, bypassed=2)) for ago in range(1, 40)),
        now=clock[0],
    )
    charts = part(operator.get(PAGE), "aa-charts")
    for name in ("hits", "misses", "stale_served", "bypassed"):
        assert re.search(rf'<path class="aa-area aa-area-{name}" d="M[0-9. ]+V[^"]+Z"', charts)
    assert re.search(r'<path class="aa-line" d="M[^"]+"', charts)
    assert charts.count('role="img"') == 2
    assert "468 calls in the last 3 hours, at most 12 per minute; 0 clears." in charts
    assert "Hit ratio in the last 3 hours: 80.0 %." in charts
    assert "Misses: 39" in charts
    patterns = re.findall(r'<pattern id="([^"]+)"', charts)
    assert len(patterns) == 3
    assert {f"url(#{name})" for name in patterns} == set(re.findall(r'fill="([^"]+)"', charts))


def test_a_stretch_without_data_is_a_gap_in_both_charts(operator, clock):
    minute = int(clock[0] // 60)
    edge = minute - minute % 3  # of the drawing's steps
    counts = Counts(hits=5, misses=5)
    tell(*((minute - at, counts) for at in (edge - 30, edge - 3)), now=clock[0])
    charts = part(operator.get(PAGE), "aa-charts")
    for path in ("aa-area aa-area-hits", "aa-line"):
        found = re.search(rf'class="{path}" d="([^"]+)"', charts)
        assert found
        assert found[1].count("M") == 2


def test_the_minute_under_way_is_counted_and_not_drawn_yet(operator, clock):
    tell((0, Counts(hits=9)), now=clock[0])
    charts = part(operator.get(PAGE), "aa-charts")
    assert "9 calls in the last 3 hours, at most 9 per minute; 0 clears." in charts
    assert "The current minute is not shown" in charts
    assert "aa-line" not in charts


@pytest.mark.parametrize(("hours", "rows"), [(1, 12), (3, 36), (6, 36), (24, 24)])
def test_each_period_has_a_table_of_at_most_37_rows_and_marks_its_link(operator, hours, rows):
    page = operator.get(f"{PAGE}?hours={hours}")
    table = re.search(r'<details id="aa-chart-table">.*?</details>', page.text, re.S)[0]
    assert rows <= table.count("<tr") - 1 <= rows + 1
    assert re.findall(r'href="\?hours=(\d+)" aria-current="true"', page.text) == [str(hours)]


@pytest.mark.parametrize("hours", ["0", "-3", "x", "", "3.0", "1000000", "٣", "\0", "24 "])
def test_hours_that_cannot_be_are_the_default_with_a_note(operator, hours):
    page = operator.get(PAGE, {"hours": hours})
    assert page.status_code == 200
    assert "Unknown period. Showing the last 3 hours." in part(page, "aa-charts")
    assert 'href="?hours=3" aria-current="true"' in page.text


def test_the_table_says_what_the_charts_show_newest_first(operator, clock):
    clock[0] = clock[0] // 300 * 300 + 30
    tell((2, Counts(hits=3, misses=1)), (7, Counts(bypassed=9)), now=clock[0])
    table = re.search(r"<tbody>(.*?)</tbody>", part(operator.get(PAGE), "aa-chart-table"), re.S)
    rows = [
        re.findall(r"</span> ([^<]*)</td>", row)
        for row in re.findall(r"<tr.*?</tr>", table[1], re.S)
    ]
    assert rows[0] == ["4", "3", "1", "0", "0", "75.0 %", "0"]
    assert rows[1] == ["9", "0", "0", "0", "9", "none", "0"]


@pytest.mark.parametrize(
    ("status", "marks"), [("done", 1), ("unknown", 1), ("failed", 0), ("denied", 0)]
)
def test_clears_that_have_happened_are_marked_in_both_charts(operator, status, marks):
    row = Operation.objects.create(
        kind="clear_search_cache", status=status, actor="x", channel="api"
    )
    Operation.objects.filter(pk=row.pk).update(started_at=timezone.now() - timedelta(hours=2))
    charts = part(operator.get(PAGE), "aa-charts")
    assert len(re.findall(r'<path class="aa-mark" d="M\d', charts)) == 2 * marks + 1  # the legend's
    assert f"; {marks} clear" in charts
    hour = part(operator.get(f"{PAGE}?hours=1"), "aa-charts")
    assert "; 0 clears" in hour


def test_an_operation_leads_back_to_the_hours_from_which_it_was_asked_for(operator):
    url = f"{PAGE}clear/?hours=6"
    assert f'action="{url}"' in operator.get(f"{PAGE}?hours=6").text
    confirm = operator.post(url)
    assert f'href="{PAGE}?hours=6"' in confirm.text
    assert operator.post(url, asked(confirm, url)).url == f"{PAGE}?hours=6"


# Load


def test_the_page_says_what_a_clear_would_put_on_the_search(operator, clock):
    tell((2, Counts(hits=2400, misses=300, compute_seconds=270, saved_seconds=1080)), now=clock[0])
    load = part(operator.get(PAGE), "aa-load-module")
    assert "Searches now: 1.1 per second, 1.0 at once." in load
    assert "until the cache has filled again: up to 10.0 per second, 5.0 at once." in load
    figures = re.findall(r"</span> ([0-9.]+)</td>", load)
    assert figures == ["1.1", "10.0", "1.0", "5.0"]


def test_few_searches_at_once_are_not_called_none(operator, clock):
    tell((2, Counts(misses=2700, compute_seconds=3)), now=clock[0])
    load = part(operator.get(PAGE), "aa-load-module")
    assert "Searches now: 10.0 per second, less than 0.1 at once." in load


def test_a_mean_per_minute_is_a_whole_number_unless_it_is_small(operator, clock):
    tell((4, Counts(hits=719)), (20, Counts(hits=1)), now=clock[0])
    assert "720 calls in the last 3 hours, at most 240 per minute;" in operator.get(PAGE).text


# Tags


def test_a_tag_in_use_is_listed_and_puts_itself_into_the_form(operator):
    search_cache.set("q", 1, tags=["shop:oslo & co", "<b>x</b>", "shop:bergen"])
    page = operator.get(f"{PAGE}?hours=6")
    tags = part(page, "aa-tags")
    assert "<bdi>&lt;b&gt;x&lt;/b&gt;</bdi>" in tags
    found = re.search(r'href="([^"#]+)#aa-clear"><bdi>shop:bergen', tags)
    assert found
    address = found[1].replace("&amp;", "&")
    form = part(operator.get(address), "aa-clear")
    assert 'value="shop:bergen"' in form
    assert re.search(r'value="tags"[^>]* checked', form)
    assert address.startswith(f"{PAGE}?hours=6&")


def test_a_name_that_only_its_hash_is_known_of_is_said_to_be_missing(operator):
    search_cache.set("q", 1, tags=["plain"])
    assert "All tags in use." in part(operator.get(PAGE), "aa-tags")
    search_cache.set("r", 1, tags=["not ascii: æ"])
    tags = part(operator.get(PAGE), "aa-tags")
    assert "plain" in tags
    assert "Tags found among 5 keys of the database; there may be others." in tags


def test_a_tag_with_a_comma_is_shown_and_leads_nowhere(operator):
    search_cache.set("q", 1, tags=["a,b"])
    assert '<li data-key="a,b"><bdi>a,b</bdi></li>' in part(operator.get(PAGE), "aa-tags")


def test_without_tags_the_page_says_so(operator):
    search_cache.set("q", 1)
    assert "No stored result has a tag." in part(operator.get(PAGE), "aa-tags")


def test_of_a_large_database_a_sample_tells_the_tags(monkeypatch):
    search_cache.set("q", 1, tags=["plain"])
    monkeypatch.setattr(survey, "MAX_SCANNED_KEYS", 1)
    found = inspect("search", dedicated=True).survey
    assert (found.tags, found.all_tags, found.looked_at) == (("plain",), False, 1000)


def test_another_alias_tags_are_not_ours():
    client = caches["search"].client.get_client(write=True)
    client.set('other:1:2:tag:k:"theirs"', "x" * 12)
    client.set(f"{caches['search'].make_key('2:tag')}:k:damaged", "x")
    found = inspect("search", dedicated=True).survey
    assert (found.tags, found.all_tags) == ((), False)


# Last clears


def test_the_last_five_clears_are_listed_whatever_became_of_them(operator):
    services.clear_search_cache(actor=SHELL, tags=["x", "<i>"], reason="new <b>prices</b>")
    for number, status in enumerate(["failed", "denied", "unknown", "started"]):
        row = Operation.objects.create(
            kind="clear_search_cache",
            status=status,
            actor=f"<b>ada</b>{number}",
            channel="api",
            error="the store was away" if status == "failed" else "",
        )
        if status == "started":
            old = timezone.now() - timedelta(minutes=11)
            Operation.objects.filter(pk=row.pk).update(started_at=old)
    clears = part(operator.get(PAGE), "aa-clears")
    for words in ("Done", "Failed", "Denied", "Outcome unknown", "Interrupted"):
        assert f"</span>&nbsp;{words}</span>" in clears
    assert "the store was away" in clears
    assert "by tag: <bdi>&lt;i&gt;</bdi>, <bdi>x</bdi>" in clears
    assert "<b>" not in clears
    for row in Operation.objects.all():
        assert f"/admin/analytics_admin/operation/{row.pk}/" in clears
    services.clear_search_cache(actor=Actor.system("the sixth"))
    clears = part(operator.get(PAGE), "aa-clears")
    assert clears.count("<tr data-key") == 5
    assert "the sixth" in clears


def test_the_number_of_queries_does_not_grow_with_the_audit_trail(operator):
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            operator.get(PAGE)
        return len(captured)

    queries()
    few = queries()
    Operation.objects.bulk_create(
        Operation(kind="clear_search_cache", status="done", actor="x", channel="api")
        for _ in range(300)
    )
    assert queries() == few
