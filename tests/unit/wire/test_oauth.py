"""OAuth's texts, both ways, with vectors of the RFCs."""

import base64
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from carrel.declare.oauth import OAuthProvider
from carrel.errors import InvalidRequest
from carrel.wire import oauth


def provider(**more: Any) -> OAuthProvider:
    base = {
        "authorize_url": "https://v.example/a?tenant=x",
        "token_url": "https://v.example/t",
        "client_id": "s6BhdRkqt3",
    }
    return OAuthProvider.model_validate({**base, **more})


def test_the_challenge_of_rfc_7636_appendix_b() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert oauth.challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_where_a_browser_is_sent() -> None:
    declared = provider(parameters={"prompt": "consent"}, resource="https://mcp.v.example/mcp")
    url = oauth.authorization_url(
        declared, redirect_uri="https://c.example/oauth/callback", state="s t", scopes=("openid", "a:b"), verifier="v",
        nonce="n",
    )  # fmt: skip
    asked = parse_qs(urlsplit(url).query)
    assert asked == {
        "tenant": ["x"], "prompt": ["consent"], "response_type": ["code"], "client_id": ["s6BhdRkqt3"],
        "redirect_uri": ["https://c.example/oauth/callback"], "state": ["s t"], "scope": ["openid a:b"],
        "code_challenge": [oauth.challenge("v")], "code_challenge_method": ["S256"], "nonce": ["n"],
        "resource": ["https://mcp.v.example/mcp"],
    }  # fmt: skip
    plain = provider(pkce=False, client_secret={"secret": "X"})
    bare = parse_qs(urlsplit(oauth.authorization_url(
        plain, redirect_uri="x", state="s", scopes=(), verifier="v", nonce="n"
    )).query)  # fmt: skip
    assert bare.keys() == {"tenant", "response_type", "client_id", "redirect_uri", "state"}
    fields = oauth.code_fields(plain, code="c", redirect_uri="x", verifier="v")
    assert fields == {"grant_type": "authorization_code", "code": "c", "redirect_uri": "x"}
    assert oauth.code_fields(declared, code="c", redirect_uri="x", verifier="v")["code_verifier"] == "v"
    assert oauth.refresh_fields(declared, "r")["resource"] == "https://mcp.v.example/mcp"


def test_the_client_of_rfc_6749_2_3_1() -> None:
    declared = provider(client_id="a:b", client_secret={"secret": "X"})
    headers, body = oauth.authenticated(declared, "p w", {"a": "b"})
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"a%3Ab:p%20w"
    assert body == {"a": "b"}
    posted = provider(client_secret={"secret": "X"}, client_auth="post")
    assert oauth.authenticated(posted, "s", {}) == ({}, {"client_id": "s6BhdRkqt3", "client_secret": "s"})
    assert oauth.authenticated(provider(), None, {}) == ({}, {"client_id": "s6BhdRkqt3"})
    assert oauth.form({"a": "b c"}) == b"a=b+c"
    assert oauth.revoke_fields("t", hint="access_token") == {"token": "t", "token_type_hint": "access_token"}


def test_what_a_browser_brings_back() -> None:
    came = oauth.returned([("state", "s"), ("code", "c"), ("iss", "https://v.example"), ("other", "1"), ("other", "2")])
    assert came == oauth.Returned("s", "c", "https://v.example")
    refused = oauth.returned([("state", "s"), ("error", "access_denied"), ("error_description", "no\x1b[31m\nno")])
    assert (refused.error, refused.description) == ("access_denied", "no [31m no")
    for wrong in ([], [("code", "c")], [("state", "s")], [("state", "s"), ("code", "c"), ("code", "d")]):
        with pytest.raises(InvalidRequest):
            oauth.returned(wrong)


