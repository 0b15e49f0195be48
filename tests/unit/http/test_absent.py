"""What there is not, said in the dialect of who asks, with what to do instead."""

import aiohttp
import pytest

from tests.fakes.edge import Edge, bearer, token_of

HEADERS = bearer(token_of("acme"))
VERSION = {"anthropic-version": "2023-06-01"}


@pytest.mark.parametrize(
    ("path", "says"),
    [("/v1/completions", "/v1/chat/completions"), ("/v1/moderations", "moderations"), ("/v1/files", "bytes"),
     ("/v1/batches/x/cancel", "by itself"), ("/v1/conversations", "previous_response_id")],
)  # fmt: skip
async def test_openais_other_resources(edge: Edge, client: aiohttp.ClientSession, path: str, says: str) -> None:
    for method in ("GET", "POST"):
        async with client.request(method, edge.url + path, headers=HEADERS) as reply:
            body = await reply.json()
            assert (reply.status, body["error"]["code"]) == (404, "not_found")
            assert says in body["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/v1/messages/batches", "/v1/messages/batches/x/results", "/v1/files", "/v1/complete"]
)  # fmt: skip
async def test_anthropics_other_resources(edge: Edge, client: aiohttp.ClientSession, path: str) -> None:
    async with client.get(edge.url + path, headers=HEADERS | VERSION) as reply:
        body = await reply.json()
        assert (reply.status, body["type"], body["error"]["type"]) == (404, "error", "not_found_error")
        assert "There is no /v1/" in body["error"]["message"]


async def test_other_paths_are_problems(edge: Edge, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{edge.url}/v1/nothing", headers=HEADERS | VERSION) as reply:
        assert (reply.status, reply.content_type) == (404, "application/problem+json")


async def test_a_websocket_where_there_is_none_is_told_to_go_on_without(
    edge: Edge, client: aiohttp.ClientSession
) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
    async with client.get(f"{edge.url}/v1/responses", headers=HEADERS | upgrade) as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (426, "no_websocket")
    async with client.get(f"{edge.url}/v1/responses", headers=HEADERS) as reply:
        assert reply.status == 405
