"""Forgetting a breaker from its page: asked for, confirmed, refused where it has to stay."""

import html
import re

import pytest

from analytics_admin import services
from analytics_admin.models import Operation
from analytics_admin.services import Actor, set_breaker_control
from tests.support.breakers import another, state_now, trip
from tests.support.console_pages import asked, told

BREAKERS = "/admin/analytics_admin/circuitbreaker/"
PAGE = f"{BREAKERS}typo:1/"
FORGET = f"{PAGE}forget/"
SHELL = Actor.system("root", channel="command")


@pytest.fixture
def breaker(db):
    return trip("typo:1")


def listed():
    return [status.name for status in services.list_breakers(search="typo:")]


@pytest.mark.usefixtures("breaker")
def test_a_breaker_is_forgotten_through_the_confirm_page(operator, superuser):
    confirm = operator.post(FORGET, asked(operator.get(PAGE), FORGET))
    assert "Forget the circuit breaker typo:1?" in confirm.text
    assert "Forgotten" in confirm.text
    assert listed() == ["typo:1"]
    assert not Operation.objects.exists()
    answer = operator.post(FORGET, {**asked(confirm, FORGET), "reason": "typo"}, follow=True)
    assert answer.redirect_chain == [(BREAKERS, 302)]
    assert told(answer) == [("success", "Circuit breaker typo:1 forgotten")]
    assert listed() == []
    assert operator.get(PAGE).status_code == 404
    row = Operation.objects.get()
    assert (row.kind, row.status, row.channel) == ("forget_circuit_breaker", "done", "admin")
    assert (row.user, row.reason, row.targets) == (superuser, "typo", {"names": ["typo:1"]})


def disabled_forget_reason(operator):
    """Return why the page's button is disabled."""
    page = operator.get(PAGE).text
    assert re.search(r"<button[^>]* disabled [^>]*>Forget this", page)
    (reason,) = re.findall(r'id="aa-forget-disabled-reason" class="help">(.*?)</p>', page)
    return html.unescape(reason)


@pytest.mark.parametrize("confirmed", [{}, {"confirmed": "yes"}])
def test_a_held_breaker_is_kept_and_the_page_says_why(operator, breaker, confirmed):
    set_breaker_control(name="typo:1", control="disabled", actor=SHELL)
    Operation.objects.all().delete()
    assert disabled_forget_reason(operator) == "It is held: release it first."
    data = {**asked(operator.get(PAGE), FORGET), **confirmed}
    answer = operator.post(FORGET, data, follow=True)
    assert answer.redirect_chain == [(PAGE, 302)]
    ((level, words),) = told(answer)
    assert (level, words.partition(":")[0]) == ("error", "Circuit breaker typo")
    assert "cannot be forgotten: it is held disabled; release it first" in words
    assert state_now(breaker) == "disabled"
    assert not Operation.objects.exists()


def test_a_breaker_that_the_settings_declare_is_kept(operator, settings):
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "BREAKERS": {"typo:1": {}}}
    trip("typo:1")
    assert disabled_forget_reason(operator) == "This site's code or settings declare it."
    answer = operator.post(FORGET, asked(operator.get(PAGE), FORGET), follow=True)
    assert "this site's code or settings declare it" in told(answer)[0][1]
    assert listed() == ["typo:1"]


@pytest.mark.parametrize("confirmed", [{}, {"confirmed": "yes"}])
@pytest.mark.usefixtures("breaker")
def test_a_breaker_that_has_moved_since_is_not_forgotten(operator, confirmed):
    data = asked(operator.get(PAGE), FORGET)
    services.reset_circuit_breakers(names=["typo:1"], actor=SHELL)
    answer = operator.post(FORGET, {**data, **confirmed}, follow=True)
    assert answer.redirect_chain == ([] if confirmed else [(PAGE, 302)])
    assert "Circuit breaker typo:1 has changed meanwhile: nothing was done." in told(answer)[0][1]
    assert listed() == ["typo:1"]


@pytest.mark.usefixtures("breaker")
def test_a_breaker_is_forgotten_once_however_often_it_is_sent(operator):
    confirm = operator.post(FORGET, asked(operator.get(PAGE), FORGET))
    data = asked(confirm, FORGET)
    assert operator.post(FORGET, data).status_code == 302
    assert operator.post(FORGET, data).status_code == 302
    del data["attempt"]  # as of a script, or of another page
    assert operator.post(FORGET, data).status_code == 404
    assert Operation.objects.count() == 1


@pytest.mark.parametrize("name", ["nope", "x" * 300, "..."])
def test_an_unknown_name_is_not_found(operator, name):
    answer = operator.post(f"{BREAKERS}{name}/forget/", {"confirmed": "yes"})
    assert answer.status_code == 404
    assert not Operation.objects.exists()


def test_a_breaker_named_like_the_operation_is_forgotten_as_any_other(operator):
    another("forget").acquire().succeed()
    url = f"{BREAKERS}forget/forget/"
    confirm = operator.post(url, asked(operator.get(f"{BREAKERS}forget/"), url))
    assert told(operator.post(url, asked(confirm, url), follow=True))[0][0] == "success"


@pytest.mark.usefixtures("breaker")
def test_the_button_says_what_is_missing(operator, settings):
    assert re.search(
        r'<button type="submit" class="button aa-danger">Forget', operator.get(PAGE).text
    )
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "READ_ONLY": True}
    assert re.search(r"<button[^>]* disabled [^>]*>Forget this", operator.get(PAGE).text)