@pytest.mark.parametrize(
    ("declared", "iss", "good"),
    [
        (None, None, True), (None, "https://v.example", True), (None, "https://v.example/realm", True),
        (None, "https://evil.example", False), (None, "http://v.example", False),
        ("https://v.example/realm", "https://v.example/realm", True),
        ("https://v.example/realm", "https://v.example/realm/", False), ("https://v.example", "https://evil", False),
    ],
)  # fmt: skip
def test_the_issuer_of_rfc_9207(declared: str | None, iss: str | None, good: bool) -> None:
    if good:
        oauth.check_issuer(provider(issuer=declared), iss)
    else:
        with pytest.raises(oauth.OAuthUnclear):
            oauth.check_issuer(provider(issuer=declared), iss)


def test_a_token_answer() -> None:
    body = {"access_token": "2YotnFZFEjr1zCsicMWpAA", "token_type": "BEARER", "expires_in": "3600", "scope": "a,b c",
            "refresh_token": "tGzv3JOkF0XG5Qx2TlKWIA", "example_parameter": 1}  # fmt: skip
    answer = oauth.token_answer(200, "application/json;charset=UTF-8", json.dumps(body).encode())
    assert (answer.expires_in, answer.scopes) == (3600, ("a", "b", "c"))
    assert "tGzv" not in repr(answer)
    assert "2Yot" not in repr(answer)
    form = oauth.token_answer(
        200, "application/x-www-form-urlencoded", b"access_token=x&token_type=bearer&expires_in=5"
    )
    assert (form.expires_in, form.scopes, form.refresh_token) == (5, None, None)


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (400, b'{"error": "invalid_grant", "error_description": "no\\u001b"}', oauth.OAuthRefused, "invalid_grant: no"),
        (200, b'{"error": "bad_verification_code"}', oauth.OAuthRefused, "bad_verification_code"),
        (502, b"<html>", oauth.OAuthUnclear, "502"),
        (200, b"[]", oauth.OAuthUnclear, "access_token"),
        (200, b'{"access_token": "a b"}', oauth.OAuthUnclear, "access_token"),
        (200, b'{"access_token": "a\\r\\nX: y"}', oauth.OAuthUnclear, "access_token"),
        (200, b'{"access_token": "a", "token_type": "mac"}', oauth.OAuthUnclear, "mac"),
        (200, b'{"access_token": "a", "expires_in": -1}', oauth.OAuthUnclear, "expires_in"),
        (200, b"[" * 100_000, oauth.OAuthUnclear, "access_token"),
    ],
)  # fmt: skip
def test_what_is_no_token_answer(status: int, body: bytes, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        oauth.token_answer(status, "application/json", body)
    assert "\x1b" not in str(caught.value)


def jwt(claims: object) -> str:
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims, 1)
    )


def test_an_id_token() -> None:
    declared = provider(issuer="https://v.example")
    good = {"iss": "https://v.example", "aud": "s6BhdRkqt3", "nonce": "n", "exp": 1000, "email": "a@b.c", "sub": "1"}
    claims = oauth.id_claims(declared, jwt(good), nonce="n", now=900)
    assert oauth.account_in(declared, claims) == "a@b.c"
    assert oauth.account_in(provider(account_field="sub"), claims) == "1"
    assert oauth.account_in(provider(account_field="login"), claims) is None
    assert oauth.id_claims(declared, jwt({**good, "aud": ["x", "s6BhdRkqt3"]}), nonce="n", now=900)
    for wrong in (
        {"iss": "https://evil"}, {"aud": "x"}, {"aud": None}, {"nonce": "m"}, {"nonce": None}, {"exp": 800},
        {"exp": "x"}, {"azp": "other"},
    ):  # fmt: skip
        with pytest.raises(oauth.OAuthUnclear):
            oauth.id_claims(declared, jwt({**good, **wrong}), nonce="n", now=900)
    for text in ("", "a.b", "a.!.c", jwt([])):
        with pytest.raises(oauth.OAuthUnclear):
            oauth.id_claims(declared, text, nonce="n", now=900)


def test_foreign_text_is_one_line() -> None:
    assert oauth.tidy("a\u202eb\x00c\n" + "x" * 300, 6) == "a b c"
