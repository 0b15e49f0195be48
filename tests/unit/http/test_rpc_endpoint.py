"""JSON-RPC over HTTP."""

import json
from typing import Any

import aiohttp

from carrel.errors import QuotaExceeded
from tests.fakes.edge import Edge, bearer, token_of

ACME = bearer(token_of("acme"))


async def post(
    edge: Edge, client: aiohttp.ClientSession, body: Any, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client.post(edge.url + "/rpc", data=data, headers=ACME if headers is None else headers) as reply:
        return reply.status, await reply.json() if reply.status != 204 else None


def call(method: str, params: Any = None, *, id: Any = 1) -> dict[str, Any]:  # noqa: A002 - the specification's name
    request: dict[str, Any] = {"jsonrpc": "2.0", "id": id, "method": method}
    if params is not None:
        request["params"] = params
    return request


async def test_who_you_are_is_judged_at_the_http_level(edge: Edge, client: aiohttp.ClientSession) -> None:
    status, body = await post(edge, client, call("health"), headers={})
    assert status == 401
    assert body["jsonrpc"] == "2.0"
    assert body["error"]["data"]["code"] == "unauthorized"
    edge.tokens.add(token_of("acme", "5"), "acme", scopes=("chat",))
    status, body = await post(edge, client, call("health"), headers=bearer(token_of("acme", "5")))
    assert status == 403


async def test_a_methods_own_errors_are_200(edge: Edge, client: aiohttp.ClientSession) -> None:
    for body, code in (
        (call("sessions.preview", {}), -32602), (call("nope"), -32601), (b"{", -32700), (b"[]", -32600),
        (call("sessions.delete", {"sessionId": "gone"}), -32004),
    ):  # fmt: skip
        status, answer = await post(edge, client, body)
        assert status == 200
        assert answer["error"]["code"] == code


async def test_a_batch_is_answered_in_order_without_its_notifications(
    edge: Edge, client: aiohttp.ClientSession
) -> None:
    note = {"jsonrpc": "2.0", "method": "sessions.create", "params": {"sessionId": "noted"}}
    status, answers = await post(edge, client, [call("health", id="a"), note, 1, call("sessions.list", id="b")])
    assert status == 200
    assert [a["id"] for a in answers] == ["a", None, "b"]
    assert [s["sessionId"] for s in answers[2]["result"]["sessions"]] == ["noted"]


async def test_notifications_alone_have_no_answer(edge: Edge, client: aiohttp.ClientSession) -> None:
    status, body = await post(edge, client, {"jsonrpc": "2.0", "method": "health"})
    assert (status, body) == (204, None)


async def test_each_call_of_a_batch_counts(edge: Edge, client: aiohttp.ClientSession) -> None:
    await post(edge, client, [call("health", id=n) for n in range(4)])
    assert edge.meter.admitted == 4

    async def refuse_the_second(tenant: object) -> None:
        edge.meter.admitted += 1
        if edge.meter.admitted >= 6:
            raise QuotaExceeded(
                "Too many.", quota="requests_per_minute", retry_after=3, reset_at=edge.services.clock.now()
            )

    edge.meter.admit_request = refuse_the_second  # type: ignore[method-assign] # a quota that ends between two calls
    status, answers = await post(edge, client, [call("health", id=1), call("health", id=2)])
    assert status == 200
    assert "result" in answers[0]
    assert answers[1]["error"]["data"]["code"] == "quota_exceeded"
    assert answers[1]["error"]["data"]["retryAfterMs"] == 3000


async def test_what_ends_a_credential_is_counted_as_every_call_while_there_is_room(
    edge: Edge, client: aiohttp.ClientSession
) -> None:
    revoke = call("device.token.revoke", {"deviceId": "dev_x"})
    for body, counted in (([revoke] * 3, 3), (revoke, 1), ([call("health"), revoke], 2)):
        before = edge.meter.admitted
        assert (await post(edge, client, body))[0] == 200
        assert edge.meter.admitted - before == counted


async def test_a_flood_with_a_stolen_token_does_not_keep_it_alive(edge: Edge, client: aiohttp.ClientSession) -> None:
    edge.tokens.add(token_of("acme", "7"), "acme", scopes=("chat", "rpc"))
    narrow = bearer(token_of("acme", "7"))
    edge.meter.refusal = QuotaExceeded(
        "No requests are left.", quota="requests_per_minute", retry_after=9, reset_at=edge.services.clock.now()
    )
    revoke = call("device.token.revoke", {"deviceId": "dev_x"})
    body: Any
    ending = (revoke, [revoke, revoke], call("device.token.rotate", {"deviceId": "dev_x"}))
    for body in ending:
        status, answer = await post(edge, client, body)
        assert status == 200
        assert (answer if isinstance(answer, dict) else answer[0])["error"]["data"]["code"] == "not_found"
    status, answer = await post(edge, client, call("tenants.rotate", {"name": "lost"}))
    assert status == 200
    assert answer["result"]["token"]
    for body, headers in (
        (call("health"), ACME), ([revoke, call("health")], ACME), (b"{", ACME), (revoke, narrow),
        (call("device.token.revoke", {"deviceId": "x" * 5000}), ACME),
    ):  # fmt: skip
        status, answer = await post(edge, client, body, headers)
        assert (status, answer["error"]["data"]["code"]) == (429, "quota_exceeded"), body
