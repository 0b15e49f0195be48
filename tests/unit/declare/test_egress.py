"""Rules and injections as they are declared."""

import pytest
from pydantic import ValidationError

from carrel.declare.egress import Egress, EgressRule, HostAllowlist, HostSet, Injection, parsed


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("example.com", "example.com", 443), ("example.com:8443", "example.com", 8443), ("*.a.com", "*.a.com", 443),
        ("[::1]:80", "[::1]", 80), ("127.0.0.1:8000", "127.0.0.1", 8000),
    ],
)  # fmt: skip
def test_rules_as_text(text: str, host: str, port: int) -> None:
    assert parsed(text) == (host, port)
    assert Egress(allow=(text,)).allow == (text,)


@pytest.mark.parametrize(
    "text",
    ["", "*", "*.com", "a.*.com", "a*.com", "*.127.0.0.1", "a.com:0", "a.com:65536", "a.com:x", "https://a.com", "a b",
     "::1", "a.com:443:1", "*.*.com", "a.com/path"],
)  # fmt: skip
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(ValidationError):
        Egress(allow=(text,))


def test_rules_as_mappings_and_sets() -> None:
    egress = Egress.model_validate_json(
        '{"allow": [{"host": "*", "any": true}, {"host": "*.com", "any": true, "ports": [443, 8443]},'
        ' {"host": "api.a.com", "methods": ["GET"], "paths": ["/v1/"]}, {"set": "python"},'
        ' {"host": "db.internal", "ports": [5432], "addresses": ["10.0.0.0/8"], "tls": false}]}'
    )
    assert [type(rule) for rule in egress.allow] == [EgressRule, EgressRule, EgressRule, HostSet, EgressRule]
    for wrong in (
        '{"host": "*"}', '{"host": "*.com"}', '{"host": "a.com", "ports": []}', '{"host": "a.com", "methods": ["get"]}',
        '{"host": "a.com", "paths": ["v1"]}', '{"host": "a.com", "addresses": ["10.0.0.1/8"]}', '{"set": "A"}',
        '{"host": "a.com", "set": "x"}',
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            Egress.model_validate_json(f'{{"allow": [{wrong}]}}')


def test_a_secret_stands_in_exactly_one_place() -> None:
    base = {"secret": "GH", "env": "GITHUB_TOKEN", "hosts": ("api.github.com",)}
    assert Injection.model_validate({**base, "header": "Authorization", "template": "Bearer {}"}).elsewhere == "refuse"
    assert Injection.model_validate({**base, "basic": "x-access-token"}).basic == "x-access-token"
    for wrong in (
        {}, {"header": "A", "query": "k"}, {"query": "k", "template": "x {}"}, {"header": "A", "template": "no place"},
        {"header": "A:"}, {"header": "A", "template": "{}\r\nX: y"}, {"basic": "a:b"}, {"query": "k", "hosts": ()},
        {"query": "k", "hosts": ("*",)}, {"query": "k", "env": "A-B"}, {"query": "k", "secret": "a b"},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            Injection.model_validate({**base, **wrong})


def test_sets_of_hosts() -> None:
    lists = HostAllowlist.model_validate_json(
        '{"names": ["docs.example.com"], "sets": {"python": ["a.example.com", {"host": "*.b.example.com"}]}}'
    )
    assert lists.sets["python"][0] == "a.example.com"
    with pytest.raises(ValidationError):
        HostAllowlist.model_validate_json('{"sets": {"python": [{"set": "other"}]}}')
