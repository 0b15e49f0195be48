"""The root of every request, on real sockets."""

import asyncio
import socket
import stat
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from carrel.errors import QuotaExceeded
from carrel.http.server import Server
from carrel.http.services import Limits
from tests.fakes.edge import Edge, bearer, chat_body, running_edge, token_of
from tests.fakes.patience import PATIENCE, eventually, soon

ACME = bearer(token_of("acme"))


async def test_the_request_id_is_taken_or_made_and_no_maker_is_named(edge: Edge, client: aiohttp.ClientSession) -> None:
    async with client.get(edge.url + "/healthz", headers={"X-Request-Id": "mine-1"}) as reply:
        assert reply.headers["X-Request-Id"] == "mine-1"
        assert "Server" not in reply.headers
    async with client.get(edge.url + "/nope", headers={"X-Request-Id": "not good\x7f"[:8]}) as reply:
        assert reply.headers["X-Request-Id"].startswith("req_")


async def test_one_line_in_the_log_and_never_the_token(edge: Edge, client: aiohttp.ClientSession) -> None:
    with capture_logs() as lines:
        async with client.post(edge.url + "/v1/chat/completions", data=chat_body("hello"), headers=ACME) as reply:
            await reply.read()
        await eventually(lambda: any(line["event"] == "request" for line in lines))
    requests = [line for line in lines if line["event"] == "request"]
    assert len(requests) == 1
    line = requests[0]
    assert (line["tenant"], line["status"], line["route"]) == ("acme", 200, "/v1/chat/completions")
    assert line["request_id"] == reply.headers["X-Request-Id"]
    assert line["credential"] == "tk_acme_11111111"
    assert token_of("acme") not in str(lines)


async def test_metrics_count_by_route_and_not_by_path(edge: Edge, client: aiohttp.ClientSession) -> None:
    async with client.get(edge.url + "/v1/models/agent:main", headers=ACME) as reply:
        assert reply.status == 200
    rendered = edge.services.metrics.render().decode()
    assert 'route="/v1/models/{model:.+}",status="200",tenant="acme"' in rendered


async def test_unknown_paths_and_methods_answer_in_the_endpoints_dialect(
    edge: Edge, client: aiohttp.ClientSession
) -> None:
    async with client.get(edge.url + "/nope") as reply:
        assert (reply.status, reply.content_type) == (404, "application/problem+json")
    async with client.put(edge.url + "/v1/chat/completions", headers=ACME) as reply:
        assert reply.status == 405
        assert reply.headers["Allow"] == "GET, POST"
        assert (await reply.json())["error"]["code"] == "method_not_allowed"
    async with client.get(edge.url + "/rpc") as reply:
        assert (await reply.json())["jsonrpc"] == "2.0"


async def test_a_fault_tells_nothing_but_the_request_id(edge: Edge, client: aiohttp.ClientSession) -> None:
    async def broken(tenant: object) -> None:
        raise ZeroDivisionError("a secret detail")

    edge.meter.admit_request = broken  # type: ignore[method-assign] # a fault on purpose
    with capture_logs() as lines:
        async with client.post(edge.url + "/v1/chat/completions", data=chat_body("x"), headers=ACME) as reply:
            text = await reply.text()
    assert reply.status == 500
    assert "secret detail" not in text
    assert "ZeroDivision" not in text
    assert reply.headers["X-Request-Id"] in text
    assert any(line["event"] == "request failed" for line in lines)


async def test_over_quota_is_429_with_its_reset(edge: Edge, client: aiohttp.ClientSession) -> None:
    edge.meter.refusal = QuotaExceeded(
        "Too many.", quota="requests_per_minute", retry_after=12, reset_at=edge.services.clock.now()
    )
    for path, key in (("/v1/chat/completions", "error"), ("/rpc", "error")):
        async with client.post(edge.url + path, data=chat_body("x"), headers=ACME) as reply:
            assert reply.status == 429
            assert reply.headers["Retry-After"] == "12"
            assert key in await reply.json()


async def test_a_foreign_host_is_refused(edge: Edge, client: aiohttp.ClientSession) -> None:
    async with client.get(edge.url + "/healthz", headers={"Host": "evil.example"}) as reply:
        assert reply.status == 421
    async with client.get(edge.url + "/healthz", headers={"Host": "localhost:1"}) as reply:
        assert reply.status == 200


async def test_no_header_of_the_browser_opens_it_to_other_origins(edge: Edge, client: aiohttp.ClientSession) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with client.options(edge.url + "/rpc", headers=asked) as reply:
        assert reply.status == 405
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]


async def test_the_control_socket_needs_no_key(edge: Edge) -> None:
    assert stat.S_IMODE(edge.socket_path.stat().st_mode) == 0o600
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(edge.socket_path))) as client:
        async with client.get("http://carrel/metrics") as reply:
            assert reply.status == 200
        async with client.get("http://carrel/v1/models") as reply:
            assert reply.status == 403


