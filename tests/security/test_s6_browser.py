"""Security 6.1: WebSockets of browsers. Who may open one, by what, and what ends it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from carrel.http.exchange import COOKIE
from carrel.http.services import Limits
from tests.fakes.edge import Edge, bearer, running_edge, token_of
from tests.fakes.socket import Socket
from tests.unit.http.test_browser import Browser


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path, limits=Limits(failed_attempts=1000)) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


@pytest.fixture
async def browser(edge: Edge, client: aiohttp.ClientSession) -> Browser:
    made = Browser(edge, client)
    assert (await made.log_in())[0] == 201
    return made


def offered(browser: Browser, ticket: str, **more: str | None) -> dict[str, str]:
    """The headers that a page's WebSocket has, changed as ``more`` says."""
    headers: dict[str, str | None] = {
        "Origin": browser._edge.url, "Cookie": f"{COOKIE}={browser.cookie}",
        "Sec-WebSocket-Protocol": f"carrel.v1, carrel.ticket.{ticket}",
    }  # fmt: skip
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    return {name: value for name, value in headers.items() if value is not None}


async def refused(client: aiohttp.ClientSession, url: str, headers: dict[str, str], query: str = "") -> int:
    """The status that an upgrade is refused with, 0 where it was not."""
    try:
        async with client.ws_connect(f"{url}/ws{query}", headers=headers, protocols=()):
            return 0
    except aiohttp.WSServerHandshakeError as error:
        return error.status


@asynccontextmanager
async def page(client: aiohttp.ClientSession, browser: Browser) -> AsyncIterator[Socket]:
    headers = offered(browser, await browser.ticket())
    async with client.ws_connect(f"{browser._edge.url}/ws", headers=headers, autoclose=False) as socket:
        assert socket._response.headers["Sec-WebSocket-Protocol"] == "carrel.v1"
        yield Socket(socket)


OTHER_PAGES: list[dict[str, Any]] = [
    {"Origin": None}, {"Origin": "null"}, {"Origin": "http://sibling.localhost:1"}, {"Origin": "http://127.0.0.1:1"},
    {"Origin": "https://evil.example"}, {"Origin": "http://127.0.0.1"}, {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
]  # fmt: skip


@pytest.mark.parametrize("headers", OTHER_PAGES, ids=str)
async def test_S6_01_a_page_of_another_origin_is_403_before_the_upgrade_and_uses_up_no_ticket(
    edge: Edge, client: aiohttp.ClientSession, browser: Browser, headers: dict[str, Any]
) -> None:
    ticket = await browser.ticket()
    assert await refused(client, edge.url, offered(browser, ticket, **headers)) == 403
    assert await refused(client, edge.url, offered(browser, ticket)) == 0


async def test_S6_01_with_a_token_in_a_header_an_origin_is_judged_where_there_is_one(
    edge: Edge, client: aiohttp.ClientSession
) -> None:
    own = bearer(token_of("acme"))
    assert await refused(client, edge.url, own) == 0
    assert await refused(client, edge.url, own | {"Origin": edge.url}) == 0
    for origin in ("null", "https://evil.example", "http://127.0.0.1:1"):
        assert await refused(client, edge.url, own | {"Origin": origin}) == 403
        # Also of who has no credential: nothing else is looked at.
        assert await refused(client, edge.url, {"Origin": origin}) == 403


async def test_S6_01_a_ticket_is_good_once_and_with_its_own_browsers_cookie(
    edge: Edge, client: aiohttp.ClientSession, browser: Browser
) -> None:
    ticket = await browser.ticket()
    other = Browser(edge, client)
    await other.log_in()
    stranger = Browser(edge, client)
    await stranger.log_in("bravo")
    for cookie in (None, f"{COOKIE}={other.cookie}", f"{COOKIE}={stranger.cookie}", f"{COOKIE}=x"):
        assert await refused(client, edge.url, offered(browser, ticket, Cookie=cookie)) == 401
    assert await refused(client, edge.url, offered(browser, ticket)) == 0
    assert await refused(client, edge.url, offered(browser, ticket)) == 401
    assert await refused(client, edge.url, offered(browser, "0" * 64)) == 401


async def test_S6_01_a_ticket_is_taken_nowhere_else(
    edge: Edge, client: aiohttp.ClientSession, browser: Browser
) -> None:
    ticket = await browser.ticket()
    bare = {"Origin": edge.url, "Cookie": f"{COOKIE}={browser.cookie}"}
    for query in (f"?ticket={ticket}", f"?token={token_of('acme')}"):
        assert await refused(client, edge.url, bare, query) == 401
    async with client.post(f"{edge.url}/rpc", json={}, headers=offered(browser, ticket)) as reply:
        assert reply.status == 401
    assert await refused(client, edge.url, offered(browser, ticket)) == 0


async def test_S6_01_every_frame_is_judged_by_the_token_and_the_session(tmp_path: Path) -> None:
    limits = Limits(recheck_seconds=3600)
    async with (
        running_edge(tmp_path, limits=limits) as edge,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client,
    ):
        browser = Browser(edge, client)
        await browser.log_in()
        async with page(client, browser) as socket:
            assert (await socket.call("health"))["ok"] is True
            assert (await browser.ask("DELETE", "/v1/browser/session"))[0] == 204
            await socket.send("sessions.create", {"sessionId": "late"})
            assert await socket.closed() == (1008, "revoked")
        await browser.log_in()
        async with page(client, browser) as socket:
            edge.tokens.end(token_of("acme"))
            await socket.send("sessions.create", {"sessionId": "late"})
            assert await socket.closed() == (1008, "revoked")
        assert not edge.sessions.by_tenant


async def test_S1_03_a_quiet_page_is_let_go_too_when_it_logs_out_or_its_token_ends(
    edge: Edge, client: aiohttp.ClientSession, browser: Browser
) -> None:
    async with page(client, browser) as socket:
        await socket.next("hello")
        assert (await browser.ask("DELETE", "/v1/browser/session"))[0] == 204
        assert await socket.closed() == (1008, "revoked")
    await browser.log_in()
    async with page(client, browser) as socket:
        await socket.next("hello")
        edge.tokens.end(token_of("acme"))
        assert await socket.closed() == (1008, "revoked")


async def test_S6_01_a_suspended_tenant_opens_none(edge: Edge, client: aiohttp.ClientSession, browser: Browser) -> None:
    ticket = await browser.ticket()
    tenant = next(one for one in edge.directory.current.tenants.values() if one.id == "acme")
    edge.publish(replace(tenant, suspended=True))
    assert await refused(client, edge.url, offered(browser, ticket)) == 403
