"""What goes to an MCP server, what comes back, and what is done where the server does wrong."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from carrel.declare.oauth import OAuthProvider
from carrel.errors import CarrelError
from carrel.http.errors import render
from carrel.ids import RequestId
from carrel.mcp import proxy as module
from carrel.mcp.proxy import McpCaller
from carrel.tenancy.handle import Snapshot, Tenant
from tests.fakes.mcp import KEY, McpHouse, mcp_house
from tests.fakes.tenants import make_snapshot, make_tenant

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add", "arguments": {"a": 1}}}


TYPE = {"Content-Type": "application/json"}


class Front:
    """The proxy behind a plain HTTP server, and who asks it."""

    def __init__(self, house: McpHouse, tenant: Tenant) -> None:
        self.house, self.tenant, self.url = house, tenant, ""
        self.snapshot: Snapshot = make_snapshot(tenant)
        self.client = aiohttp.ClientSession(auto_decompress=False)
        self.agent: str | None = None

    def declare(self, **more: Any) -> None:
        config = self.tenant.config.model_copy(update={"mcp_servers": {"notes": self.house.server(**more)}})
        self.tenant = replace(self.tenant, config=config)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        asks = McpCaller(self.tenant, self.snapshot, "tk_acme_1", RequestId("req_1"), self.agent)
        try:
            return await self.house.proxy.handle(request, request.match_info["name"], asks)
        except CarrelError as error:
            return render(error, dialect="jsonrpc", request_id=RequestId("req_1"))

    async def ask(self, method: str = "POST", body: Any = CALL, name: str = "notes", **headers: str) -> Any:
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        given = {"json": body} if method == "POST" and not isinstance(body, bytes) else {"data": body}
        if method != "POST":
            given = {}
        async with self.client.request(method, f"{self.url}/{name}", headers=sent, **given) as reply:
            return reply, (await reply.read()).decode()


@asynccontextmanager
async def fronted(state: Path) -> AsyncIterator[Front]:
    async with mcp_house() as house:
        front = Front(house, make_tenant(state, "acme"))
        front.declare()
        app = web.Application()
        app.router.add_route("*", "/{name}", front.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        front.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield front
        finally:
            await front.client.close()
            await runner.cleanup()
            front.tenant.root.close()


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    async with fronted(tmp_path) as made:
        yield made


async def test_S8_nothing_of_the_callers_goes_on_and_the_secret_is_put_in_and_does_not_come_back(front: Front) -> None:
    front.declare(secret="KEY")
    reply, text = await front.ask(
        Authorization="Bearer tk_acme_1", Cookie="c=d", X_Api_Key="k", Mcp_Method="tools/call"
    )
    sent = front.house.requests[0]["headers"]
    assert sent["Authorization"] == f"Bearer {KEY}"
    assert "tk_acme_1" not in str(front.house.requests)
    assert {name.lower() for name in sent} == {
        "host", "accept", "accept-encoding", "content-type", "content-length", "user-agent", "authorization",
        "mcp-method",
    }  # fmt: skip
    assert (reply.status, KEY in text, "Bearer ***" in text) == (200, False, True)
    assert "Set-Cookie" not in reply.headers
    assert json.loads(front.house.requests[0]["body"]) == CALL
    front.declare(secret="KEY", header="X-Key", template="{}")
    await front.ask()
    assert front.house.requests[1]["headers"]["X-Key"] == KEY
    front.declare()
    await front.ask()
    assert "Authorization" not in front.house.requests[2]["headers"]


async def test_a_connections_token_goes_as_its_provider_says_and_to_its_hosts_alone(front: Front) -> None:
    host = front.house.url.removeprefix("http://").removesuffix("/mcp")
    front.house.known.tokens["vendor/work"] = "token-of-the-account"
    for allow, field in (
        ({"hosts": (host,)}, "Bearer token-of-the-account"),
        ({"hosts": (host,), "basic": "x"}, "Basic eDp0b2tlbi1vZi10aGUtYWNjb3VudA=="),
    ):
        provider = OAuthProvider.model_validate({
            "authorize_url": "https://v.example/", "token_url": "https://v.example/", "client_id": "c",
            "allow": (allow,),
        })  # fmt: skip
        gateway = front.snapshot.gateway.model_copy(update={"oauth_providers": {"vendor": provider}})
        front.snapshot = replace(front.snapshot, gateway=gateway)
        front.declare(connection="work", provider="vendor")
        _, text = await front.ask()
        assert front.house.requests[-1]["headers"]["Authorization"] == field
        assert "token-of-the-account" not in text
    narrow = provider.model_copy(update={"allow": ()})
    gateway = front.snapshot.gateway.model_copy(update={"oauth_providers": {"vendor": narrow}})
    front.snapshot = replace(front.snapshot, gateway=gateway)
    reply, _ = await front.ask()
    assert (reply.status, len(front.house.requests)) == (403, 2)


async def test_S8_a_session_is_its_own_tenants(front: Front, tmp_path: Path) -> None:
    reply, _ = await front.ask()
    given = reply.headers["Mcp-Session-Id"]
    assert given.endswith("theirs-1")
    assert given != "theirs-1"
    await front.ask(Mcp_Session_Id=given)
    assert front.house.requests[-1]["headers"]["Mcp-Session-Id"] == "theirs-1"
    asked = len(front.house.requests)
    own, other = front.tenant, make_tenant(tmp_path, "bravo")
    front.tenant = replace(other, config=own.config)
    for held in (given, "theirs-1", "x"):
        reply, text = await front.ask(Mcp_Session_Id=held)
        assert (reply.status, "There is no such session" in text) == (404, True)
    assert len(front.house.requests) == asked
    front.tenant = own
    assert (await front.ask("DELETE", Mcp_Session_Id=given))[0].status == 200
    other.root.close()


async def test_a_stream_is_passed_as_it_comes_and_scrubbed_over_its_pieces(front: Front) -> None:
    front.declare(secret="KEY")
    more = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: first\n\n")
        await more.wait()
        await answer.write(b"data: " + KEY[:10].encode())
        await asyncio.sleep(0)
        await answer.write(KEY[10:].encode() + b"\n\n")
        return answer

    front.house.answer = stream
    async with front.client.post(f"{front.url}/notes", json=CALL) as reply:
        assert await reply.content.readuntil(b"\n\n") == b"data: first\n\n"
        more.set()
        assert await reply.content.read() == b"data: ***\n\n"


async def test_a_quiet_stream_is_kept_awake_between_events(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.02)
    over = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await over.wait()
        return answer

    front.house.answer = stream
    async with front.client.get(f"{front.url}/notes") as reply:
        assert await reply.content.readuntil(b"\n\n") == b": \n\n"
        over.set()
        assert front.house.requests[0]["headers"]["Accept"] == "text/event-stream"


@pytest.mark.parametrize(
    ("answered", "given", "said"),
    [
        ((401, {"WWW-Authenticate": 'Bearer resource_metadata="https://evil"'}, b""), 502, "refuses the credential"),
        ((302, {"Location": "http://169.254.169.254/"}, b""), 502, "nobody is followed"),
        ((500, {}, b"trace"), 502, "answered 500"), ((200, {"Content-Type": "text/html"}, b"<b>"), 502, "neither JSON"),
        ((404, TYPE, b'{"error": 1}'), 404, "error"), ((405, {"Content-Type": "text/plain"}, b"no"), 405, "no"),
        ((202, {}, b""), 202, ""), ((200, TYPE, b"x" * 5000), 502, "over 4096 bytes"),
        ((200, {**TYPE, "Content-Encoding": "gzip"}, gzip.compress(b"{}", mtime=0)), 200, "{}"),
        ((200, {**TYPE, "Content-Encoding": "gzip"}, gzip.compress(b"x" * 9000, mtime=0)), 502, "over"),
        ((200, {**TYPE, "Content-Encoding": "br"}, b"x"), 502, "compressed"),
        ((200, {**TYPE, "Mcp-Session-Id": "a b"}, b"{}"), 502, "session id"),
    ],
    ids=str,
)  # fmt: skip
async def test_what_a_server_may_answer(
    front: Front, answered: tuple[int, dict[str, str], bytes], given: int, said: str
) -> None:
    front.declare(max_message_bytes=4096)
    status, headers, body = answered

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers=headers, body=body)

    front.house.answer = answer
    reply, text = await front.ask()
    assert (reply.status, said in text) == (given, True), text
    for name in ("WWW-Authenticate", "Location"):
        assert name not in reply.headers
    assert "trace" not in text


async def test_an_event_without_end_is_cut(front: Front) -> None:
    front.declare(max_message_bytes=4096)

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for _ in range(20):
            await answer.write(b"data: small\r\n\r\n" * 100)
        await answer.write(b"data: " + b"x" * 5000)
        return answer

    front.house.answer = stream
    with pytest.raises(aiohttp.ClientError):
        await front.ask()


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (b"x", {"Content_Type": "application/json"}, 400, "not JSON"),
        (b"{}", {"Content_Type": "text/plain"}, 400, "is application/json"),
        (b"x" * 5000, {"Content_Type": "application/json"}, 413, "4096"),
        (b"{}", {"Content_Type": "application/json", "Content_Encoding": "gzip"}, 400, "Content-Encoding"),
    ],
)  # fmt: skip
async def test_what_is_no_message(front: Front, body: bytes, headers: dict[str, str], status: int, said: str) -> None:
    front.declare(max_message_bytes=4096)
    reply, text = await front.ask(body=body, **headers)
    assert (reply.status, said in text) == (status, True), text
    assert front.house.requests == []


async def test_which_servers_there_are_and_for_which_agents(front: Front) -> None:
    reply, text = await front.ask(name="note")
    assert (reply.status, "did you mean notes" in text) == (404, True)
    front.declare(agents=("main",))
    for agent, status in (("main", 200), ("other", 404), (None, 200)):
        front.agent = agent
        assert (await front.ask())[0].status == status


async def test_S4_03_an_address_that_is_not_named_is_refused(front: Front) -> None:
    front.declare(addresses=())
    reply, text = await front.ask()
    assert (reply.status, "is not connected to" in text) == (403, True)
    front.declare(addresses=(), url="http://127.0.0.1:1/mcp")
    assert (await front.ask())[0].status == 403
    front.declare()
    assert (await front.ask())[0].status == 200


async def test_it_is_counted_and_recorded(front: Front) -> None:
    await front.ask()
    await front.ask(body={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}})
    await front.ask(body={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})

    async def broken(request: web.Request) -> web.StreamResponse:
        return web.Response(status=502)

    front.house.answer = broken
    await front.ask()
    assert front.house.audit.recorded == [
        ("mcp.call", "notes", "ok"), ("mcp.session", "notes", "ok"), ("mcp.call", "notes", "ok"),
        ("mcp.call", "notes", "failed: upstream_error"),
    ]  # fmt: skip
    assert front.house.admitted == 4
    told = front.house.metrics.render().decode()
    assert 'carrel_mcp_requests_total{outcome="ok",server="notes",tenant="acme"} 3.0' in told
    assert 'carrel_mcp_requests_total{outcome="upstream_error",server="notes",tenant="acme"} 1.0' in told


async def test_a_server_that_says_nothing_is_given_up(front: Front) -> None:
    front.declare(answer_seconds=0.1)

    async def quiet(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    front.house.answer = quiet
    reply, text = await front.ask()
    assert (reply.status, "in time" in text) == (504, True)
