"""What monitors ask."""

import aiohttp

from tests.fakes.edge import Edge


async def test_liveness_readiness_and_metrics(edge: Edge, client: aiohttp.ClientSession) -> None:
    async with client.get(edge.url + "/healthz") as reply:
        assert await reply.json() == {"status": "ok", "version": "1.2.3"}
    async with client.get(edge.url + "/readyz") as reply:
        assert await reply.json() == {"status": "ready"}
    async with client.get(edge.url + "/metrics") as reply:
        assert reply.status == 200
        assert "carrel_requests_total" in await reply.text()


async def test_a_draining_gateway_is_not_ready(edge: Edge) -> None:
    assert edge.server._readiness() is None
    edge.server.begin_drain()
    assert edge.server._readiness() == "draining"
