"""Devices without a token."""

from pathlib import Path
from typing import Any

import aiohttp

from carrel.http.services import Limits
from tests.fakes.edge import Edge, bearer, running_edge, token_of
from tests.fakes.socket import opened


async def post(client: aiohttp.ClientSession, edge: Edge, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    async with client.post(edge.url + path, json=body) as reply:
        return reply.status, await reply.json()


async def test_a_device_is_paired_and_let_in(edge: Edge, client: aiohttp.ClientSession) -> None:
    async with opened(edge.url, token_of("acme"), "?events=device") as owner:
        code = (await owner.call("device.pair.code"))["code"]
        status, asked = await post(client, edge, "/v1/devices/pair", {"code": code, "name": "phone"})
        assert status == 201
        assert (await owner.next("device.pair.requested"))["payload"]["name"] == "phone"
        secret = {"requestId": asked["requestId"], "secret": asked["secret"]}
        assert await post(client, edge, "/v1/devices/claim", secret) == (200, {"status": "waiting"})
        device = await owner.call("device.pair.approve", {"requestId": asked["requestId"]})
        _, claimed = await post(client, edge, "/v1/devices/claim", secret)
        assert (claimed["status"], claimed["deviceId"]) == ("approved", device["deviceId"])
        async with opened(edge.url, claimed["token"], "?events=none") as phone:
            assert (await phone.call("health"))["ok"] is True
            await owner.call("device.token.revoke", {"deviceId": device["deviceId"]})
            assert await phone.closed() == (1008, "revoked")


async def test_guesses_are_limited_by_address(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    async with running_edge(tmp_path, limits=Limits(failed_attempts=2)) as edge:
        answers = [await post(client, edge, "/v1/devices/pair", {"code": "AAAAAAAA"}) for _ in range(3)]
        assert [status for status, _ in answers] == [404, 404, 429]
        wrong = {"requestId": "x", "secret": "y"}
        assert (await post(client, edge, "/v1/devices/claim", wrong))[0] == 429
        async with client.get(edge.url + "/v1/models", headers=bearer(token_of("acme"))) as reply:
            assert reply.status == 200
