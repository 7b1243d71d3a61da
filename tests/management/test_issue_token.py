"""issue_token: a working access token on stdout, or a line that says why not."""

from io import StringIO

import jwt
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

pytestmark = pytest.mark.django_db


def run(username: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("issue_token", username, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_the_token_alone_is_printed_and_opens_the_api(superuser, client):
    out, err = run("admin")
    assert err == ""
    assert out.count("\n") == 1
    claims = jwt.decode(out.strip(), settings.SIMPLE_JWT["SIGNING_KEY"], algorithms=["HS256"])
    assert (claims["sub"], claims["token_type"]) == (superuser.get_username(), "access")
    bearer = {"Authorization": f"Bearer {out.strip()}"}
    answer = client.generic("POST", "/api/v1/analytics/cache/clear", headers=bearer)
    assert answer.json() == {"message": "Search cache cleared"}


def test_a_token_that_opens_nothing_comes_with_a_note(plain_user):
    out, err = run(plain_user.get_username())
    assert out.count(".") == 2
    assert err == "Note: una is not staff: the API will answer 403\n"


@pytest.mark.usefixtures("superuser")
def test_an_unknown_user_is_a_usage_error():
    with pytest.raises(CommandError, match="There is no user 'nobody'") as refusal:
        run("nobody")
    assert refusal.value.returncode == 2


def test_an_inactive_user_gets_none(superuser):
    superuser.is_active = False
    superuser.save()
    with pytest.raises(CommandError, match="The user 'admin' is not active") as refusal:
        run("admin")
    assert refusal.value.returncode == 1


def test_a_database_that_is_gone_is_one_line_without_its_address():
    def refuse(*args):
        raise OperationalError("connection to host db.internal failed")

    with (
        connection.execute_wrapper(refuse),
        pytest.raises(CommandError, match="the database does not answer") as refusal,
    ):
        run("admin")
    assert refusal.value.returncode == 1
    assert "db.internal" not in str(refusal.value)
