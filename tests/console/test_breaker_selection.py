"""Operations on selected breakers: the confirm page, the operation, and what changed since."""

import re

import pytest

from analytics_admin import services
from analytics_admin.breakers import runtime
from analytics_admin.models import Operation
from analytics_admin.services import Actor, set_breaker_control
from tests.support.breakers import state_now, trip
from tests.support.cases import case
from tests.support.console_pages import inputs, told

BREAKERS = "/admin/analytics_admin/circuitbreaker/"
RESET = f"{BREAKERS}-/reset/"
CONTROL = f"{BREAKERS}-/control/"
SHELL = Actor.system("root", channel="command")
NAMES = ["sel.0", "sel.2"]
HOSTILE = "<script>alert(1)</script> & \"'"
HOLDS = {
    "": ("Reset 2 circuit breakers", "2 circuit breakers reset successfully"),
    "forced_open": ("Force open 2 circuit breakers", "2 circuit breakers set to forced_open"),
    "disabled": ("Disable 2 circuit breakers", "2 circuit breakers set to disabled"),
    "metrics_only": (
        "Set 2 circuit breakers to metrics only",
        "2 circuit breakers set to metrics_only",
    ),
}


@pytest.fixture
def three(db):
    return [trip(f"sel.{number}") for number in range(3)]


def states(breakers):
    return [state_now(breaker) for breaker in breakers]


def sent(page, url, **more):
    """Return what the confirm page would send, with what its operator fills in."""
    fields = inputs(page, url)
    names = dict.fromkeys(name for name, _ in fields)
    return {name: [value for key, value in fields if key == name] for name in names} | more


def ask(client, url, control="", names=NAMES):
    return client.post(url, {"names": names, **({"control": control} if control else {})})


def generation(name):
    return services.describe_breaker(name).status.generation


@pytest.mark.parametrize("control", HOLDS)
def test_the_confirm_page_lists_what_is_hit_and_the_operation_hits_just_that(
    operator, superuser, three, control
):
    url, (button, message) = CONTROL if control else RESET, HOLDS[control]
    page = ask(operator, url, control)
    assert re.findall(r'<th scope="row">(\S+)</th>', page.text) == NAMES
    assert re.search(rf'<button type="submit"[^>]*>{button}</button>', page.text)
    assert states(three) == ["open"] * 3
    assert not Operation.objects.exists()
    more = {"for_seconds": "900"} if control else {}
    answer = operator.post(url, sent(page, url, reason="move", **more), follow=True)
    assert answer.redirect_chain == [(BREAKERS, 302)]
    assert told(answer) == [("success", message)]
    reached = control or "closed"
    assert states(three) == [reached, "open", reached]
    row = Operation.objects.get()
    assert (row.status, row.channel, row.user, row.reason) == ("done", "admin", superuser, "move")
    assert row.targets["names"] == NAMES
    assert row.targets.get("for_seconds") == (900 if control else None)


def test_the_selected_breakers_are_released(operator, three):
    for name in NAMES:
        set_breaker_control(name=name, control="disabled", actor=SHELL)
    page = ask(operator, CONTROL, "automatic")
    assert "Release 2 circuit breakers" in page.text
    assert 'name="for_seconds"' not in page.text
    answer = operator.post(CONTROL, sent(page, CONTROL), follow=True)
    assert told(answer) == [("success", "2 circuit breakers set to automatic")]
    assert states(three) == ["closed", "open", "closed"]


def test_one_breaker_is_counted_as_one(operator, three):
    page = ask(operator, CONTROL, "forced_open", names=["sel.1", "sel.1"])
    assert "Force open 1 circuit breaker<" in page.text
    data = sent(page, CONTROL, for_seconds="inf")
    answer = operator.post(CONTROL, data, follow=True)
    assert told(answer) == [("success", "Circuit breaker sel.1 set to forced_open")]
    assert states(three) == ["open", "forced_open", "open"]


