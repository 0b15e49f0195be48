"""MCP through the whole gateway: the official client, a real server, and a program in a sandbox."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.fakes.gateway_process import REPOSITORY, GatewayProcess
from tests.system.test_egress import ASK, run

VALUE = "real-token-of-the-notes-7d3f"


class Server:
    """A real MCP server as a process, and what it was asked."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self.port = int(process.stdout.readline())
        self.requests: list[dict[str, Any]] = []
        lines = process.stdout
        self.reader = threading.Thread(target=lambda: self.requests.extend(map(json.loads, lines)), daemon=True)
        self.reader.start()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.mcp_server"], cwd=REPOSITORY, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'python'}"},
    )  # fmt: skip
    made = Server(process)
    yield made
    process.terminate()
    process.wait(30)
    made.reader.join(30)
    assert process.stdout is not None
    process.stdout.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(home=tmp_path_factory.mktemp("mcp") / "home").prepare()
    gateway.env["CARREL_SECRET_NOTES"] = VALUE
    lists = gateway.tenants_dir / "_allowlists.yaml"
    lists.write_text(f"{lists.read_text()}\nmcp_servers: ['127.0.0.1:{server.port}']\n")
    declared = {"url": f"http://127.0.0.1:{server.port}/mcp", "secret": "NOTES", "addresses": ["127.0.0.0/8"]}
    for name in ("demo", "acme"):
        file = gateway.tenants_dir / f"{name}.yaml"
        file.write_text(f"{file.read_text()}\nmcp_servers: {json.dumps({'notes': declared})}\n")
    yield gateway.start()
    assert gateway.stop() == 0, gateway.text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_S8_the_official_client_works_and_nothing_is_passed_through(
    served: GatewayProcess, server: Server, mode: str
) -> None:
    async def use() -> None:
        headers = {"Authorization": f"Bearer {served.token}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            transport = streamable_http_client(f"{served.url}/mcp/notes", http_client=http)
            async with Client(transport, mode=mode) as client:
                assert {tool.name for tool in (await client.list_tools()).tools} == {"add", "whoami", "count"}
                assert (await client.call_tool("add", {"a": 2, "b": 3})).structured_content == {"result": 5}
                told: list[float] = []

                async def progress(progress: float, total: float | None, message: str | None) -> None:
                    told.append(progress)

                await client.call_tool("count", {"to": 3}, progress_callback=progress)
                assert told == [1.0, 2.0, 3.0]
                seen = str((await client.call_tool("whoami", {})).content)
                assert "Bearer ***" in seen
                assert VALUE not in seen
                assert "milk" in str(await client.read_resource("notes://today"))

    asyncio.run(use())
    assert served.token not in str(server.requests)
    assert all(one["headers"]["authorization"] == f"Bearer {VALUE}" for one in server.requests)


def test_S8_a_session_of_another_tenants_is_refused(served: GatewayProcess, server: Server) -> None:
    begin = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }  # fmt: skip
    both = {"Accept": "application/json, text/event-stream"}
    begun = served.request("POST", "/mcp/notes", begin, token=served.token, headers=both)
    session = begun.headers["Mcp-Session-Id"]
    other = served.cli("tenants", "token", "issue", "acme", "--name", "mcp").stdout.strip()
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}
    asked = len(server.requests)
    refused = served.request("POST", "/mcp/notes", call, token=other, headers={**both, "Mcp-Session-Id": session})
    assert refused.status == 404
    assert len(server.requests) == asked
    own = served.request("POST", "/mcp/notes", call, token=served.token, headers={**both, "Mcp-Session-Id": session})
    assert own.status in (200, 202), own.body
    assert served.request("DELETE", "/mcp/notes", token=served.token, headers={"Mcp-Session-Id": session}).status == 200


def test_a_program_in_a_sandbox_reaches_it_without_a_credential(served: GatewayProcess, server: Server) -> None:
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add", "arguments": {}}})
    fields = "-H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream'"
    begin = json.dumps({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    })  # fmt: skip
    told = run(served, f"{ASK} -i {fields} -d '{begin}' $CARREL_MCP_URL/notes; echo $CARREL_MCP_URL; env")
    assert "https://carrel.internal/mcp" in told
    assert "serverInfo" in told
    assert VALUE not in told
    told = run(served, f"{ASK} {fields} -d '{call}' http://carrel.internal/mcp/nots")
    assert "did you mean notes" in told
    assert "egress_denied" in run(served, f"{ASK} {fields} -d '{call}' http://carrel.internal:8080/mcp/notes")
    audit = served.cli("audit", "tail", "--json").stdout
    assert '"actor":"sandbox:demo"' in audit.replace(": ", ":")
    assert 'carrel_mcp_requests_total{outcome="ok",server="notes",tenant="demo"}' in (
        served.request("GET", "/metrics").body.decode()
    )
