"""One operation's page: who, when, why, what its status means, and what was before and after."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.contrib.auth.models import Permission
from django.utils import timezone

from analytics_admin.services import (
    Actor,
    clear_search_cache,
    reset_circuit_breakers,
    set_breaker_control,
    sweep_search_cache,
    undo_clear,
)
from tests.support.audit import HOSTILE, LIST, page_of, record
from tests.support.breakers import trip

BREAKER = "/admin/analytics_admin/circuitbreaker/"

NO_ROW = "21db1be4-d5c1-485d-a763-96a860141f48"


@pytest.fixture
def actor(superuser):
    return Actor.from_user(superuser, channel="admin")


def page(operator, operation_id):
    answer = operator.get(f"{LIST}{operation_id}/")
    assert answer.status_code == 200
    return answer.text


def part(text, name):
    """Return the text of the element with this id, up to its end tag."""
    return unescape(text.split(f'id="{name}"')[1].split("</dd>")[0])


def figures(text, name):
    """Return the labels and values of one of the page's lists."""
    rows = text.split(f'id="{name}"')[1].split("</dl>")[0].split("<dt>")[1:]
    told = (row.split("</dt>") for row in rows)
    return {label: value.split("<bdi>")[1].split("</bdi>")[0] for label, value in told}


def test_a_row_has_an_address_that_stays(operator):
    row = record()
    assert page_of(row) == f"{LIST}{row.pk}/"
    assert f'href="{LIST}{row.pk}/"' in operator.get(LIST).text
    answer = operator.get(f"{LIST}{row.pk}/change/?_changelist_filters=q%3Dada")
    assert (answer.status_code, answer.url) == (
        302,
        f"{LIST}{row.pk}/?_changelist_filters=q%3Dada",
    )
    assert f'href="{LIST}?q=ada">Operations</a>' in operator.get(answer.url).text


@pytest.mark.parametrize("name", [NO_ROW, "nonsense", "5", f"{NO_ROW}/x", "a%00b"])
def test_there_is_no_page_for_what_is_no_row(operator, name):
    assert operator.get(f"{LIST}{name}/").status_code == 404


def test_it_says_who_when_why_and_through_which_door(operator):
    began = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
    row = record(
        actor="grace",
        channel="command",
        reason="ticket 4711",
        started_at=began,
        finished_at=began + timedelta(seconds=2.3),
        duration_ms=2300.0,
    )
    text = page(operator, row.pk)
    assert "<bdi>grace</bdi>" in part(text, "aa-actor")
    assert "Command line" in part(text, "aa-channel")
    assert "ticket 4711" in part(text, "aa-reason")
    assert 'datetime="2026-07-01T22:30:00.000Z"' in part(text, "aa-started")
    assert 'title="2026-07-01 22:30:02.300 UTC"' in part(text, "aa-finished")
    assert "2.3 s" in part(text, "aa-duration")
    assert str(row.pk) in part(text, "aa-id")


def test_a_row_with_nothing_in_it_is_shown(operator):
    row = record(actor="", kind="", targets={}, outcome={}, channel="")
    text = page(operator, row.pk)
    assert "None given" in part(text, "aa-reason")
    assert "datetime" not in part(text, "aa-finished")
    assert 'id="aa-changes"' not in text


def test_it_says_that_the_actors_account_is_gone(operator, staff_user):
    row = record(actor="sam", user=staff_user, channel="admin")
    assert "deleted" not in part(page(operator, row.pk), "aa-actor")
    staff_user.delete()
    assert "(account deleted)" in part(page(operator, row.pk), "aa-actor")
    nightly = record(actor="nightly", channel="command")
    assert "deleted" not in part(page(operator, nightly.pk), "aa-actor")


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        ("clear_search_cache", '<a href="/admin/analytics_admin/searchcache/">'),
        ("reset_circuit_breakers", f'<a href="{BREAKER}">'),
    ],
)
@pytest.mark.parametrize(
    ("status", "minutes", "word", "meaning"),
    [
        ("started", 11, "Interrupted", "No result is recorded"),
        ("unknown", 0, "Outcome unknown", "may or may not have taken effect"),
    ],
)
def test_an_operation_that_may_be_done_or_not_says_so_and_where_to_look(
    operator, kind, link, status, minutes, word, meaning
):
    began = timezone.now() - timedelta(minutes=minutes)
    targets = {"names": "all"} if kind == "reset_circuit_breakers" else {"mode": "hard"}
    row = record(kind=kind, status=status, started_at=began, targets=targets)
    told = part(page(operator, row.pk), "aa-status")
    for words in (word, meaning, link, "repeat it if needed"):
        assert words in told


