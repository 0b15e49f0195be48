"""The judgement on what is asked: deny before allow, nothing that no rule allows."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.declare.allowlists import Allowlists
from carrel.declare.egress import Egress
from carrel.declare.hosts import canonical
from carrel.policy.egress.rules import Asked, Decision, Rules, compiled, rule_of

SETS = Allowlists.model_validate_json(
    '{"hosts": {"sets": {"python": ["files.example.com", "index.example.com:8443"]}}}'
)


def rules(**lists: object) -> Rules:
    return compiled(Egress.model_validate_json(json.dumps(lists)), SETS)


def asked(text: str, method: str | None = None, path: str | None = None) -> Asked:
    host, _, port = text.rpartition(":")
    return Asked(canonical(host), int(port), method, path)


def decide(made: Rules, text: str, method: str | None = None, path: str | None = None) -> Decision:
    return made.decide(asked(text, method, path))


@pytest.mark.parametrize(
    ("allow", "what", "allowed"),
    [
        ([], "example.com:443", False),
        (["example.com"], "example.com:443", True),
        (["example.com"], "EXAMPLE.com.:443", True),
        (["Example.COM"], "example.com:443", True),
        (["example.com"], "example.com:80", False),
        (["example.com"], "a.example.com:443", False),
        (["example.com"], "example.com.evil.com:443", False),
        (["*.example.com"], "a.example.com:443", True),
        (["*.example.com"], "a.b.example.com:443", True),
        (["*.example.com"], "example.com:443", False),
        (["*.example.com"], "evilexample.com:443", False),
        (["*.example.com:8443"], "a.example.com:8443", True),
        (["*.example.com:8443"], "a.example.com:443", False),
        ([{"host": "*", "any": True}], "anything.org:443", True),
        ([{"host": "*", "any": True}], "anything.org:25", False),
        ([{"host": "*.com", "any": True}], "a.com:443", True),
        ([{"host": "*.com", "any": True}], "a.org:443", False),
        ([{"set": "python"}], "files.example.com:443", True),
        ([{"set": "python"}], "index.example.com:8443", True),
        ([{"set": "python"}], "other.example.com:443", False),
        (["127.0.0.1:8000"], "127.0.0.1:8000", True),
        (["127.0.0.1:8000"], "0x7f.1:8000", True),
        (["[::1]:8000"], "::1:8000", True),
        (["bücher.example"], "xn--bcher-kva.example:443", True),
    ],
)  # fmt: skip
def test_S4_02_what_is_allowed(allow: list[object], what: str, allowed: bool) -> None:
    assert decide(rules(allow=allow), what).allowed is allowed


def test_S4_02_a_wildcard_never_means_an_address() -> None:
    made = rules(allow=["*.example.com"])
    for text in ("127.0.0.1:443", "::1:443"):
        assert not decide(made, text).allowed


def test_deny_wins_and_is_named() -> None:
    made = rules(allow=["*.example.com"], deny=["evil.example.com", {"host": "*", "any": True, "ports": [8443]}])
    assert decide(made, "good.example.com:443").rule == "*.example.com"
    denied = decide(made, "evil.example.com:443")
    assert (denied.allowed, denied.reason) == (False, "the rule `evil.example.com` denies it")


def test_what_the_overlay_leaves_out_is_out_and_what_it_adds_is_not_in() -> None:
    made = rules(allow=["*.example.com"], only=["a.example.com", "other.org"])
    assert decide(made, "a.example.com:443").allowed
    assert not decide(made, "b.example.com:443").allowed
    assert not decide(made, "other.org:443").allowed
    assert not decide(rules(allow=["*.example.com"], only=[]), "a.example.com:443").allowed


def test_methods_and_paths_are_judged_in_the_requests() -> None:
    made = rules(
        allow=[{"host": "api.example.com", "methods": ["GET", "HEAD"], "paths": ["/v1/", "/open"]}],
        deny=[{"host": "api.example.com", "paths": ["/v1/admin"]}],
    )
    connection = decide(made, "api.example.com:443")
    assert (connection.allowed, connection.looks_in) == (True, True)
    for method, path, allowed in (
        ("GET", "/v1/x", True), ("POST", "/v1/x", False), ("GET", "/v2/x", False), ("GET", "/open", True),
        ("GET", "/open/x", True), ("GET", "/openly", False), ("GET", "/v1/admin", False), ("GET", "/v1/admin/x", False),
        ("GET", "/v1/administer", True), ("GET", "/v1/../v2", False), ("GET", "/v1/%2e%2e/v2", False),
        ("GET", "/v1/%2F..", False), ("GET", "/v1//x", False), ("get", "/v1/x", False),
    ):  # fmt: skip
        assert decide(made, "api.example.com:443", method, path).allowed is allowed, (method, path)


def test_a_rule_that_needs_no_look_goes_before_one_that_does() -> None:
    made = rules(allow=[{"host": "a.com", "methods": ["GET"]}, "a.com"])
    assert not decide(made, "a.com:443").looks_in
    made = rules(allow=["a.com"], deny=[{"host": "a.com", "methods": ["DELETE"]}])
    assert decide(made, "a.com:443").looks_in
    assert not decide(made, "a.com:443", "DELETE", "/").allowed


def test_tls_is_demanded_but_on_port_80() -> None:
    made = rules(allow=["a.com", "a.com:80", {"host": "b.com", "ports": [80, 5000], "tls": True},
                        {"host": "c.com", "tls": False}])  # fmt: skip
    assert decide(made, "a.com:443").tls
    assert not decide(made, "a.com:80").tls
    assert decide(made, "b.com:80").tls
    assert not decide(made, "c.com:443").tls


def test_private_addresses_are_permitted_by_the_rule_that_names_them() -> None:
    made = rules(
        allow=[{"host": "db.internal", "ports": [5432], "addresses": ["10.0.0.0/8"]}, "127.0.0.1:8000", "a.com"]
    )
    assert [str(network) for network in decide(made, "db.internal:5432").permitted] == ["10.0.0.0/8"]
    assert [str(network) for network in decide(made, "127.0.0.1:8000").permitted] == ["127.0.0.1/32"]
    assert decide(made, "a.com:443").permitted == ()


def test_a_grant_opens_what_no_rule_does_and_nothing_that_is_denied() -> None:
    made = rules(allow=[], deny=["b.com"], only=[])
    assert made.decide(asked("a.com:443"), granted=[rule_of("a.com")]).allowed
    assert not made.decide(asked("b.com:443"), granted=[rule_of("b.com")]).allowed
    assert not made.decide(asked("c.com:443"), granted=[rule_of("a.com")]).allowed


@given(st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){0,3}", fullmatch=True), st.integers(1, 65535))
def test_without_rules_nothing_is_allowed(name: str, port: int) -> None:
    assert not Rules().decide(Asked(canonical(name), port)).allowed


def test_what_was_asked_is_shown() -> None:
    assert str(asked("::1:80", "GET", "/x")) == "GET [::1]:80/x"
    assert str(asked("a.com:443")) == "a.com:443"
