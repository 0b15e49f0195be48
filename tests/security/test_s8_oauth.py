"""Security 8: OAuth, as a person's browser, a stranger's, and a vendor that is not to be trusted meet it."""

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp
import pytest

from carrel.declare.oauth import OAuthProvider
from carrel.http.services import Limits
from tests.fakes.edge import Edge, running_edge
from tests.fakes.oauth_vendor import OAuthVendor, running_vendor
from tests.fakes.person import Person, call, declare_vendor


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path, limits=Limits(failed_attempts=1000)) as running:
        yield running


@pytest.fixture
async def vendor(edge: Edge) -> AsyncIterator[OAuthVendor]:
    async with running_vendor(redirect_uris={f"{edge.url}/oauth/callback"}) as running:
        declare_vendor(edge, running)
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


async def linked(edge: Edge, tenant: str = "acme") -> str:
    return str((await call(edge, "connections.link", {"provider": "vendor"}, tenant))["url"])


async def count(edge: Edge, tenant: str = "acme") -> int:
    return len((await call(edge, "connections.list", {}, tenant))["connections"])


async def sent_back(person: Person, url: str) -> str:
    """Where the vendor sends the browser back to."""
    sent = await person.go(urljoin(url, (await person.go(url)).link))
    return (await person.go(urljoin(sent.link, (await person.go(sent.link)).link))).link


async def test_S8_pkce_is_S256_and_cannot_be_left_out_without_a_secret(
    edge: Edge, vendor: OAuthVendor, client: aiohttp.ClientSession
) -> None:
    person = Person(client)
    url = await linked(edge)
    query = parse_qs(urlsplit((await person.go(urljoin(url, (await person.go(url)).link))).link).query)
    assert query["code_challenge_method"] == ["S256"]
    assert len(base64.urlsafe_b64decode(query["code_challenge"][0] + "=")) == hashlib.sha256().digest_size
    with pytest.raises(ValueError, match="pkce"):
        OAuthProvider.model_validate(
            {"authorize_url": "https://v.example/", "token_url": "https://v.example/", "client_id": "c", "pkce": False}
        )


async def test_S8_the_resource_is_in_both_requests(
    edge: Edge, vendor: OAuthVendor, client: aiohttp.ClientSession
) -> None:
    declare_vendor(edge, vendor, resource="https://mcp.example/mcp")
    assert (await Person(client).through(await linked(edge))).status == 200
    assert [one.get("resource") for one in vendor.log if one["path"] in ("/authorize", "/token")][-2:] == [
        "https://mcp.example/mcp", "https://mcp.example/mcp",
    ]  # fmt: skip


async def test_S8_a_person_is_asked_before_any_redirect_and_in_that_browser(
    edge: Edge, vendor: OAuthVendor, client: aiohttp.ClientSession
) -> None:
    mallory, victim = Person(client), Person(client)
    url = await linked(edge, "bravo")
    going = urljoin(url, (await mallory.go(url)).link)
    # A crafted link leads the victim to the page that says whose it is, not to the vendor.
    shown = await victim.go(going)
    assert (shown.status, "Location" in shown.headers, "agents of bravo" in shown.text) == (200, False, True)
    assert vendor.log == []
    # Who reads that page and goes on is sent.
    assert (await victim.go(urljoin(url, shown.link))).status == 302


async def test_S8_state_is_single_use_and_of_its_own_browser(
    edge: Edge, vendor: OAuthVendor, client: aiohttp.ClientSession
) -> None:
    person, thief = Person(client), Person(client)
    back = await sent_back(person, await linked(edge))
    assert (await thief.go(back)).status == 404
    # A thief's own code in the person's browser (login CSRF): its state is of the thief's browser.
    other = await sent_back(thief, await linked(edge, "bravo"))
    assert (await person.go(other)).status == 404
    assert vendor.grants == []
    assert (await person.go(back)).status == 200
    assert (await person.go(back)).status == 404
    assert (await count(edge), await count(edge, "bravo")) == (1, 0)


@pytest.mark.parametrize("iss", ["https://evil.example", ""])
async def test_S8_the_issuer_is_checked(
    edge: Edge, vendor: OAuthVendor, client: aiohttp.ClientSession, iss: str
) -> None:
    vendor.knobs.iss = iss
    assert (await Person(client).through(await linked(edge))).status == 502
    if iss:
        assert not any(one["path"] == "/token" for one in vendor.log), "a code of another issuer's is sent nowhere"
    assert await count(edge) == 0
    vendor.knobs.iss = None
    assert (await Person(client).through(await linked(edge))).status == 200
    assert await count(edge) == 1


async def test_S8_there_is_no_open_redirect_and_nothing_is_told_on(
    edge: Edge, vendor: OAuthVendor, client: aiohttp.ClientSession
) -> None:
    person = Person(client)
    url = await linked(edge)
    asked = await person.go(f"{url}&redirect_uri=https://evil.example&next=//evil.example")
    sent = await person.go(urljoin(url, asked.link))
    assert parse_qs(urlsplit(sent.link).query)["redirect_uri"] == [f"{edge.url}/oauth/callback"]
    back = (await person.go(urljoin(sent.link, (await person.go(sent.link)).link))).link
    done = await person.go(f"{back}&redirect_uri=https://evil.example&next=//evil.example")
    assert (done.status, "Location" in done.headers, "evil" in done.text) == (200, False, False)
    for page in (asked, sent, done):
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert page.headers["Cache-Control"] == "no-store"
    for page in (asked, done):
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]


async def test_S4_03_a_vendors_endpoint_is_behind_the_guard(
    edge: Edge, vendor: OAuthVendor, client: aiohttp.ClientSession
) -> None:
    """What the operator's declaration does not name by its addresses is not connected to, whatever name leads there."""
    declare_vendor(edge, vendor, addresses=[])
    done = await Person(client).through(await linked(edge))
    assert done.status == 403
    assert "is not connected to" in done.text
    assert not any(one["path"] == "/token" for one in vendor.log)
    declare_vendor(edge, vendor)
    assert (await Person(client).through(await linked(edge))).status == 200
