"""Where a placeholder is swapped, and where it is not."""

import base64
import json

import pytest
from multidict import CIMultiDict

from carrel.declare.egress import Injection
from carrel.declare.hosts import canonical
from carrel.declare.oauth import OAuthProvider
from carrel.egress.placeholders import (
    ANY,
    Outgoing,
    PlaceholderMisplaced,
    SecretUnfit,
    bindings_of,
    placeholder,
    swapped,
)
from carrel.ids import TenantId
from carrel.policy.egress.rules import Asked
from carrel.secrets import Secret

KEY = b"k" * 32
HERE = Asked(canonical("api.example.com"), 443, "POST", "/")
ACME = TenantId("acme")


def injection(**more: object) -> Injection:
    return Injection.model_validate({"secret": "TOK", "env": "TOK", "hosts": ("api.example.com",), **more})


def run(declared: Injection, *, headers: dict[str, str] | None = None, query: str = "", body: bytes | None = None,
        asked: Asked = HERE, secure: bool = True, agent: str = "main") -> Outgoing:  # fmt: skip
    outgoing = Outgoing(CIMultiDict(headers or {}), query, body, [])
    swapped(
        outgoing,
        bindings_of(KEY, ACME, agent, [declared]),
        asked,
        secure=secure,
        secrets={"TOK": Secret("real & true")},
    )
    return outgoing


MARK = placeholder(KEY, ACME, "main", "TOK")


def test_it_is_the_same_at_every_time_and_another_for_everybody_else() -> None:
    assert placeholder(KEY, ACME, "main", "TOK") == MARK
    assert ANY.fullmatch(MARK.encode())
    others = {placeholder(KEY, TenantId("zeta"), "main", "TOK"), placeholder(KEY, ACME, "other", "TOK"),
              placeholder(KEY, ACME, "main", "KOT"), placeholder(b"x" * 32, ACME, "main", "TOK")}  # fmt: skip
    assert len(others | {MARK}) == 5


def test_S5_01_it_is_swapped_in_its_own_place() -> None:
    bearer = injection(header="Authorization", template="Bearer {}")
    assert run(bearer, headers={"authorization": f"bearer {MARK}"}).headers["Authorization"] == "bearer real & true"
    assert run(injection(header="X-Key"), headers={"X-Key": MARK}).headers["X-Key"] == "real & true"
    prefixed = injection(header="X-Key", prefix="ghp_")
    assert run(prefixed, headers={"X-Key": f"ghp_{MARK}"}).headers["X-Key"] == "real & true"
    assert run(injection(query="key"), query=f"a=b&key={MARK}&c=").query == "a=b&key=real%20%26%20true&c="
    given = base64.b64encode(f"user:{MARK}".encode()).decode()
    told = run(injection(basic="user"), headers={"Authorization": f"Basic {given}"}).headers["Authorization"]
    assert base64.b64decode(told[6:]) == b"user:real & true"
    told_json = run(injection(body="key"), headers={"Content-Type": "application/json"},
                    body=json.dumps({"key": MARK, "n": 1}).encode()).body  # fmt: skip
    assert json.loads(told_json or b"") == {"key": "real & true", "n": 1}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert run(injection(body="key"), headers=form, body=f"key={MARK}&a=b".encode()).body == b"key=real+%26+true&a=b"


def test_what_was_put_in_is_known_and_nothing_is_where_nothing_was() -> None:
    outgoing = run(injection(header="X-Key"), headers={"X-Key": MARK})
    assert [value for _, value in outgoing.used] == ["real & true"]
    assert run(injection(header="X-Key"), headers={"X-Key": "mine"}).used == []


@pytest.mark.parametrize(
    ("declared", "request_"),
    [
        (injection(header="X-Key"), {"headers": {"X-Other": MARK}}),
        (injection(header="X-Key"), {"query": f"key={MARK}"}),
        (injection(header="X-Key"), {"body": f"x {MARK}".encode()}),
        (injection(header="Authorization", template="Bearer {}"), {"headers": {"Authorization": f"Token {MARK}"}}),
        (injection(header="X-Key"), {"headers": {"X-Key": MARK}, "asked": Asked(canonical("evil.com"), 443)}),
        (injection(header="X-Key"), {"headers": {"X-Key": MARK}, "asked": Asked(canonical("api.example.com"), 8443)}),
        (injection(header="X-Key"), {"headers": {"X-Key": MARK}, "secure": False}),
        (injection(header="X-Key"), {"headers": {"X-Key": MARK}, "agent": "other"}),
        (injection(header="X-Key", agents=("other",)), {"headers": {"X-Key": MARK}}),
        (injection(header="X-Key"), {"headers": {"X-Key": placeholder(KEY, TenantId("zeta"), "main", "TOK")}}),
        (injection(basic="user"), {"headers": {"Authorization": "Basic " + base64.b64encode(MARK.encode()).decode()}}),
    ],
)  # fmt: skip
def test_S5_01_anywhere_else_the_request_is_refused(declared: Injection, request_: dict[str, object]) -> None:
    with pytest.raises(PlaceholderMisplaced):
        run(declared, **request_)  # type: ignore[arg-type] # parameters by name


def test_S5_01_or_it_leaves_as_it_is_where_the_operator_says_so() -> None:
    outgoing = run(injection(header="X-Key", elsewhere="pass"), headers={"X-Other": MARK})
    assert (outgoing.headers["X-Other"], outgoing.used) == (MARK, [])


def test_S5_01_over_plain_http_only_where_that_is_declared() -> None:
    outgoing = run(injection(header="X-Key", plain=True), headers={"X-Key": MARK}, secure=False)
    assert outgoing.headers["X-Key"] == "real & true"


@pytest.mark.parametrize("value", ["two\r\nX-Admin: yes", "end\n", "\t", "\x7f"])
def test_S5_01_a_secret_that_no_header_can_hold_adds_none(value: str) -> None:
    bound = bindings_of(KEY, ACME, "main", [injection(header="X-Key")])
    outgoing = Outgoing(CIMultiDict({"X-Key": MARK}), "", None, [])
    with pytest.raises(SecretUnfit):
        swapped(outgoing, bound, HERE, secure=True, secrets={"TOK": Secret(value)})
    assert outgoing.headers["X-Key"] == MARK


def test_a_connections_token_has_a_binding_for_each_place_that_its_provider_allows() -> None:
    provider = OAuthProvider.model_validate({
        "authorize_url": "https://v.example/a", "token_url": "https://v.example/t", "client_id": "c",
        "allow": ({"hosts": ("api.v.example",)}, {"hosts": ("git.v.example:8443",), "basic": "x-access-token"}),
    })  # fmt: skip
    declared = [Injection(connection="work", provider="vendor", env="TOKEN", prefix="vt_")]
    one, other = bindings_of(b"k", TenantId("acme"), "main", declared, {"vendor": provider})
    assert one.text == other.text
    assert (one.declared.header, one.declared.template, other.declared.basic) == (
        "Authorization", "Bearer {}", "x-access-token",
    )  # fmt: skip
    assert one.is_for(Asked(canonical("api.v.example"), 443))
    assert not one.is_for(Asked(canonical("git.v.example"), 8443))
    assert other.is_for(Asked(canonical("git.v.example"), 8443))
    # Of another connection, or a secret of a like name, it is another; of a provider that is not there it goes nowhere.
    mine = Injection(connection="work", provider="other", env="TOKEN")
    (nowhere,) = bindings_of(b"k", TenantId("acme"), "main", [mine], {"vendor": provider})
    assert nowhere.mark != one.mark
    assert not nowhere.is_for(Asked(canonical("api.v.example"), 443))
