"""`connections.*` by `/rpc`."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.edge import Edge, running_edge
from tests.fakes.oauth_vendor import OAuthVendor, running_vendor
from tests.fakes.person import Person, call, declare_vendor


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path) as running:
        yield running


@pytest.fixture
async def vendor(edge: Edge) -> AsyncIterator[OAuthVendor]:
    async with running_vendor() as running:
        declare_vendor(edge, running)
        yield running


async def link(edge: Edge, **params: object) -> str:
    made = await call(edge, "connections.link", {"provider": "vendor", **params})
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        return (await Person(client).through(str(made["url"]))).text


async def test_the_list_says_what_there_is_and_what_could_be(edge: Edge, vendor: OAuthVendor) -> None:
    told = await call(edge, "connections.list")
    assert told == {"connections": [], "providers": [
        {"name": "vendor", "displayName": "Vendor", "scopes": ["read"], "moreScopes": ["write", "openid"]}
    ]}  # fmt: skip
    for name in ("b", "a"):
        await link(edge, name=name, scopes=["read", "write"])
    told = await call(edge, "connections.list", {"limit": 1})
    assert [one["name"] for one in told["connections"]] == ["a"]
    told = await call(edge, "connections.list", {"limit": 1, "cursor": told["next"]})
    (one,) = told["connections"]
    assert (one["name"], one["scopes"], one["expiresAt"] - one["linkedAt"]) == ("b", ["read", "write"], 3_600_000)
    for grant in vendor.grants:
        assert grant.access[0] not in str(told)
        assert grant.refresh[0] not in str(told)
    assert (await call(edge, "connections.list", tenant="bravo"))["connections"] == []


async def test_a_link_is_shown_once_and_told_in_milliseconds(edge: Edge, vendor: OAuthVendor) -> None:
    now = edge.services.clock.now().timestamp() * 1000
    made = await call(edge, "connections.link", {"provider": "vendor", "idempotencyKey": "k"})
    assert 590_000 < made["expiresAtMs"] - now < 610_000
    again = await call(edge, "connections.link", {"provider": "vendor", "idempotencyKey": "k"})
    assert again["data"]["code"] == "conflict"


@pytest.mark.parametrize(
    ("params", "code", "said"),
    [
        ({"provider": "vendr"}, "not_found", "did you mean vendor"), ({}, "invalid_request", "missing"),
        ({"provider": "vendor", "scopes": ["admin"]}, "invalid_request", "does not offer the scope"),
        ({"provider": "vendor", "name": "A b"}, "invalid_request", "name"),
    ],
)  # fmt: skip
async def test_what_cannot_be_linked(
    edge: Edge, vendor: OAuthVendor, params: dict[str, object], code: str, said: str
) -> None:
    told = await call(edge, "connections.link", params)
    assert told["data"]["code"] == code
    assert said in told["message"]


async def test_removing(edge: Edge, vendor: OAuthVendor) -> None:
    await link(edge)
    assert (await call(edge, "connections.remove", {"name": "vendor"}, "bravo"))["data"]["code"] == "not_found"
    assert await call(edge, "connections.remove", {"name": "vendor"}) == {
        "ok": True, "name": "vendor", "revoked": True
    }  # fmt: skip
    assert (await call(edge, "connections.remove", {"name": "vendor"}))["data"]["code"] == "not_found"