@pytest.mark.parametrize(("url", "control"), [(RESET, ""), (CONTROL, "metrics_only")])
def test_where_one_has_moved_none_is_touched_and_the_page_is_shown_with_the_new_facts(
    operator, three, url, control
):
    page = ask(operator, url, control)
    set_breaker_control(name="sel.2", control="disabled", actor=SHELL)
    before = generation("sel.0"), generation("sel.2")
    data = sent(page, url, reason="as agreed", for_seconds="28800")
    again = operator.post(url, data)
    assert again.status_code == 200
    ((level, words),) = told(again)
    assert level == "error"
    assert words.startswith("Circuit breaker sel.2 has changed meanwhile: nothing was done.")
    assert (generation("sel.0"), generation("sel.2")) == before
    row = re.search(r'<th scope="row">sel\.2</th>.*?</tr>', again.text, re.DOTALL)[0]
    assert "Disabled" in row
    assert 'value="as agreed"' in again.text
    assert not control or '<option value="28800" selected>' in again.text
    Operation.objects.all().delete()
    more = {"for_seconds": "28800"} if control else {}
    done = operator.post(url, sent(again, url, **more), follow=True)
    assert told(done)[0][0] == "success"
    expected = control or "closed"
    assert states(three) == [expected, "open", expected]
    assert Operation.objects.get().reason == "as agreed"


@pytest.mark.parametrize(("url", "control"), [(RESET, ""), (CONTROL, "metrics_only")])
def test_where_one_moves_in_the_very_moment_the_message_does_not_say_that_nothing_was_done(
    operator, three, monkeypatch, url, control
):
    """The other operator's operation falls between this one's look and its write."""
    page = ask(operator, url, control)
    store = runtime.operator_store()
    real = store.compare_and_set

    def overtaken(moves):
        monkeypatch.setattr(store, "compare_and_set", real)
        set_breaker_control(name="sel.2", control="disabled", actor=SHELL)
        return real(moves)

    monkeypatch.setattr(store, "compare_and_set", overtaken)
    ((level, words),) = told(operator.post(url, sent(page, url, for_seconds="900")))
    assert level == "error"
    assert words.startswith("Circuit breaker sel.2 has changed meanwhile; changed before it: 1.")
    assert "nothing was done" not in words
    assert states(three) == [control or "closed", "open", "disabled"]


@pytest.mark.parametrize(("url", "control"), [(RESET, ""), (CONTROL, "disabled")])
def test_an_operation_on_what_has_been_acted_on_is_not_done(operator, three, url, control):
    data = sent(ask(operator, url, control), url, for_seconds="900")
    assert told(operator.post(url, data, follow=True))[0][0] == "success"
    del data["attempt"]  # as of another page that showed the same
    after = [generation(name) for name in NAMES]
    ((level, words),) = told(operator.post(url, data))
    assert level == "error"
    assert "has changed meanwhile: nothing was done." in words
    assert [generation(name) for name in NAMES] == after
    assert [row.status for row in Operation.objects.order_by("started_at")] == ["done", "failed"]


@pytest.mark.parametrize(("url", "control"), [(RESET, ""), (CONTROL, "disabled")])
@pytest.mark.parametrize("confirmed", [{}, {"confirmed": "yes", "for_seconds": "900"}])
def test_nothing_ticked_is_told_and_nothing_done(operator, three, url, control, confirmed):
    answer = operator.post(url, {"control": control, **confirmed}, follow=True)
    assert answer.redirect_chain == [(BREAKERS, 302)]
    assert told(answer) == [("error", "Select at least one circuit breaker.")]
    assert states(three) == ["open"] * 3
    assert not Operation.objects.exists()


@pytest.mark.parametrize(("url", "control"), [(RESET, ""), (CONTROL, "disabled")])
@pytest.mark.parametrize("confirmed", [False, True])
def test_ticked_names_that_have_vanished_are_told_and_nothing_done(
    operator, three, url, control, confirmed
):
    trip("sel.gone")
    names = [*NAMES, "sel.gone"]
    page = ask(operator, url, control, names)
    services.forget_breaker(name="sel.gone", actor=SHELL)
    Operation.objects.all().delete()
    data = sent(page, url, for_seconds="900") if confirmed else {"names": names, "control": control}
    answer = operator.post(url, data, follow=True)
    assert answer.redirect_chain == [(BREAKERS, 302)]
    assert told(answer) == [("error", "Unknown circuit breakers: sel.gone")]
    assert states(three) == ["open"] * 3
    assert not Operation.objects.exists()


