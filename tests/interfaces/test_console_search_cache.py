"""The search cache's page: charts, tags, clears, the sweep; how often it asks the stores."""

import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis.connection import AbstractConnection

from analytics_admin import search_cache_reports, services
from analytics_admin.caching import search_cache, survey, sweeping
from analytics_admin.caching.inspection import inspect
from analytics_admin.caching.ledger import Batch, open_ledger
from analytics_admin.caching.statistics import Counts
from analytics_admin.console import search_cache_acts
from analytics_admin.models import Operation
from analytics_admin.services import Actor
from tests.contract.helpers import nothing_changes
from tests.interfaces.console_pages import asked, told

pytestmark = pytest.mark.django_db

PAGE = "/admin/analytics_admin/searchcache/"
SWEEP = f"{PAGE}sweep/"
SHELL = Actor.system("nightly")
REFRESH = "X-Console-Refresh"


@pytest.fixture
def operator(client: Any, superuser: Any) -> Any:
    client.force_login(superuser)
    return client


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The instant at which the service looks at the counts: in the middle of a minute."""
    now = [time.time() // 60 * 60 + 30.0]
    monkeypatch.setattr(search_cache_reports.time, "time", lambda: now[0])
    return now


def tell(*by_minutes_ago: tuple[int, Counts], now: float | None = None) -> None:
    minute = int((time.time() if now is None else now) // 60)
    ledger = open_ledger("breakers", "search", timeout=5)
    ledger.tell("test", [Batch(str(ago), minute - ago, counts) for ago, counts in by_minutes_ago])


def part(page: Any, name: str) -> str:
    """Return the module of this id, up to the next one."""
    found = re.search(rf'id="{name}".*?(?=<div class="module"|<!-- END Content)', page.text, re.S)
    assert found, name
    return found[0]


def leave_behind(number: int) -> None:
    search_cache.set("fresh", 1)
    step = caches["search"].client.get_client(write=True).pipeline(transaction=False)
    for n in range(number):
        step.set(caches["search"].make_key(f"value:k:{n}"), "gone-by 1 0 1\n1")
    step.execute()


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


def test_the_minute_under_way_is_in_no_chart(operator, clock):
    tell((0, Counts(hits=700)), now=clock[0])
    charts = part(operator.get(PAGE), "aa-charts")
    assert "0 calls in the last 3 hours" in charts
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
    assert "There is no such period. This is the last 3 hours." in part(page, "aa-charts")
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


@pytest.mark.parametrize("act", ["clear", "sweep"])
def test_an_act_leads_back_to_the_hours_from_which_it_was_asked_for(operator, act):
    url = f"{PAGE}{act}/?hours=6"
    assert f'action="{url}"' in operator.get(f"{PAGE}?hours=6").text
    confirm = operator.post(url)
    assert f'href="{PAGE}?hours=6"' in confirm.text
    assert operator.post(url, asked(confirm, url)).url == f"{PAGE}?hours=6"


# Load


def test_the_page_says_what_a_clear_would_put_on_the_search(operator, clock):
    tell((2, Counts(hits=2400, misses=300, compute_seconds=270, saved_seconds=1080)), now=clock[0])
    load = part(operator.get(PAGE), "aa-load-module")
    assert "up to 10.0 per second do, 5.0 at the same time instead of 1.0." in load
    figures = re.findall(r"</span> ([0-9.]+)</td>", load)
    assert figures == ["1.1", "10.0", "1.0", "5.0"]


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
    assert "Tags that were met among 5 keys of the database; there may be others." in tags


def test_a_tag_with_a_comma_is_shown_and_leads_nowhere(operator):
    search_cache.set("q", 1, tags=["a,b"])
    assert '<li data-key="a,b"><bdi>a,b</bdi></li>' in part(operator.get(PAGE), "aa-tags")


def test_without_tags_the_page_says_so(operator):
    search_cache.set("q", 1)
    assert "No result in the store has a tag." in part(operator.get(PAGE), "aa-tags")


def test_of_a_large_database_a_sample_tells_the_tags(monkeypatch):
    search_cache.set("q", 1, tags=["plain"])
    monkeypatch.setattr(survey, "WALK_UP_TO", 1)
    found = inspect("search", dedicated=True).survey
    assert (found.tags, found.all_tags, found.looked_at) == (("plain",), False, 1000)


def test_another_alias_tags_are_not_ours():
    client = caches["search"].client.get_client(write=True)
    client.set('other:1:tag:k:"theirs"', "x" * 12)
    client.set(f"{caches['search'].make_key('tag')}:k:damaged", "x")
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
        assert f"/admin/analytics_admin/operation/{row.pk}/change/" in clears
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


# Sweep


def test_the_confirm_page_of_a_sweep_says_what_it_would_remove_and_removes_nothing(operator):
    leave_behind(10)
    with nothing_changes():
        page = operator.post(SWEEP)
    assert "10 of 11 results count no more, and will be removed." in page.text
    assert "for at most 10 s" in page.text


def test_a_confirmed_sweep_is_done_and_on_record(operator):
    leave_behind(10)
    answer = operator.post(
        SWEEP, {**asked(operator.post(SWEEP), SWEEP), "reason": "room"}, follow=True
    )
    assert told(answer) == [("success", "Search cache swept: 10 of 11 results removed")]
    row = Operation.objects.get()
    assert (row.kind, row.status, row.reason) == ("sweep_search_cache", "done", "room")
    assert (row.outcome["removed"], row.outcome["seen"], row.outcome["finished"]) == (10, 11, True)
    assert 'id="aa-sweep-progress"' not in answer.text


def test_a_sweep_that_lasts_longer_than_a_press_is_gone_on_with_from_the_top_of_the_page(
    operator, monkeypatch
):
    monkeypatch.setattr(search_cache_acts, "SWEEP_SECONDS", 0)
    leave_behind(3000)
    page = operator.post(SWEEP, asked(operator.post(SWEEP), SWEEP), follow=True)
    ((level, message),) = told(page)
    assert (level, message[:28]) == ("success", "Search cache swept in part, ")
    row = Operation.objects.get()
    assert (row.status, row.outcome["finished"]) == ("done", False)
    content = page.text[page.text.index('id="content-main"') :]
    assert re.findall(r'<button type="submit"[^>]*>([^<]+)<', content)[0] == "Continue the sweep"
    assert "Sweep search cache<" not in content
    percent = int(re.search(r'<progress max="100" value="(\d+)"', content)[1])
    assert f"{percent} % done: " in content
    assert 0 < percent < 100
    monkeypatch.setattr(search_cache_acts, "SWEEP_SECONDS", 60)
    confirm = operator.post(SWEEP)
    assert f"A sweep is at {percent} %. This goes on from there." in confirm.text
    page = operator.post(SWEEP, asked(confirm, SWEEP), follow=True)
    assert told(page)[0][1].startswith("Search cache swept: ")
    assert 'id="aa-sweep-progress"' not in page.text
    assert sweeping.preview().removed == 0


def test_a_sweep_of_another_process_is_seen_as_it_goes_on(operator):
    leave_behind(3000)
    pages: list[str] = []
    sweeping.sweep_leftovers(on_progress=lambda seen: pages.append(operator.get(PAGE).text))
    shown = [int(found[1]) for page in pages if (found := re.search(r'value="(\d+)" aria', page))]
    assert len(shown) == len(pages) - 1 > 3
    assert shown == sorted(set(shown))
    assert all("A sweep is under way" in page for page in pages[:-1])
    assert "Continue the sweep" not in "".join(pages)


def test_the_command_tells_of_a_sweep_that_was_cut_off():
    leave_behind(3000)
    sweeping.sweep_leftovers(seconds=0)
    out = StringIO()
    call_command("search_cache", stdout=out)
    assert re.search(r"^sweep +\d+% done, cut off at \S+Z$", out.getvalue(), re.MULTILINE)


# Kept up to date, and cheap


def refreshed(operator: Any, tag: str = "") -> Any:
    return operator.get(PAGE, headers={REFRESH: "1", "If-None-Match": tag})


def test_nothing_new_is_304_though_the_load_falls_while_the_minute_goes_on(operator, clock):
    tell((1, Counts(hits=50, misses=10)), now=clock[0])
    services.clear_search_cache(actor=SHELL, mode="soft")
    search_cache.set("q", 1, tags=["x"])
    tag = refreshed(operator).headers["ETag"]
    clock[0] += 7
    assert refreshed(operator, tag).status_code == 304
    tell((0, Counts(hits=1)), now=clock[0])
    assert refreshed(operator, tag).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda: search_cache.set("another", 1),
        lambda: search_cache.set("q", 1, tags=["y"]),
        lambda: services.clear_search_cache(actor=SHELL, mode="soft"),
        lambda: open_ledger("breakers", "search", timeout=5).tell(
            "other", [Batch("1", int(time.time() // 60), Counts(hits=1))]
        ),
        lambda: Operation.objects.create(kind="clear_search_cache", actor="x", channel="api"),
        lambda: sweeping.sweep_leftovers(seconds=0),
    ],
)
def test_what_is_new_changes_the_page(operator, clock, change):
    leave_behind(2000)
    tag = refreshed(operator).headers["ETag"]
    assert refreshed(operator, tag).status_code == 304
    change()
    assert refreshed(operator, tag).status_code == 200


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """What is sent to each database, greetings of new connections apart."""
    sent: Counter[int] = Counter()
    real = AbstractConnection.send_packed_command

    def counting(self: Any, command: Any, check_health: bool = True) -> Any:
        text = b"".join(command if isinstance(command, list) else [command])
        if not re.match(rb"\*\d+\r\n\$\d+\r\n(SELECT|CLIENT|AUTH|HELLO)", text):
            sent[self.db] += 1
        return real(self, command, check_health)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counting)
    return sent


@pytest.mark.parametrize("dedicated", [True, False])
@pytest.mark.parametrize("keys", [10, 3000, 12_000])
def test_a_look_again_is_one_round_trip_to_each_store(operator, settings, trips, dedicated, keys):
    settings.ANALYTICS_ADMIN = {
        **settings.ANALYTICS_ADMIN,
        "SEARCH_CACHE_DEDICATED": dedicated,
    }
    leave_behind(keys)
    refreshed(operator)
    trips.clear()
    refreshed(operator)
    assert sorted(trips.values()) == [1, 1]


def test_a_large_database_that_grows_is_not_sampled_anew_and_its_keys_are_as_they_are(operator):
    leave_behind(2000)
    assert '<dd id="aa-keys">2,001</dd>' in operator.get(PAGE).text
    client = caches["search"].client.get_client(write=True)
    client.config_resetstat()
    for n in range(5):
        search_cache.set(("new", n), 1)
    assert '<dd id="aa-keys">2,006</dd>' in operator.get(PAGE).text
    assert "cmdstat_scan" not in client.info("commandstats")


def test_after_a_clear_nothing_found_before_it_is_told_again(operator):
    leave_behind(2000)
    search_cache.set("q", 1, tags=["x"])
    assert "x</bdi>" in part(operator.get(PAGE), "aa-tags")
    services.clear_search_cache(actor=SHELL)
    page = operator.get(PAGE)
    assert '<dd id="aa-keys">0</dd>' in page.text
    assert "No result in the store has a tag." in part(page, "aa-tags")


def test_after_a_clear_a_large_shared_database_is_looked_at_anew(operator, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "SEARCH_CACHE_DEDICATED": False}
    step = caches["search"].client.get_client(write=True).pipeline(transaction=False)
    for n in range(1500):
        step.set(f"session:{n}", 1)
    step.execute()
    for n in range(500):
        search_cache.set(n, 1)
    assert '<dd id="aa-keys">500</dd>' in operator.get(PAGE).text
    services.clear_search_cache(actor=SHELL)
    assert '<dd id="aa-keys">0</dd>' in operator.get(PAGE).text


def test_a_day_is_read_once_in_a_while_and_its_last_half_hour_each_time(operator, clock):
    tell((100, Counts(hits=5)), (10, Counts(hits=3)), now=clock[0])
    client = caches["breakers"].client.get_client(write=True)
    address = f"{PAGE}?hours=24"
    operator.get(PAGE)  # somebody else looks at fewer hours
    assert "8 calls in the last 24 hours" in operator.get(address).text
    client.config_resetstat()
    tell((9, Counts(hits=1)), now=clock[0])
    assert "9 calls in the last 24 hours" in operator.get(address).text
    assert client.info("commandstats")["cmdstat_hmget"]["calls"] < 150
    assert services.describe_search_cache(minutes=200).history[-101].counts.hits == 5


def test_hours_read_a_while_ago_are_no_gap_in_a_longer_period(operator, clock):
    tell((100, Counts(hits=5)), (1000, Counts(hits=3)), now=clock[0])
    for hours, calls in ((1, 0), (3, 5), (24, 8), (6, 5)):
        assert f"{calls} calls in" in operator.get(f"{PAGE}?hours={hours}").text


def test_who_does_not_ask_for_an_old_survey_gets_none():
    leave_behind(2000)
    services.describe_search_cache(told_again=30)
    caches["search"].client.get_client(write=True).set("session:1", 1)
    fresh = services.describe_search_cache()
    assert [kind.prefix for kind in fresh.foreign] == ["session:"]


def test_the_undo_counts_down_to_an_instant(operator):
    services.clear_search_cache(actor=SHELL, mode="soft")
    page = operator.get(PAGE)
    until = services.describe_search_cache().undo_until
    stamp = until.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    undo = part(page, "aa-undo-module")
    assert f'<time datetime="{stamp}"' in undo
    assert 'data-aa-as="left"' in undo
    confirm = operator.post(f"{PAGE}undo/").text
    shown = re.search(r'datetime="([^"]+)"[^>]*data-aa-as="left"', confirm)[1]
    assert abs((datetime.fromisoformat(shown) - until).total_seconds()) < 1