async def test_a_peer_of_another_uid_is_refused(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrel.http.server.peer_uid", lambda request: 54321)
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(edge.socket_path))) as client,
        client.get("http://carrel/metrics") as reply,
    ):
        assert reply.status == 403


async def test_a_drain_lets_running_requests_end_and_takes_no_new_ones(
    edge: Edge, client: aiohttp.ClientSession
) -> None:
    async def slow() -> tuple[int, str]:
        async with client.post(edge.url + "/v1/chat/completions", data=chat_body("wait: 0.4"), headers=ACME) as reply:
            return reply.status, await reply.text()

    running = asyncio.ensure_future(slow())
    await eventually(lambda: edge.agents.turns)
    await edge.server.stop(PATIENCE)
    status, text = await running
    assert status == 200
    assert "wait: 0.4" in text
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.get(edge.url + "/healthz")
    assert not edge.socket_path.exists()


async def test_a_request_whose_body_still_arrives_is_no_idle_one(edge: Edge) -> None:
    body = chat_body("hello")
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: {ACME['Authorization']}\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:10])
    idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
    await eventually(lambda: len(edge.server._live))
    stopping = asyncio.ensure_future(edge.server.stop(PATIENCE))
    assert await soon(idle_reader.read()) == b""
    writer.write(body[10:])
    assert (await soon(reader.readline())).startswith(b"HTTP/1.1 200 ")
    await soon(stopping)
    writer.close()
    idle_writer.close()


async def test_what_does_not_end_in_time_is_cut_off(edge: Edge, client: aiohttp.ClientSession) -> None:
    running = asyncio.ensure_future(
        client.post(edge.url + "/v1/chat/completions", data=chat_body("wait: 3600"), headers=ACME)
    )
    await eventually(lambda: edge.agents.turns)
    await soon(edge.server.stop(0.1))
    with pytest.raises(aiohttp.ClientError):
        await running
    assert edge.agents.cancelled == 1


async def test_a_caller_that_goes_away_cancels_its_turn(edge: Edge, client: aiohttp.ClientSession) -> None:
    body = chat_body("wait: 3600", stream=True)
    async with client.post(edge.url + "/v1/chat/completions", data=body, headers=ACME) as reply:
        await reply.content.readline()
        reply.close()
    await eventually(lambda: edge.agents.cancelled)
    assert edge.agents.cancelled == 1


async def test_too_many_connections_are_refused(tmp_path: Path) -> None:
    async with running_edge(tmp_path, limits=Limits(connections=2)) as edge:
        held = [await asyncio.open_connection("127.0.0.1", edge.server.port) for _ in range(2)]
        await eventually(lambda: len(edge.server._connections()) == 2)
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        for _, other in held:
            other.close()


async def test_a_taken_port_is_an_error_and_leaves_nothing(edge: Edge, tmp_path: Path) -> None:
    second = Server(edge.services)
    with pytest.raises(OSError, match="address already in use"):
        await second.start("127.0.0.1", edge.server.port or 0, tmp_path / "second.sock")
    assert not (tmp_path / "second.sock").exists()


async def test_readiness_follows_what_is_published(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    async with running_edge(tmp_path) as edge:
        edge.directory._current = None
        async with client.get(edge.url + "/readyz") as reply:
            assert reply.status == 503
        async with client.get(edge.url + "/healthz") as reply:
            assert reply.status == 200
        async with client.get(edge.url + "/v1/models", headers=ACME) as reply:
            assert reply.status == 503
            assert (await reply.json())["error"]["code"] == "unavailable"


async def test_a_socket_that_was_handed_over_keeps_who_comes_while_nobody_accepts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        async with running_edge(tmp_path) as edge, aiohttp.ClientSession() as client:
            url = f"http://127.0.0.1:{held.getsockname()[1]}/healthz"
            first = Server(edge.services)
            await first.start(None, handed=[held.dup()])
            async with client.get(url) as reply:
                assert reply.status == 200
            await first.stop(1)
            waiting = asyncio.ensure_future(client.get(url))
            second = Server(edge.services)
            await second.start("127.0.0.1", 0, handed=[held.dup()])
            assert second.port == held.getsockname()[1]
            async with asyncio.timeout(60), await waiting as reply:
                assert reply.status == 200
            await second.stop(1)


async def test_a_connection_that_was_taken_just_before_a_drain_is_served_once(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
    await eventually(lambda: edge.server._quiet_connections(fresh=True))
    stopping = asyncio.ensure_future(edge.server.stop(PATIENCE))
    await eventually(lambda: edge.server._draining)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await soon(reader.readline())).startswith(b"HTTP/1.1 200 ")
    await soon(stopping)
    writer.close()
