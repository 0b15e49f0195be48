"""Security 1.2 for admin keys: scopes, tenants and expiry come from what is declared, on every route there is.

The rows come from the table of routes: what is new is in here by construction.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from carrel.clock import SystemClock
from carrel.declare.admin_keys import EVERY, AdminKey
from carrel.http.app import all_routes
from carrel.http.routes import Route
from carrel.http.services import Limits
from tests.fakes.edge import Edge, bearer, running_edge

OPERATORS = [route for route in all_routes(lambda: None) if route.scope is not None and route.access != "scrape"]
WITH_TENANT = [route for route in OPERATORS if "{id}" in route.path]
KEY = "ak_k_" + "5" * 32
LIMITS = Limits(recheck_seconds=0.05)


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


@dataclass
class House:
    """An edge with tenants `acme` and `bravo`, whose one admin key each test declares."""

    edge: Edge
    client: aiohttp.ClientSession

    def declare(self, **key: Any) -> None:
        now = self.edge.directory.current
        declared = AdminKey(name="k", sha256=hashlib.sha256(KEY.encode()).hexdigest(), **key)
        gateway = now.gateway.model_copy(update={"admin_keys": (declared,)})
        self.edge.directory.publish(replace(now, gateway=gateway))

    async def ask(self, route: Route, tenant: str = "acme", query: str = "") -> tuple[int, dict[str, Any]]:
        path = route.path.replace("{id}", tenant)
        for part in ("name", "sandbox", "secret", "snapshot", "request"):
            path = path.replace("{" + part + "}", "x")
        async with self.client.request(
            route.method, self.edge.url + path + query, json={}, headers=bearer(KEY)
        ) as answer:
            text = await answer.text()
        body = json.loads(text) if text.startswith("{") and answer.content_type != "text/event-stream" else {}
        error = body.get("error")
        return answer.status, error.get("data", {}) if isinstance(error, dict) else body


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with running_edge(tmp_path, limits=LIMITS) as edge, aiohttp.ClientSession() as client:
        yield House(edge, client)


@pytest.mark.parametrize("route", OPERATORS, ids=name_of)
async def test_S1_02_a_key_without_a_routes_scope_is_refused_by_its_name(house: House, route: Route) -> None:
    house.declare(scopes=tuple(sorted(EVERY - {route.scope})))
    status, body = await house.ask(route)
    assert (status, body["code"], body["scope"]) == (403, "forbidden", route.scope)
    house.declare(scopes=(route.scope,))
    assert (await house.ask(route))[0] not in (401, 403)


@pytest.mark.parametrize("route", WITH_TENANT, ids=name_of)
async def test_S1_02_another_tenant_does_not_exist_for_a_limited_key(house: House, route: Route) -> None:
    house.declare(tenants=("acme",))
    theirs, nobodys = [await house.ask(route, tenant) for tenant in ("bravo", "nobody")]
    for body in (theirs[1], nobodys[1]):
        body.pop("request_id", None), body.pop("requestId", None)
    assert theirs == nobodys
    assert theirs[0] == 404
    assert (await house.ask(route))[0] not in (401, 403)


@pytest.mark.parametrize("route", [route for route in OPERATORS if route not in WITH_TENANT], ids=name_of)
async def test_S1_02_what_is_about_all_tenants_is_refused_to_a_limited_key(house: House, route: Route) -> None:
    house.declare(tenants=("acme",))
    status, body = await house.ask(route)
    if not route.narrows:
        assert (status, body["code"]) == (403, "forbidden")
    assert "bravo" not in json.dumps(body)
    house.declare()
    assert (await house.ask(route))[0] != 403


async def test_S1_02_lists_of_all_tenants_hold_those_of_a_limited_key_alone(house: House) -> None:
    named = {name_of(route): route for route in OPERATORS}
    house.declare(tenants=("ac*",))
    status, body = await house.ask(named["GET /v1/tenants"])
    assert (status, [one["id"] for one in body["tenants"]]) == (200, ["acme"])
    audit = named["GET /v1/audit"]
    assert (await house.ask(audit))[0] == 403
    assert (await house.ask(audit, query="?tenant=bravo"))[0] == 403
    assert (await house.ask(audit, query="?tenant=acme"))[0] == 200
    assert (await house.ask(named["GET /v1/sandboxes"], query="?tenant=bravo"))[0] == 404
    async with house.client.post(house.edge.url + "/v1/tenants", json={"id": "newco"}, headers=bearer(KEY)) as answer:
        assert answer.status == 403
    async with house.client.post(
        house.edge.url + "/v1/tenants/acme/restore", json={"source": "bravo"}, headers=bearer(KEY)
    ) as answer:
        assert answer.status == 404
    async with house.client.post(house.edge.url + "/v1/tenants", json={"id": "ac-new"}, headers=bearer(KEY)) as answer:
        assert answer.status == 201


async def test_S1_02_an_expired_key_is_nobodys_and_ends_what_runs(house: House) -> None:
    route = next(route for route in OPERATORS if route.path == "/v1/tenants")
    now = SystemClock().now()
    house.declare(expires=now - timedelta(seconds=1))
    assert (await house.ask(route))[0] == 401
    house.declare(expires=now + timedelta(hours=1))
    assert (await house.ask(route))[0] == 200
    async with house.client.ws_connect(house.edge.url + "/v1/tenants/acme/ws", headers=bearer(KEY)) as socket:
        assert (await socket.receive_json())["method"] == "hello"
        house.declare(expires=now - timedelta(seconds=1))
        async with asyncio.timeout(60):
            while (await socket.receive()).type is not aiohttp.WSMsgType.CLOSE:
                pass
        assert socket.close_code == aiohttp.WSCloseCode.POLICY_VIOLATION


@pytest.mark.parametrize("less", [{"scopes": ("read",)}, {"tenants": ("bravo",)}], ids=["scope", "tenant"])
async def test_S1_02_a_key_that_is_declared_with_less_ends_what_it_let_in(house: House, less: dict[str, Any]) -> None:
    house.declare(scopes=("read", "act"))
    async with house.client.ws_connect(house.edge.url + "/v1/tenants/acme/ws", headers=bearer(KEY)) as socket:
        assert (await socket.receive_json())["method"] == "hello"
        house.declare(**less)
        await socket.send_json({"jsonrpc": "2.0", "id": 1, "method": "health"})
        async with asyncio.timeout(60):
            while (message := await socket.receive()).type is not aiohttp.WSMsgType.CLOSE:
                assert json.loads(message.data).get("id") != 1
        assert socket.close_code == aiohttp.WSCloseCode.POLICY_VIOLATION
