"""The control plane of snapshots."""

from typing import Any

import aiohttp

from tests.fakes.edge import ADMIN_KEY, READER_KEY, Edge, bearer

ALL = "/v1/tenants/acme/snapshots"


async def ask(
    edge: Edge, client: aiohttp.ClientSession, method: str, path: str, *, body: object = None, key: str = ADMIN_KEY
) -> tuple[int, Any]:
    async with client.request(method, edge.url + path, headers=bearer(key), json=body) as reply:
        return reply.status, await reply.json(content_type=None)


async def test_made_listed_gone_back_to_and_forgotten(edge: Edge, client: aiohttp.ClientSession) -> None:
    assert (await ask(edge, client, "POST", ALL, body={"label": "x", "session": "one"}))[0] == 201
    assert (await ask(edge, client, "GET", ALL))[1]["snapshots"][0]["id"] == "20260301-a"
    status, done = await ask(edge, client, "POST", f"{ALL}/20260301-a/rollback")
    assert (status, done["before"]["id"]) == (200, "20260301-b")
    assert (await ask(edge, client, "DELETE", f"{ALL}/20260301-a"))[0] == 204
    snapshots: Any = edge.services.snapshots
    assert snapshots.done == ["make x one", "roll back 20260301-a", "remove 20260301-a"]


async def test_what_is_not_there_or_not_allowed(edge: Edge, client: aiohttp.ClientSession) -> None:
    assert (await ask(edge, client, "POST", f"{ALL}/none/rollback"))[0] == 404
    assert (await ask(edge, client, "POST", ALL, body={}, key=READER_KEY))[0] == 403
    assert (await ask(edge, client, "POST", ALL, body={"session": "../x"}))[0] == 400
