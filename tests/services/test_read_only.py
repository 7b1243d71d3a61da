"""READ_ONLY: no act, through no door, at no address; and the pages say why."""

import re
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from analytics_admin.models import Operation
from analytics_admin.tokens import issue_access_token
from tests.support.console_pages import told
from tests.support.operations import (
    BODIES,
    call,
    click,
    denied,
    everything_that_acts_want,
    stage,
    state,
)
from tests.support.routes import SECTION, api_routes, console_routes, example

REFUSAL = "This site is read-only: operations are switched off"
COMMANDS = {
    Operation.Kind.CLEAR_SEARCH_CACHE: ["clear_search_cache"],
    Operation.Kind.UNDO_CLEAR: ["undo_clear"],
    Operation.Kind.SWEEP_SEARCH_CACHE: ["sweep_search_cache"],
    Operation.Kind.RESET_CIRCUIT_BREAKERS: ["reset_circuit_breakers"],
    Operation.Kind.CONTROL_CIRCUIT_BREAKERS: ["set_circuit_breaker", "guarded", "disabled"],
    Operation.Kind.ALLOW_PROBE: ["allow_probe", "guarded"],
    Operation.Kind.FORGET_CIRCUIT_BREAKER: ["forget_circuit_breaker", "guarded"],
    Operation.Kind.REVOKE_TOKENS: ["revoke_tokens", "admin"],
    Operation.Kind.PRUNE_OPERATIONS: ["prune_operations", "--older-than=400d"],
}


@pytest.fixture
def operator(client, superuser, settings):
    client.force_login(superuser)
    operation = stage()
    settings.ANALYTICS_ADMIN = {**settings.ANALYTICS_ADMIN, "READ_ONLY": True}
    client.operation = operation
    return client


def test_every_act_is_tried_here():
    assert set(COMMANDS) == set(Operation.Kind)


@pytest.mark.parametrize("method", ["POST", "CONFIRM"])
def test_no_address_of_the_console_acts(operator, method):
    before, refusals = state(), 0
    for route in [each for each in console_routes() if not each.startswith("operation/")]:
        url = SECTION + example(route)
        answer = click(operator, method, url, everything_that_acts_want())
        assert answer.status_code in {302, 405}, route
        if answer.status_code == 302:
            assert told(operator.get(answer.url)) == [("error", f"{REFUSAL}.")], route
            refusals += 1
    assert refusals >= len(COMMANDS)
    assert (state(), denied()) == (before, 0)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_no_endpoint_acts(operator, superuser, method):
    before, refusals = state(), 0
    headers = {"Authorization": f"Bearer {issue_access_token(superuser)}"}
    for route in api_routes():
        if route.startswith("analytics/"):
            answer = call(method, route, BODIES.get(route, {}), headers, uuid4())
            assert answer.status_code in {403, 405}, route
            if answer.status_code == 403:
                assert answer.json() == {"detail": REFUSAL, "code": "read_only"}
                refusals += 1
    assert refusals >= 1
    assert (state(), denied()) == (before, 0)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.usefixtures("operator")
def test_no_command_acts(command):
    before, printed = state(), StringIO()
    with pytest.raises(CommandError, match=f"^{REFUSAL}$") as refused:
        call_command(*command, "--no-input", stdout=printed)
    assert refused.value.returncode == 1
    assert printed.getvalue() == ""
    assert (state(), denied()) == (before, 0)


def test_every_button_that_leads_to_an_act_is_disabled_and_says_why(operator):
    seen = 0
    for route in [each for each in console_routes() if each != "operation/export/"]:
        page = operator.get(SECTION + example(route, operator.operation), follow=True).text
        content = page[page.find('id="content-main"') :]
        for form in re.findall(r'<form method="post".*?</form>', content, re.DOTALL):
            for button in re.findall(r"<button[^>]*>", form):
                assert " disabled" in button, (route, button)
                words = re.search(r'aria-describedby="([^"]*)"', button)[1]
                assert re.search(rf'id="{words}"[^>]*>\s*{REFUSAL}', content), (route, words)
                seen += 1
    assert seen >= len(COMMANDS)


def test_what_an_act_would_do_can_still_be_looked_at(operator, superuser):
    headers = {"Authorization": f"Bearer {issue_access_token(superuser)}"}
    before = state()
    for route in ("analytics/cache/clear", "analytics/circuit-breakers/reset"):
        assert call("POST", route, {"dry_run": True}, headers).status_code == 200
    call_command("clear_search_cache", "--dry-run", stdout=StringIO())
    assert state() == before
