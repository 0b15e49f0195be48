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


OWN = {path: "claude-large" if "messages" in path else "vendor-large" for path in PATHS}
OTHER = {path: "vendor-large" if "messages" in path else "claude-large" for path in PATHS}


@pytest.mark.parametrize("path", PATHS)
async def test_a_model_is_passed_on_in_the_endpoints_dialect(
    edge: Edge, client: aiohttp.ClientSession, path: str
) -> None:
    status, _ = await ask(edge, client, path, OWN[path])
    assert (status, edge.relay.paths, edge.meter.admitted) == (200, [PATHS[path]], 1)


@pytest.mark.parametrize("path", PATHS)
async def test_what_is_not_served_there_is_told_in_the_vendors_form(
    edge: Edge, client: aiohttp.ClientSession, path: str
) -> None:
    status, body = await ask(edge, client, path, "agent:nobody")
    assert (status, code_in(path, body)[0]) == (404, "model_not_found")
    status, body = await ask(edge, client, path, "nope")
    assert (status, code_in(path, body)[0]) == (404, "model_not_found")
    status, body = await ask(edge, client, path, "vendor-large", "tk_acme_" + "0" * 32)
    assert (status, code_in(path, body)) == (401, ("unauthorized", "authentication_error"))
    assert edge.relay.bodies == []


async def test_an_agent_answers_in_each_dialect(edge: Edge, client: aiohttp.ClientSession) -> None:
    headers = bearer(token_of("acme"))
    message = {"model": "agent:main", "max_tokens": 9, "messages": ASK["messages"]}
    async with client.post(edge.url + "/v1/messages", json=message, headers=headers) as reply:
        body = await reply.json()
    assert (reply.status, body["type"], body["content"][0]["text"]) == (200, "message", "You said: hello")
    assert body["usage"]["output_tokens"] == 5
    status, body = await ask(edge, client, "/v1/responses", "agent:main")
    assert (status, body["error"]["param"]) == (400, "max_tokens"), "it is no field of a response"
    async with client.post(
        edge.url + "/v1/responses", json={"model": "agent:main", "input": "wait: 0.01", "stream": True}, headers=headers
    ) as reply:
        text = await reply.text()
    assert "event: response.completed" in text
    assert "shell" not in text
    assert edge.relay.bodies == []


async def test_a_model_of_the_other_vendor_is_translated_or_refused(edge: Edge, client: aiohttp.ClientSession) -> None:
    status, body = await ask(edge, client, "/v1/messages", "vendor-large")
    assert (status, body["type"], body["error"]["param"]) == (400, "error", "input")
    status, body = await ask(edge, client, "/v1/embeddings", "claude-large")
    assert (status, body["error"]["reason"]) == (400, "other_dialect")
    assert edge.relay.bodies == []


async def test_counts_of_others_are_estimates_and_say_so(edge: Edge, client: aiohttp.ClientSession) -> None:
    ask_count = {"messages": [{"role": "user", "content": "four score and seven years ago"}]}
    for model in ("vendor-large", "agent:main"):
        async with client.post(
            edge.url + "/v1/messages/count_tokens", json={"model": model, **ask_count},
            headers={"x-api-key": token_of("acme")},
        ) as reply:  # fmt: skip
            assert reply.status == 200
            assert reply.headers["X-Carrel-Estimated"] == "input_tokens"
            assert (await reply.json())["input_tokens"] > 7
    assert edge.meter.reservations == []


async def test_an_agents_embeddings_are_its_memorys(edge: Edge, client: aiohttp.ClientSession) -> None:
    status, body = await ask(edge, client, "/v1/embeddings", "agent:main")
    assert (status, "embedding_model" in body["error"]["message"]) == (400, True)


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
    got, body = await ask(edge, client, "/v1/messages", "claude-large")
    assert (got, code_in("/v1/messages", body)) == (status, (error.code, kind))
    assert body["request_id"].startswith("req_")


async def test_what_would_be_shared_by_all_who_use_the_operators_key_has_no_route(
    edge: Edge, client: aiohttp.ClientSession
) -> None:
    headers = bearer(token_of("acme"))
    for path in ("/v1/files", "/v1/batches", "/v1/assistants", "/v1/messages/batches", "/v1/responses/resp_1/compact"):
        async with client.post(edge.url + path, json={}, headers=headers) as reply:
            assert reply.status in (404, 405), path
    async with client.get(edge.url + "/v1/responses/resp_1", headers=headers) as reply:
        assert reply.status == 404
