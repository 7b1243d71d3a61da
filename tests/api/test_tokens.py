"""Which tokens the API accepts, and that it accepts no other, whatever it contains."""

import base64
import json
import math
import time
from datetime import timedelta

import jwt
import pytest
from django.conf import settings as site
from django.contrib.auth import get_user_model
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from analytics_admin.tokens import issue_access_token, issue_refresh_token
from tests.support.api import (
    ACTS,
    CLEAR,
    REFRESH,
    TOKEN,
    assert_error,
    call,
    nothing_changes,
)
from tests.support.cases import case

pytestmark = [
    pytest.mark.django_db,
    # Some of these tokens are badly made on purpose.
    pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning"),
]

DRY = {"dry_run": True}
KEY = site.SIMPLE_JWT["SIGNING_KEY"]


def raw_token(payload: str, header: dict | None = None) -> str:
    """Sign a payload that no JSON encoder would write."""
    head = json.dumps({"alg": "HS256", "typ": "JWT", **(header or {})}).encode()
    signed = b".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=") for part in (head, payload.encode())
    )
    signature = jwt.get_algorithm_by_name("HS256").sign(signed, KEY.encode())
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def in_five_minutes() -> int:
    return int(time.time()) + 300


def unsigned() -> str:
    return jwt.encode({"sub": "admin", "exp": in_five_minutes()}, None, algorithm="none")


REFUSED = {
    "wrong key": lambda mint: mint(key="another-key-of-more-than-thirty-two-bytes"),
    "alg none": lambda mint: unsigned(),
    "alg other than configured": lambda mint: mint(
        algorithm="HS512", key="another-key-of-more-than-sixty-four-bytes-for-the-longer-hash-0123"
    ),
    "alg other than configured, right key": lambda mint: mint(algorithm="HS384", key=KEY),
    "expired": lambda mint: mint(exp=int(time.time()) - 6),
    "no exp": lambda mint: mint(exp=...),
    "exp null": lambda mint: mint(exp=None),
    "exp true": lambda mint: mint(exp=True),
    "exp text": lambda mint: mint(exp="soon"),
    "exp digits in text": lambda mint: mint(exp=str(in_five_minutes())),
    "exp list": lambda mint: mint(exp=[in_five_minutes()]),
    "exp huge": lambda mint: mint(exp=10**30),
    "exp too large for a float": lambda mint: mint(exp=10**400),
    "exp beyond what Python reads": lambda mint: raw_token(
        '{"sub":"admin","exp":' + "9" * 4400 + "}"
    ),
    "exp infinity": lambda mint: mint(exp=math.inf),
    "exp NaN": lambda mint: mint(exp=math.nan),
    "exp 1e999": lambda mint: raw_token('{"sub":"admin","exp":1e999}'),
    "exp negative": lambda mint: mint(exp=-5),
    "no sub": lambda mint: mint(...),
    "sub null": lambda mint: raw_token(f'{{"sub":null,"exp":{in_five_minutes()}}}'),
    "sub number": lambda mint: raw_token(f'{{"sub":1,"exp":{in_five_minutes()}}}'),
    "sub list": lambda mint: raw_token(f'{{"sub":["admin"],"exp":{in_five_minutes()}}}'),
    "sub empty": lambda mint: mint(""),
    "NUL in sub": lambda mint: mint("ad\0min"),
    "half a surrogate pair in sub": lambda mint: mint("\ud800"),
    "refresh token": lambda mint: mint(token_type="refresh"),
    "sliding token": lambda mint: mint(token_type="sliding"),
    "token_type null": lambda mint: mint(token_type=None),
    "token_type list": lambda mint: mint(token_type=["access"]),
    "token_type in capitals": lambda mint: mint(token_type="Access"),
    "unknown user": lambda mint: mint("nobody"),
    "user id instead of name": lambda mint: mint("1"),
    "iat text": lambda mint: mint(iat="x"),
    "iat null": lambda mint: mint(iat=None),
    "iat true": lambda mint: mint(iat=True),
    "iat list": lambda mint: mint(iat=[]),
    "iat infinity": lambda mint: mint(iat=math.inf),
    "iat tomorrow": lambda mint: mint(iat=int(time.time()) + 86400),
    "nbf text": lambda mint: mint(nbf="x"),
    "nbf null": lambda mint: mint(nbf=None),
    "nbf NaN": lambda mint: mint(nbf=math.nan),
    "nbf tomorrow": lambda mint: mint(nbf=int(time.time()) + 86400),
    "jti a number": lambda mint: mint(jti=7),
    "unknown critical header": lambda mint: raw_token(
        f'{{"sub":"admin","exp":{in_five_minutes()}}}', {"crit": ["x"], "x": 1}
    ),
    "detached payload": lambda mint: raw_token("", {"crit": ["b64"], "b64": False}),
    "payload a list": lambda mint: raw_token("[1]"),
    "payload nested too deep": lambda mint: raw_token('{"sub":' + "[" * 3000 + "]" * 3000 + "}"),
    "payload no JSON": lambda mint: raw_token("{"),
    "payload no UTF-8": lambda mint: raw_token("\udcff".encode("utf-16", "surrogatepass").hex()),
    "three parts of rubbish": lambda mint: "a.b.c",
    "two dots": lambda mint: "..",
    "one word": lambda mint: "rubbish",
    "nothing": lambda mint: "",
    "one character missing": lambda mint: mint()[:-1],
    "two tokens": lambda mint: f"{mint()} {mint()}",
    "two headers joined": lambda mint: f"{mint()}, Bearer {mint()}",
    "longer than a header": lambda mint: mint(pad="x" * 9000),
    "very long": lambda mint: "a" * 1_000_000,
    "beyond ASCII": lambda mint: mint() + "é",
    "a lone surrogate": lambda mint: mint() + "\udcff",
}


