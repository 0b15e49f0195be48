"""What is taken out of a message, and which fields go on."""

import pytest

from carrel.errors import InvalidRequest
from carrel.mcp.message import Said, kind_of, passed_on, said


def test_the_method_and_the_tool() -> None:
    assert said(
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add", "arguments": {"a": 1}}}'
    ) == (Said("tools/call", "add"),)
    batch = said(b'[{"method": "initialize"}, {"result": {}}, {"method": "tools/list", "params": {"name": "x"}}]')
    assert batch == (Said("initialize"), Said("response"), Said("tools/list"))
    assert [one.is_change for one in batch] == [True, False, False]
    assert said(b'{"method": "tools/call", "params": {"name": "a\\u001b[31m"}}') == (Said("tools/call", "(odd name)"),)
    for wrong in (b"", b"x", b"1", b"[]", b"[1]", b"[" * 100_000):
        with pytest.raises(InvalidRequest):
            said(wrong)


def test_S8_no_credential_goes_on() -> None:
    given = [
        ("Authorization", "Bearer tk_acme_1"), ("x-api-key", "tk_acme_1"), ("Cookie", "a=b"),
        ("Proxy-Authorization", "x"), ("Mcp-Session-Id", "s"), ("MCP-Protocol-Version", "2025-06-18"),
        ("Mcp-Method", "tools/call"),
        ("Last-Event-ID", "7"), ("X-Forwarded-For", "1.2.3.4"), ("Origin", "https://x"),
    ]  # fmt: skip
    assert passed_on(given) == {"mcp-protocol-version": "2025-06-18", "mcp-method": "tools/call", "last-event-id": "7"}
    for wrong in ([("Mcp-A", "1"), ("mcp-a", "2")], [("Mcp-A", "a\x00")], [(f"Mcp-{n}", "") for n in range(65)]):
        with pytest.raises(InvalidRequest):
            passed_on(wrong)


def test_the_kind_of_an_answer() -> None:
    assert kind_of({"Content-Type": "Application/JSON; charset=utf-8"}) == "application/json"
    assert kind_of({}) == ""
