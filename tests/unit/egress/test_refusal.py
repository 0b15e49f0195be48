"""What a refused program reads."""

import json

from carrel.declare.hosts import canonical
from carrel.egress.refusal import refusal
from carrel.policy.egress.rules import Asked


def test_a_refusal_says_what_why_and_how_to_ask() -> None:
    answer = refusal(403, "egress_denied", "No.", asked=Asked(canonical("a.com"), 443), rule="*.com")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    told = json.loads(body)["error"]
    assert (told["code"], told["asked"], told["rule"]) == ("egress_denied", "a.com:443", "*.com")
    assert "request_access" in told["how_to_ask"]


def test_who_has_no_password_is_asked_for_it() -> None:
    assert b"\r\nProxy-Authenticate: Basic" in refusal(407, "proxy_auth", "Who?")