@pytest.mark.usefixtures("superuser")
def test_a_token_that_does_not_hold_is_401_and_does_nothing(
    client, mint, django_assert_num_queries
):
    with nothing_changes():
        for name, make in REFUSED.items():
            looked_up = name in {"unknown user", "user id instead of name"}
            with case(name), django_assert_num_queries(1 if looked_up else 0):
                answer = call(client, CLEAR, None, HTTP_AUTHORIZATION=f"Bearer {make(mint)}")
                assert_error(answer, 401, "token_not_valid")
                assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.usefixtures("superuser")
@pytest.mark.parametrize("path", ACTS)
@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic YWRtaW46cHctYWRtaW4=", "Token x"])
def test_without_a_bearer_token_it_is_401_and_does_nothing(client, path, header):
    extra = {} if header is None else {"HTTP_AUTHORIZATION": header}
    with nothing_changes():
        answer = call(client, path, None, **extra)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert set(answer.json()) == {"detail", "code"}


@pytest.mark.parametrize("path", ACTS)
def test_an_inactive_user_is_401(client, superuser, mint, path):
    superuser.is_active = False
    superuser.save()
    with nothing_changes():
        assert_error(call(client, path, mint()), 401, "token_not_valid")


@pytest.mark.parametrize("path", ACTS)
def test_a_session_does_not_open_this_door(client, superuser, path):
    client.force_login(superuser)
    with nothing_changes():
        assert_error(call(client, path, None), 401, "not_authenticated")


@pytest.mark.usefixtures("superuser")
@pytest.mark.parametrize(
    "claims", [{}, {"token_type": "access"}, {"jti": "1"}, {"aud": "x"}, {"iat": 1.5}, {"nbf": 0}]
)
def test_a_token_minted_elsewhere_with_the_same_key_is_accepted(client, mint, claims):
    assert call(client, CLEAR, mint(**claims), DRY).status_code == 200