@pytest.mark.parametrize(
    ("status", "word", "meaning"),
    [
        ("started", "Started", "no result is recorded yet"),
        ("failed", "Failed", "See the error."),
        ("denied", "Denied", "Nothing was done"),
    ],
)
def test_an_operation_that_is_not_done_says_what_that_means(operator, status, word, meaning):
    row = record(status=status, error="the store is away" if status == "failed" else "")
    text = page(operator, row.pk)
    assert word in part(text, "aa-status")
    assert meaning in part(text, "aa-status")
    assert "<a " not in part(text, "aa-status")
    assert ('id="aa-error"' in text) is (status == "failed")


def test_a_reset_shows_each_breaker_before_and_after_and_leads_to_it(operator, actor):
    for name in ("catalog", "shop:billing"):
        trip(name)
    done = reset_circuit_breakers(actor=actor)
    text = page(operator, done.operation_id)
    rows = text.split('id="aa-changes"')[1].split("</table>")[0].split("<tr>")[2:]
    assert len(rows) == 2
    for row, name in zip(rows, ["catalog", "shop:billing"], strict=True):
        assert f'<a href="{BREAKER}{name}/"><bdi>{name}</bdi></a>' in row
        assert row.index("Open</span>") < row.index("Closed</span>")
        assert operator.get(f"{BREAKER}{name}/").status_code == 200
    assert figures(text, "aa-outcome")["State changed"] == "2"


@pytest.mark.parametrize(
    ("seconds", "words"), [(900, "15 minutes"), (None, "1 hour"), (90, "90.0 s")]
)
def test_a_hold_shows_what_was_asked_for(operator, actor, seconds, words):
    trip("catalog")
    held = set_breaker_control(
        name="catalog", control="forced_open", actor=actor, for_seconds=seconds
    )
    text = page(operator, held.operation_id)
    told = text.split('id="aa-targets"')[1]
    assert "<bdi>Forced open</bdi>" in told
    assert f"<bdi>{words}</bdi>" in told
    assert f'<a href="{BREAKER}catalog/"><bdi>catalog</bdi></a>' in told


def test_a_hold_without_an_end_says_so_and_a_release_names_none(operator, actor):
    trip("catalog")
    for control, shown in [("disabled", True), ("automatic", False)]:
        seconds = float("inf") if shown else None
        held = set_breaker_control(
            name="catalog", control=control, actor=actor, for_seconds=seconds
        )
        assert ("Until released" in page(operator, held.operation_id)) is shown


def test_a_clear_shows_what_it_has_removed(operator, actor):
    text = page(operator, clear_search_cache(actor=actor).operation_id)
    assert figures(text, "aa-outcome") == {
        "Cache": "search",
        "Dedicated database": "Yes",
        "Keys removed": "0",
        "Removal method": "Database flush",
    }
    assert figures(text, "aa-targets") == {"Mode": "hard"}


def test_the_gentler_clears_their_undo_and_a_sweep_are_shown(operator, actor):
    soft = page(operator, clear_search_cache(actor=actor, mode="soft").operation_id)
    assert "Old results served for at most" in figures(soft, "aa-outcome")
    undone = page(operator, undo_clear(actor=actor).operation_id)
    assert "Time left to undo" in figures(undone, "aa-outcome")
    swept = page(operator, sweep_search_cache(actor=actor).operation_id)
    assert figures(swept, "aa-outcome")["Completed"] == "Yes"
    tags = page(operator, clear_search_cache(actor=actor, tags=["b", "a"]).operation_id)
    assert figures(tags, "aa-outcome")["Tags"] == "2"
    assert "<li><bdi>a</bdi></li><li><bdi>b</bdi></li>" in tags