NOT_OFFERED = [
    {"control": ""},
    {"control": "open"},
    {"control": HOSTILE},
    {"names": [HOSTILE]},
    {"names": ["sel.0\x00"]},
    {"names": ["x" * 9999]},
]


@pytest.mark.parametrize("confirmed", [{}, {"confirmed": "yes", "generations": ["x"]}])
@pytest.mark.usefixtures("three")
def test_what_the_list_does_not_offer_is_refused(operator, confirmed):
    right = {"names": ["sel.0"], "control": "disabled", "for_seconds": "900", **confirmed}
    for wrong in NOT_OFFERED:
        with case(wrong):
            answer = operator.post(CONTROL, {**right, **wrong}, follow=True)
            assert answer.redirect_chain == [(BREAKERS, 302)]
            assert told(answer)[0][0] == "error"
            assert "<script>alert" not in answer.text
            assert not Operation.objects.exists()


@pytest.mark.parametrize("generations", [[], ["x"], ["x", "y", "z"]])
def test_a_confirmation_that_has_not_seen_every_breaker_is_refused(operator, three, generations):
    data = {"confirmed": "yes", "names": NAMES, "generations": generations}
    assert told(operator.post(RESET, data, follow=True))[0][0] == "error"
    assert states(three) == ["open"] * 3
    assert not Operation.objects.exists()


@pytest.mark.parametrize("seconds", ["", "901", "nan", "-1"])
def test_a_duration_that_is_not_offered_is_asked_for_again(operator, three, seconds):
    page = ask(operator, CONTROL, "disabled")
    again = operator.post(CONTROL, sent(page, CONTROL, for_seconds=seconds))
    assert again.status_code == 200
    assert "errorlist" in again.text
    assert states(three) == ["open"] * 3
    assert told(operator.post(CONTROL, sent(again, CONTROL, for_seconds="900"), follow=True)) == [
        ("success", "2 circuit breakers set to disabled")
    ]


@pytest.mark.parametrize(("url", "control"), [(RESET, ""), (CONTROL, "disabled")])
def test_a_reason_is_asked_for_where_the_site_says_so(operator, settings, three, url, control):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "REQUIRE_REASON": True}
    page = ask(operator, url, control)
    again = operator.post(url, sent(page, url, reason=" ", for_seconds="900"))
    assert "This field is required." in again.text
    assert states(three) == ["open"] * 3
    data = sent(again, url, reason="why", for_seconds="900")
    assert told(operator.post(url, data, follow=True))[0][0] == "success"


@pytest.mark.usefixtures("three")
def test_the_operation_leads_back_to_the_list_in_which_the_ticks_were_made(operator):
    listed = operator.get(BREAKERS, {"state": "open", "search": "sel.", "evil": HOSTILE}).text
    forms = re.search(
        r'<form method="post" action="[^"]*" class="aa-operations" id="aa-selected".*?</form>',
        listed,
        re.S,
    )
    assert f'formaction="{CONTROL}?search=sel.&amp;state=open"' in forms[0]
    asked = f"{RESET}?search=sel.&state=open"
    page = ask(operator, asked)
    answer = operator.post(asked, sent(page, asked.replace("&", "&amp;")), follow=True)
    assert answer.redirect_chain == [(f"{BREAKERS}?search=sel.&state=open", 302)]
    elsewhere = ask(operator, f"{RESET}?next=//evil.example&state=ajar", names=["nope"])
    assert elsewhere.url == BREAKERS


@pytest.mark.usefixtures("three")
def test_ticks_matter_to_the_selected_alone(operator):
    page = operator.post(f"{BREAKERS}reset/", {"names": ["sel.0"], "only_open": "True"}).text
    assert "Reset the open circuit breakers?" in page
    assert 'name="names"' not in page


def test_a_hundred_breakers_are_held_as_one_operation(operator, settings):
    policies = {f"many-{number:03}": {} for number in range(100)}
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "BREAKERS": policies}
    page = ask(operator, CONTROL, "metrics_only", list(policies))
    assert len(re.findall(r'<th scope="row">', page.text)) == 100
    answer = operator.post(CONTROL, sent(page, CONTROL, for_seconds="900"), follow=True)
    assert told(answer) == [("success", "100 circuit breakers set to metrics_only")]
    held = {status.name for status in services.list_breakers(state="metrics_only")}
    assert held == set(policies)