@pytest.mark.usefixtures("superuser")
def test_an_expiry_may_have_a_fraction_and_the_scheme_any_case(client, mint):
    token = mint(exp=time.time() + 9.5)
    answer = call(client, CLEAR, None, DRY, HTTP_AUTHORIZATION=f"bearer {token}")
    assert answer.status_code == 200


def test_an_issued_token_is_of_the_documented_shape(client, superuser):
    token = issue_access_token(superuser)
    claims = jwt.decode(token, KEY, algorithms=["HS256"])
    assert claims.keys() == {"sub", "exp", "iat", "jti", "token_type", "analytics_admin"}
    assert (claims["sub"], claims["token_type"]) == ("admin", "access")
    assert call(client, CLEAR, token, DRY).status_code == 200


@pytest.mark.parametrize("claims", [{"token_type": "access"}, {"iat": 1.5}, {"jti": "1"}])
@pytest.mark.usefixtures("superuser")
def test_no_claim_makes_a_token_minted_elsewhere_one_of_ours(client, mint, settings, claims):
    settings.ANALYTICS_ADMIN = {"EXTERNAL_TOKEN_MAX_LIFETIME": 60}
    with nothing_changes():
        assert_error(call(client, CLEAR, mint(**claims)), 401, "token_not_valid", "longer")


@pytest.mark.parametrize("cap", [60, timedelta(minutes=1)])
def test_a_bare_token_may_not_outlive_the_cap_but_an_issued_one_may(
    client, superuser, mint, settings, cap
):
    settings.ANALYTICS_ADMIN = {"EXTERNAL_TOKEN_MAX_LIFETIME": cap}
    with nothing_changes():
        assert_error(call(client, CLEAR, mint()), 401, "token_not_valid", "longer")
    assert call(client, CLEAR, mint(exp=int(time.time()) + 50), DRY).status_code == 200
    assert call(client, CLEAR, issue_access_token(superuser), DRY).status_code == 200


HOSTS = {
    "other claim names": {"USER_ID_CLAIM": "uid", "TOKEN_TYPE_CLAIM": "typ", "JTI_CLAIM": "id"},
    "no type": {"TOKEN_TYPE_CLAIM": None},
    "no id": {"JTI_CLAIM": None},
    "sub means the primary key": {"USER_ID_CLAIM": "sub", "USER_ID_FIELD": "id"},
    "revocable": {"CHECK_REVOKE_TOKEN": True},
    "inactive users too": {"CHECK_USER_IS_ACTIVE": False},
    "another header": {"AUTH_HEADER_NAME": "HTTP_X_TOKEN", "AUTH_HEADER_TYPES": ("JWT",)},
}


@pytest.fixture(params=HOSTS)
def host(request, monkeypatch):
    """A host project whose own tokens look otherwise."""
    for name, value in HOSTS[request.param].items():
        monkeypatch.setattr(api_settings, name, value, raising=False)


@pytest.mark.usefixtures("host")
def test_whatever_the_hosts_own_tokens_look_like_ours_work(client, superuser, mint):
    pair = call(client, TOKEN, None, {"username": "admin", "password": "pw-admin"}).json()
    fresh = call(client, REFRESH, None, {"refresh": pair["refresh"]}).json()
    for token in (pair["access"], fresh["access"], mint()):
        assert call(client, CLEAR, token, DRY).status_code == 200
    with nothing_changes():
        assert call(client, CLEAR, pair["refresh"]).status_code == 401
        assert call(client, CLEAR, mint("nobody")).status_code == 401
        superuser.is_active = False
        superuser.save()
        assert call(client, CLEAR, mint()).status_code == 401


def test_a_hosts_refresh_token_is_refused_under_the_hosts_own_name_for_the_type(
    client, superuser, mint, monkeypatch
):
    monkeypatch.setattr(api_settings, "TOKEN_TYPE_CLAIM", "typ", raising=False)
    with nothing_changes():
        assert call(client, CLEAR, mint(typ="refresh")).status_code == 401
    assert call(client, CLEAR, mint(typ="access"), DRY).status_code == 200


