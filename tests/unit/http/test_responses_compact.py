"""`/v1/responses/compact` at the gateway's own edge; what becomes of a compaction is in the contract with the SDK."""

import aiohttp

from carrel.declare.gateway import ModelConfig
from carrel.errors import QuotaExceeded
from carrel.http.responses_compact import _Summary
from carrel.wire.conversation import Message, Text
from tests.fakes.edge import Edge, bearer, token_of

BODY = {"model": "demo", "input": "where is the key?"}


async def test_it_is_metered_as_the_call_that_it_is(edge: Edge, client: aiohttp.ClientSession) -> None:
    url, headers = f"{edge.url}/v1/responses/compact", bearer(token_of("acme"))
    async with client.post(url, json=BODY, headers=headers) as reply:
        assert reply.status == 200
        answer = await reply.json()
    assert [item["type"] for item in answer["output"]] == ["message", "compaction"]
    assert edge.meter.admitted == 1
    assert edge.meter.reservations[-1].settled[0][1] == "ok"
    edge.meter.refusal = QuotaExceeded(
        "No tokens are left today.", quota="tokens_per_day", retry_after=3600, reset_at=edge.services.clock.now()
    )
    async with client.post(url, json=BODY, headers=headers) as reply:
        assert reply.status == 429


def test_a_conversation_that_is_longer_than_the_window_is_cut_to_fit() -> None:
    config = ModelConfig(provider="p", context_window=4_096, max_output=1_024)
    long = (Message("user", (Text("word " * 50_000),)),)
    asked = _Summary(long, "Be kind. " * 400, config).to_model(model="m", max_output=1_024)
    size = sum(len(block.text) for message in asked.messages for block in message.content if isinstance(block, Text))
    assert size < 4_096 * 3
    assert "Be kind." in asked.system
