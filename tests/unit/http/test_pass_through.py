"""The vendors' other endpoints at the gateway's own edge."""

from typing import Any

import aiohttp
import pytest

from carrel.errors import CarrelError, QuotaExceeded, UpstreamTimeout
from tests.fakes.clock import FakeClock
from tests.fakes.edge import Edge, bearer, token_of

ASK: dict[str, Any] = {"max_tokens": 9, "messages": [{"role": "user", "content": "hello"}], "input": "hello"}
PATHS = {
    "/v1/messages": "/v1/messages", "/v1/messages/count_tokens": "/v1/messages/count_tokens",
    "/v1/responses": "/responses", "/v1/embeddings": "/embeddings",
}  # fmt: skip


def theirs(path: str, token: str) -> dict[str, str]:
    """The token where the vendor's own client sends it."""
    return {"x-api-key": token} if path.startswith("/v1/messages") else bearer(token)


async def ask(
    edge: Edge, client: aiohttp.ClientSession, path: str, model: str, token: str | None = None
) -> tuple[int, Any]:
    headers = theirs(path, token or token_of("acme"))
    async with client.post(edge.url + path, json={"model": model, **ASK}, headers=headers) as reply:
        return reply.status, await reply.json()


def code_in(path: str, body: dict[str, Any]) -> tuple[str, str]:
    """An error's code and type; it must be in the form of the endpoint's vendor."""
    assert (body.get("type") == "error") == path.startswith("/v1/messages"), body
    return body["error"]["code"], body["error"]["type"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_model_is_passed_on_in_the_endpoints_dialect(
    edge: Edge, client: aiohttp.ClientSession, path: str
) -> None:
    status, _ = await ask(edge, client, path, "vendor-large")
    assert (status, edge.relay.paths, edge.meter.admitted) == (200, [PATHS[path]], 1)


@pytest.mark.parametrize("path", PATHS)
async def test_what_is_not_served_there_is_told_in_the_vendors_form(
    edge: Edge, client: aiohttp.ClientSession, path: str
) -> None:
    status, body = await ask(edge, client, path, "agent:main")
    assert (status, code_in(path, body)[0]) == (400, "invalid_request")
    assert "/v1/chat/completions" in body["error"]["message"]
    status, body = await ask(edge, client, path, "nope")
    assert (status, code_in(path, body)[0]) == (404, "model_not_found")
    status, body = await ask(edge, client, path, "vendor-large", "tk_acme_" + "0" * 32)
    assert (status, code_in(path, body)) == (401, ("unauthorized", "authentication_error"))
    assert edge.relay.bodies == []


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (QuotaExceeded("Too much.", quota="tokens_per_day", retry_after=9, reset_at=FakeClock().now()), 429,
         "rate_limit_error"),
        (UpstreamTimeout("Too slow."), 504, "timeout_error"),
        (CarrelError("Broken."), 500, "api_error"),
    ],
)  # fmt: skip
async def test_errors_of_messages_have_anthropics_types(
    edge: Edge, client: aiohttp.ClientSession, error: CarrelError, status: int, kind: str
) -> None:
    edge.relay.error = error
    got, body = await ask(edge, client, "/v1/messages", "vendor-large")
    assert (got, code_in("/v1/messages", body)) == (status, (error.code, kind))
    assert body["request_id"].startswith("req_")


async def test_what_would_be_shared_by_all_who_use_the_operators_key_has_no_route(
    edge: Edge, client: aiohttp.ClientSession
) -> None:
    headers = bearer(token_of("acme"))
    for path in ("/v1/files", "/v1/batches", "/v1/assistants", "/v1/messages/batches", "/v1/responses/resp_1/cancel"):
        async with client.post(edge.url + path, json={}, headers=headers) as reply:
            assert reply.status in (404, 405), path
    async with client.get(edge.url + "/v1/responses/resp_1", headers=headers) as reply:
        assert reply.status == 404
