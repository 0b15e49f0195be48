"""MCP servers as they are declared."""

import pytest
from pydantic import ValidationError

from carrel.declare.mcp import McpServer


def test_a_server_has_one_credential_or_none() -> None:
    url = {"url": "https://mcp.example/mcp"}
    for good in ({}, {"secret": "KEY"}, {"connection": "github"}, {"connection": "work", "provider": "github"}):
        McpServer.model_validate({**url, **good})
    for wrong in (
        {"secret": "KEY", "connection": "github"}, {"provider": "github"}, {"url": "http://mcp.example"},
        {"template": "no place"}, {"max_message_bytes": 10}, {"command": "npx"},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            McpServer.model_validate({**url, **wrong})
