"""The way of a chat completion by its model's name."""

import io

import aiohttp
import pytest

from tests.fakes.edge import Edge, bearer, chat_body, token_of

ACME = bearer(token_of("acme"))


async def test_a_vendors_own_dialect_is_relayed_as_it_is(edge: Edge, client: aiohttp.ClientSession) -> None:
    body = b'{ "messages":[{"role":"user","content":"x"}],  "model":"vendor-large","unknown":1}'
    async with client.post(edge.url + "/v1/chat/completions", data=body, headers=ACME) as reply:
        assert reply.status == 200
        assert reply.headers["X-Request-Id"].startswith("req_")
    assert edge.relay.bodies == [body]
    assert edge.meter.admitted == 1


async def test_an_agent_a_model_and_an_unknown_name(edge: Edge, client: aiohttp.ClientSession) -> None:
    for model, status, code in (
        ("agent:main", 200, None), ("openclaw", 200, None), ("openclaw/default", 200, None),
        ("openclaw:main", 200, None), ("openclaw/main", 200, None), ("demo", 200, None),
        ("agent:nobody", 404, "model_not_found"), ("gpt-nope", 404, "model_not_found"),
    ):  # fmt: skip
        body = chat_body("hi", model=model)
        async with client.post(edge.url + "/v1/chat/completions", data=body, headers=ACME) as reply:
            assert reply.status == status, model
            if code is not None:
                assert (await reply.json())["error"]["code"] == code


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None), (b"nope", None), (b"[1]", None), (b'{"messages":[]}', "model"), (b'{"model":7}', "model"),
        (b'{"model":"agent:main"}', "messages"), (b'{"model":"agent:main","messages":"x"}', "messages"),
        (b'{"model":"agent:main","messages":[{"role":"robot","content":"x"}]}', "messages[0].role"),
        (b'{"a":' * 20_000, None),
    ],
)  # fmt: skip
async def test_bad_bodies_are_named(edge: Edge, client: aiohttp.ClientSession, body: bytes, param: str | None) -> None:
    async with client.post(edge.url + "/v1/chat/completions", data=io.BytesIO(body), headers=ACME) as reply:
        assert reply.status == 400
        error = (await reply.json())["error"]
        assert (error["code"], error["param"]) == ("invalid_request", param)