def test_an_operation_that_this_version_does_not_know_is_shown_by_its_own_names(operator):
    row = record(
        kind="an_act_of_tomorrow",
        targets={"names": ["catalog"], "shape": "round", "deep": {"a": 1}},
        outcome={"results": [{"name": "catalog", "from": "open", "to": "dreaming"}], "pi": 3.5},
    )
    text = page(operator, row.pk)
    assert "an_act_of_tomorrow" in text
    assert "dreaming" in text.split('id="aa-changes"')[1].split("</table>")[0]
    for words in ("shape", "round", "<bdi>3.5</bdi>"):
        assert words in text


def test_long_lists_are_cut_and_say_how_many_are_left_out(operator):
    names = [f"breaker-{number:05}" for number in range(10_000)]
    results = [{"name": name, "from": "open", "to": "closed"} for name in names]
    whole = record(targets={"names": names}, outcome={"results": results})
    text = page(operator, whole.pk)
    assert text.count("and 9,900 more") == 2
    assert text.split('id="aa-changes"')[1].split("</table>")[0].count("<tr>") == 101
    cut_by_the_act = record(outcome={"count": 500, "moved": 250, "results": results[:100]})
    assert page(operator, cut_by_the_act.pk).count("and 150 more") == 1
    whole = page(operator, record(outcome={"results": results[:100]}).pk)
    assert not re.search(r"and [\d,]+ more", whole)


@pytest.mark.parametrize("results", [5, "text", [5, None, {}], {"a": 1}, [{"name": None}]])
def test_an_outcome_of_another_shape_breaks_nothing(operator, results):
    row = record(outcome={"results": results, "names": results, "moved": "many"})
    assert "Raw targets and outcome" in page(operator, row.pk)


def test_hostile_words_are_text_everywhere(operator):
    row = record(
        actor=HOSTILE,
        reason=HOSTILE,
        error=HOSTILE,
        kind=HOSTILE,
        targets={"names": [HOSTILE], "tags": [HOSTILE], HOSTILE: HOSTILE, "control": HOSTILE},
        outcome={"results": [{"name": HOSTILE, "from": HOSTILE, "to": HOSTILE}]},
    )
    text = page(operator, row.pk)
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 15
    for name in ("../../", "a/b", "", "javascript:alert(1)", "\u202eevil"):
        row = record(targets={"names": [name]}, outcome={"results": [{"name": name}]})
        assert 'href="javascript' not in page(operator, row.pk)


def test_there_is_the_row_as_it_is_on_record(operator):
    row = record(targets={"mode": "hard"}, outcome={"keys": 12})
    text = unescape(page(operator, row.pk).split("<pre")[1].split("</pre>")[0])
    assert '"outcome": {\n    "keys": 12\n  }' in text
    assert '"targets": {\n    "mode": "hard"\n  }' in text


def test_a_page_needs_three_queries_however_long_the_trail(operator, django_assert_num_queries):
    row = record(targets={"names": ["a"] * 50}, outcome={"results": [{"name": "a"}] * 50})
    for _ in range(50):
        record()
    with django_assert_num_queries(3):  # session, user, row
        page(operator, row.pk)


@pytest.mark.parametrize("name", ["", "change/"])
def test_only_those_who_may_see_the_console_see_it(client, staff_user, settings, name):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_MODEL_PERMISSIONS": True}
    row = record(reason="confidential")
    url = f"{LIST}{row.pk}/{name}"
    assert client.get(url).url.startswith("/admin/login/?next=")
    client.force_login(staff_user)
    assert client.get(url).status_code == 403
    staff_user.user_permissions.add(Permission.objects.get(codename="view_console"))
    assert client.get(url).status_code in {200, 302}
