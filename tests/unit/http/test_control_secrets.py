"""The control plane of vaults."""

from typing import Any

import aiohttp

from tests.fakes.edge import ADMIN_KEY, READER_KEY, Edge, bearer

ALL = "/v1/tenants/acme/secrets"


async def ask(
    edge: Edge, client: aiohttp.ClientSession, method: str, path: str, *, body: object = None, key: str = ADMIN_KEY
) -> tuple[int, Any]:
    async with client.request(method, edge.url + path, headers=bearer(key), json=body) as reply:
        return reply.status, await reply.json(content_type=None)


async def test_a_value_goes_in_and_only_its_name_comes_out(edge: Edge, client: aiohttp.ClientSession) -> None:
    status, told = await ask(edge, client, "PUT", f"{ALL}/TOKEN", body={"value": "canary"})
    assert (status, told["name"]) == (200, "TOKEN")
    status, listed = await ask(edge, client, "GET", ALL)
    assert [one["name"] for one in listed["secrets"]] == ["TOKEN"]
    assert "canary" not in str((told, listed))
    secrets: Any = edge.services.secrets
    assert secrets.values == {("acme", "TOKEN"): "canary"}
    assert (await ask(edge, client, "POST", ALL))[1] == {"count": 2}
    assert (await ask(edge, client, "DELETE", f"{ALL}/TOKEN"))[0] == 204
    assert (await ask(edge, client, "DELETE", f"{ALL}/TOKEN"))[0] == 404


async def test_a_new_value_for_one_that_is_not_there(edge: Edge, client: aiohttp.ClientSession) -> None:
    assert (await ask(edge, client, "PUT", f"{ALL}/NEW", body={"value": "x", "must_exist": True}))[0] == 404


async def test_who_may_only_look_changes_nothing(edge: Edge, client: aiohttp.ClientSession) -> None:
    assert (await ask(edge, client, "GET", ALL, key=READER_KEY))[0] == 200
    for method, path in (("PUT", f"{ALL}/A"), ("DELETE", f"{ALL}/A"), ("POST", ALL)):
        assert (await ask(edge, client, method, path, body={"value": "x"}, key=READER_KEY))[0] == 403


async def test_a_wrong_body_is_not_said_back(edge: Edge, client: aiohttp.ClientSession) -> None:
    for body in ({"value": ["canary"]}, {"valu": "canary"}, {"value": "canary", "more": 1}):
        status, told = await ask(edge, client, "PUT", f"{ALL}/A", body=body)
        assert status == 400
        assert "canary" not in str(told)