@pytest.mark.parametrize(
    "unnamed", [["TOKEN_TYPE_CLAIM"], ["JTI_CLAIM"], ["TOKEN_TYPE_CLAIM", "JTI_CLAIM"]]
)
def test_a_hosts_refresh_token_is_refused_also_when_the_host_names_no_claims(
    client, superuser, monkeypatch, unnamed
):
    for name in unnamed:
        monkeypatch.setattr(api_settings, name, None, raising=False)
    token = RefreshToken()
    token["sub"] = "admin"
    with nothing_changes():
        assert call(client, CLEAR, str(token)).status_code == 401


@pytest.mark.parametrize("kind", [AccessToken, RefreshToken])
def test_simplejwts_own_tokens_have_no_sub_and_are_refused(client, superuser, kind):
    assert call(client, CLEAR, str(kind.for_user(superuser))).status_code == 401


def test_signing_in_gives_a_pair_whose_sub_is_the_user_name(client, superuser):
    answer = call(client, TOKEN, None, {"username": "admin", "password": "pw-admin"})
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    pair = answer.json()
    assert pair.keys() == {"access", "refresh"}
    claims = {name: jwt.decode(token, KEY, algorithms=["HS256"]) for name, token in pair.items()}
    assert [claims[name]["token_type"] for name in ("access", "refresh")] == ["access", "refresh"]
    assert {claim["sub"] for claim in claims.values()} == {"admin"}


@pytest.mark.parametrize(
    "login",
    [
        {"username": "admin", "password": "wrong"},
        {"username": "nobody", "password": "pw-admin"},
        {"username": "ADMIN ", "password": "pw-admin"},
        {"username": "admin", "password": " pw-admin"},
    ],
)
def test_wrong_credentials_are_401(client, superuser, login, caplog):
    answer = call(client, TOKEN, None, login)
    assert_error(answer, 401, "authentication_failed")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert login["password"] not in caplog.text + answer.text


def test_an_inactive_user_cannot_sign_in(client, superuser):
    superuser.is_active = False
    superuser.save()
    answer = call(client, TOKEN, None, {"username": "admin", "password": "pw-admin"})
    assert_error(answer, 401, "authentication_failed")


@pytest.mark.parametrize(
    "login",
    [
        {},
        {"username": "admin"},
        {"username": "admin", "password": ""},
        {"username": "admin", "password": 5},
        {"username": None, "password": "x"},
        {"username": ["admin"], "password": "x"},
        {"username": "ad\0min", "password": "x"},
        {"username": "\ud800", "password": "x"},
        {"username": "admin", "password": "x", "otp": "1"},
    ],
)
def test_a_malformed_sign_in_is_400(client, superuser, login):
    assert call(client, TOKEN, None, login).status_code == 400


def test_a_broken_authorization_header_does_not_stop_a_sign_in(client, superuser):
    login = {"username": "admin", "password": "pw-admin"}
    assert call(client, TOKEN, "rubbish", login).status_code == 200


def refused_refresh(client, token: str) -> None:
    answer = call(client, REFRESH, None, {"refresh": token})
    assert_error(answer, 401, "token_not_valid")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_an_access_or_bare_token_is_no_refresh_token(client, superuser, mint):
    for token in (issue_access_token(superuser), mint(), "rubbish", "a.b.c", "é", "a" * 20_000):
        refused_refresh(client, token)


def test_a_refresh_token_dies_with_its_user(client, superuser):
    token = issue_refresh_token(superuser)
    assert call(client, REFRESH, None, {"refresh": token}).json().keys() == {"access"}
    superuser.is_active = False
    superuser.save()
    refused_refresh(client, token)
    get_user_model().objects.all().delete()
    refused_refresh(client, token)
