"""A real MCP server, made with the official SDK: ``python -m tests.fakes.mcp_server`` prints its port and each request.

It says back what it was sent, its credential too, as a careless server does.
"""

import json
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
SEEN: list[dict[str, str]] = []
server = MCPServer("notes")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def whoami() -> str:
    """The headers of this very request."""
    return json.dumps(SEEN[-1])


@server.tool()
async def count(to: int, ctx: Context[Any, Any]) -> str:
    """Count, telling each number."""
    for number in range(to):
        await ctx.report_progress(number + 1, to)
    return f"counted to {to}"


@server.resource("notes://today")
def today() -> str:
    """A note."""
    return "buy milk"


def main() -> None:
    """Serve until ended."""
    app: Any = server.streamable_http_app()

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            SEEN.append({name.decode(): value.decode() for name, value in scope["headers"]})
            sys.stdout.write(json.dumps({"method": scope["method"], "headers": SEEN[-1]}) + "\n")
            sys.stdout.flush()
        await app(scope, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        uvicorn.Server(uvicorn.Config(watched, log_level="error", lifespan="on")).run([listener])


if __name__ == "__main__":
    main()
