"""Who gets a WebSocket, and what comes over it."""

from pathlib import Path

import aiohttp
import pytest

from carrel.http.services import Limits
from carrel.http.ws import Sockets
from carrel.ids import TenantId
from carrel.telemetry import Metrics
from tests.fakes.edge import Edge, bearer, running_edge, token_of
from tests.fakes.socket import opened


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "unauthorized"),
        (bearer(token_of("acme", "9")), 401, "unauthorized"),
        (bearer(token_of("acme")), 426, "upgrade_required"),
        ({**bearer(token_of("acme")), "Upgrade": "websocket", "Origin": "https://elsewhere.example"}, 403, "forbidden"),
        ({**bearer(token_of("acme")), "Upgrade": "websocket", "Origin": "null"}, 403, "forbidden"),
    ],
)
async def test_who_may_not_is_told_before_the_upgrade(
    edge: Edge, client: aiohttp.ClientSession, headers: dict[str, str], status: int, code: str
) -> None:
    async with client.get(edge.url + "/ws", headers=headers) as reply:
        assert (reply.status, (await reply.json())["code"]) == (status, code)


async def test_calls_are_answered_and_events_told(edge: Edge) -> None:
    async with opened(edge.url, token_of("acme")) as socket:
        hello = await socket.next("hello")
        assert (hello["seq"], hello["missed"], hello["version"]) == (0, False, "1.2.3")
        sent = await socket.call("sessions.send", {"message": "hello"})
        assert sent["text"] == "You said: hello"
        kinds = [(await socket.next("event"))["event"] for _ in range(4)]
        assert kinds == ["session.started", "session.text", "session.text", "session.finished"]
        await socket.socket.send_str(
            '[{"jsonrpc":"2.0","id":1,"method":"health"},{"jsonrpc":"2.0","id":2,"method":"x"}]'
        )
        assert [one["id"] for one in await socket.answer("batch")] == [1, 2]
        await socket.socket.send_str("{")
        assert (await socket.answer(None))["code"] == -32700


async def test_a_page_of_the_same_origin_may(edge: Edge) -> None:
    async with opened(edge.url, token_of("acme"), origin=edge.url) as socket:
        await socket.next("hello")


async def test_who_comes_back_goes_on_where_it_stopped(edge: Edge) -> None:
    async with opened(edge.url, token_of("acme")) as socket:
        hello = await socket.next("hello")
        await socket.call("sessions.create", {"sessionId": "a"})
        first = await socket.next("session.created")
    async with opened(edge.url, token_of("acme"), "?events=none") as quiet:
        await quiet.call("sessions.create", {"sessionId": "b"})
        assert not [one for one in quiet.told if one["method"] == "event"]
    resume = f"?epoch={hello['epoch']}&after={first['seq']}"
    async with opened(edge.url, token_of("acme"), resume) as socket:
        again = await socket.next("hello")
        assert (again["missed"], again["seq"]) == (False, first["seq"] + 1)
        assert (await socket.next("session.created"))["payload"] == {"sessionId": "b"}
    async with opened(edge.url, token_of("acme"), f"?epoch={'0' * 16}&after=1") as socket:
        assert (await socket.next("hello"))["missed"] is True


async def test_events_are_the_tenants_own_and_of_the_kinds_asked_for(edge: Edge) -> None:
    async with opened(edge.url, token_of("acme"), "?events=session.created") as mine:
        async with opened(edge.url, token_of("bravo")) as theirs:
            await theirs.call("sessions.create", {"sessionId": "theirs"})
        await mine.call("sessions.send", {"message": "hello"})
        await mine.call("sessions.create", {"sessionId": "mine"})
        event = await mine.next("event")
        assert (event["event"], event["payload"]) == ("session.created", {"sessionId": "mine"})


@pytest.mark.parametrize("query", ["?after=x", "?after=-1", "?events=" + ",".join(["a"] * 40)])
async def test_a_query_that_is_none_is_refused(edge: Edge, client: aiohttp.ClientSession, query: str) -> None:
    headers = {**bearer(token_of("acme")), "Upgrade": "websocket"}
    async with client.get(f"{edge.url}/ws{query}", headers=headers) as reply:
        assert reply.status == 400


async def test_connections_of_one_tenant_are_bounded(tmp_path: Path) -> None:
    limits = Limits(sockets_per_tenant=1)
    async with running_edge(tmp_path, limits=limits) as edge, opened(edge.url, token_of("acme")) as first:
        await first.next("hello")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with opened(edge.url, token_of("acme")):
                pass
        assert refused.value.status == 429
        async with opened(edge.url, token_of("bravo")) as other:
            await other.next("hello")


def test_a_place_is_given_back() -> None:
    sockets, acme, metrics = Sockets(), TenantId("acme"), Metrics()
    for _ in range(3):
        with sockets.one_more(acme, 1, metrics):
            assert 'carrel_websockets{tenant="acme"} 1.0' in metrics.render().decode()
    assert 'carrel_websockets{tenant="acme"} 0.0' in metrics.render().decode()
