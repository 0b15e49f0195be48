"""Logging in, out, and tickets, at the edge."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from carrel.http.exchange import COOKIE
from tests.fakes.edge import Edge, bearer, token_of


class Browser:
    """What a browser sends along by itself: its origin, and the cookie that it was given."""

    def __init__(self, edge: Edge, client: aiohttp.ClientSession) -> None:
        self._edge = edge
        self._client = client
        self.cookie = ""
        self.csrf = ""

    async def ask(self, method: str, path: str, **headers: str | None) -> tuple[int, Any]:
        """A request with the headers of a page of our own, changed as ``headers`` say (`_` for `-`; None: left out)."""
        given: dict[str, str | None] = {
            "Origin": self._edge.url, "Sec-Fetch-Site": "same-origin", "X-Carrel-CSRF": self.csrf,
            "Cookie": f"{COOKIE}={self.cookie}" if self.cookie else None,
        }  # fmt: skip
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in given.items() if value is not None}
        async with self._client.request(method, self._edge.url + path, headers=sent) as reply:
            self.set_cookie = reply.headers.get("Set-Cookie", "")
            return reply.status, await reply.json() if reply.status != 204 else None

    async def log_in(self, tenant: str = "acme", **headers: str | None) -> tuple[int, Any]:
        status, told = await self.ask("POST", "/v1/browser/session", **(bearer(token_of(tenant)) | headers))
        if status == 201:
            self.csrf = told["csrf"]
            self.cookie = self.set_cookie.partition(";")[0].partition("=")[2]
        return status, told

    async def ticket(self) -> str:
        status, told = await self.ask("POST", "/v1/browser/tickets")
        assert status == 201, told
        return str(told["ticket"])


@pytest.fixture
async def browser(edge: Edge) -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        yield Browser(edge, client)


async def test_a_browser_logs_in_looks_and_logs_out(browser: Browser) -> None:
    status, told = await browser.log_in()
    assert (status, told["tenant"]) == (201, "acme")
    assert browser.set_cookie.startswith(f"{COOKIE}={browser.cookie}; ")
    for part in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/", "Max-Age=43200"):
        assert part in browser.set_cookie
    assert "Domain" not in browser.set_cookie
    status, again = await browser.ask("GET", "/v1/browser/session", Origin=None)
    assert (status, again["csrf"]) == (200, browser.csrf)
    assert (await browser.ask("DELETE", "/v1/browser/session"))[0] == 204
    assert (await browser.ask("GET", "/v1/browser/session"))[0] == 401
    assert (await browser.ask("POST", "/v1/browser/tickets"))[0] == 401


async def test_S6_03_a_change_needs_an_own_page_and_the_sessions_word(browser: Browser) -> None:
    for headers in (
        {"Origin": None}, {"Origin": "null"}, {"Origin": "https://evil.example"}, {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
    ):  # fmt: skip
        assert (await browser.log_in(**headers))[0] == 403, headers
    assert (await browser.log_in())[0] == 201
    for method, path in (("POST", "/v1/browser/tickets"), ("DELETE", "/v1/browser/session")):
        for headers in (
            {"Origin": None}, {"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"},
            {"X_Carrel_CSRF": None}, {"X_Carrel_CSRF": "0" * 64},
        ):  # fmt: skip
            assert (await browser.ask(method, path, **headers))[0] == 403, (path, headers)
        assert (await browser.ask(method, path, Cookie=None))[0] == 401
    assert len(await browser.ticket()) == 64


async def test_S1_03_a_session_ends_with_its_token(edge: Edge, browser: Browser) -> None:
    await browser.log_in()
    edge.tokens.end(token_of("acme"))
    assert (await browser.ask("GET", "/v1/browser/session"))[0] == 401
    assert (await browser.log_in())[0] == 401


async def test_S6_03_another_origin_that_the_operator_names_is_let_in(edge: Edge, browser: Browser) -> None:
    assert (await browser.log_in(Origin="https://pages.example"))[0] == 403
    edge.name_origins("https://pages.example")
    assert (await browser.log_in(Origin="https://pages.example"))[0] == 201
