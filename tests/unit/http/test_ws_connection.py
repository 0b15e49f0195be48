"""One connection: its token, its pace, its end."""

import asyncio
from dataclasses import replace
from pathlib import Path

import aiohttp

from carrel.http.services import Limits
from carrel.tenancy.handle import Tenant
from tests.fakes.edge import Edge, running_edge, token_of
from tests.fakes.patience import eventually
from tests.fakes.socket import Socket, opened


async def test_a_revoked_token_ends_the_connection_while_it_is_idle(edge: Edge) -> None:
    async with opened(edge.url, token_of("acme")) as socket:
        await socket.next("hello")
        edge.tokens.end(token_of("acme"))
        assert await socket.closed() == (1008, "revoked")


async def test_the_token_is_judged_on_every_frame(tmp_path: Path) -> None:
    async with running_edge(tmp_path, limits=Limits(recheck_seconds=3600)) as edge:
        async with opened(edge.url, token_of("acme")) as socket:
            await socket.call("health")
            edge.tokens.end(token_of("acme"))
            await socket.send("sessions.create", {"sessionId": "late"})
            assert await socket.closed() == (1008, "revoked")
        assert not edge.sessions.by_tenant


async def test_a_suspended_tenant_is_let_go(edge: Edge) -> None:
    async with opened(edge.url, token_of("acme")) as socket:
        await socket.next("hello")
        edge.publish(
            replace(edge.directory.current.tenants[next(iter(edge.directory.current.tenants))], suspended=True)
        )
        assert await socket.closed() == (1008, "revoked")


async def test_a_turn_is_cancelled_from_another_call(edge: Edge) -> None:
    async with opened(edge.url, token_of("acme")) as socket:
        running = await socket.send("sessions.send", {"message": "wait: 60", "sessionId": "s"})
        await socket.next("session.tool.started")
        assert (await socket.call("sessions.cancel", {"sessionId": "s"}))["cancelled"] == 1
        assert (await socket.answer(running))["data"]["code"] == "turn_cancelled"
        await socket.next("session.cancelled")
    assert edge.agents.cancelled == 1


async def test_a_call_without_a_key_ends_with_its_connection_and_one_with_a_key_does_not(edge: Edge) -> None:
    async with opened(edge.url, token_of("acme"), "?events=none") as socket:
        await socket.send("sessions.send", {"message": "wait: 60", "sessionId": "plain"})
        await socket.send("sessions.send", {"message": "wait: 0.2", "sessionId": "keyed", "idempotencyKey": "k"})
        while len(edge.agents.turns) < 2:
            await asyncio.sleep(0.01)
    async with opened(edge.url, token_of("acme")) as socket:
        sent = await socket.call("sessions.send", {"message": "wait: 0.2", "sessionId": "keyed", "idempotencyKey": "k"})
        assert sent["text"] == "You said: wait: 0.2"
    assert len(edge.agents.turns) == 2
    assert edge.agents.cancelled == 1


def wire(socket: Socket) -> asyncio.ReadTransport:
    """What the bytes for ``socket`` come in by."""
    connection = socket.socket._response.connection
    assert connection is not None
    assert isinstance(connection.transport, asyncio.ReadTransport)
    return connection.transport


async def flooded(edge: Edge, tenant: Tenant) -> None:
    """Tell the tenant's listener more than both ends' buffers hold, and then what may wait beside."""
    while edge.services.hub.listeners(tenant):
        edge.services.hub.publish(tenant, "noise", {"text": "x" * 100_000})
        # Its connection writes until it can write no more.
        await asyncio.sleep(0.001)


async def test_a_slow_reader_is_dropped_with_the_reason(tmp_path: Path) -> None:
    async with running_edge(tmp_path, limits=Limits(waiting_frames=64, close_seconds=0.05)) as edge:
        tenant = next(t for t in edge.directory.current.tenants.values() if t.id == "acme")
        async with opened(edge.url, token_of("acme")) as slow:
            await slow.next("hello")
            wire(slow).pause_reading()
            await flooded(edge, tenant)
            # It reads on long after what the gateway waits for a farewell.
            await asyncio.sleep(0.5)
            wire(slow).resume_reading()
            assert await slow.closed() == (1013, "slow_reader")
        async with opened(edge.url, token_of("acme"), "?events=none") as other:
            assert (await other.call("health"))["ok"] is True


async def test_a_reader_that_never_reads_on_is_gone_after_a_while(tmp_path: Path) -> None:
    limits = Limits(waiting_frames=64, close_seconds=0.05, linger_seconds=0.2, sockets_per_tenant=1)
    async with running_edge(tmp_path, limits=limits) as edge:
        tenant = next(t for t in edge.directory.current.tenants.values() if t.id == "acme")
        async with opened(edge.url, token_of("acme")) as slow:
            await slow.next("hello")
            wire(slow).pause_reading()
            await flooded(edge, tenant)
            # Its place is free again, though it has read nothing.
            await eventually(lambda: len(edge.server._live) == 0)
            async with opened(edge.url, token_of("acme"), "?events=none") as other:
                assert (await other.call("health"))["ok"] is True
            connection = slow.socket._response.connection
            assert connection is not None
            connection.close()


async def test_calls_beyond_those_that_may_run_wait(tmp_path: Path) -> None:
    limits, quiet = Limits(calls_per_socket=1), "?events=none"
    async with running_edge(tmp_path, limits=limits) as edge, opened(edge.url, token_of("acme"), quiet) as socket:
        first = await socket.send("sessions.send", {"message": "wait: 0.2", "sessionId": "a"})
        second = await socket.send("health")
        assert (await socket.answer(first))["sessionId"] == "a"
        assert (await socket.answer(second))["ok"] is True


async def test_binary_frames_are_refused(edge: Edge) -> None:
    async with opened(edge.url, token_of("acme")) as socket:
        await socket.socket.send_bytes(b"x")
        assert (await socket.closed())[1] in ("text_only", "")


async def test_a_frame_that_is_too_large_ends_the_connection(tmp_path: Path) -> None:
    limits = Limits(frame_bytes=1024)
    async with running_edge(tmp_path, limits=limits) as edge, opened(edge.url, token_of("acme")) as socket:
        await socket.next("hello")
        await socket.socket.send_str("x" * 4096)
        assert (await socket.closed())[0] == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_the_gateways_end_is_told(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge, opened(edge.url, token_of("acme")) as socket:
        await socket.next("hello")
        edge.server.begin_drain()
        assert await socket.closed() == (1001, "shutdown")
