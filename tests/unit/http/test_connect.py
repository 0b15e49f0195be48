"""A person's browser on its way to a vendor and back, at the edge."""

from collections.abc import AsyncIterator
from urllib.parse import urljoin

import aiohttp
import pytest

from tests.fakes.edge import Edge
from tests.fakes.oauth_vendor import OAuthVendor, running_vendor
from tests.fakes.person import Person, call, declare_vendor


@pytest.fixture
async def vendor(edge: Edge) -> AsyncIterator[OAuthVendor]:
    async with running_vendor() as running:
        declare_vendor(edge, running)
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


@pytest.fixture
def person(client: aiohttp.ClientSession) -> Person:
    return Person(client)


async def linked(edge: Edge, **params: object) -> str:
    return str((await call(edge, "connections.link", {"provider": "vendor", **params}))["url"])


async def test_a_person_goes_there_and_back(edge: Edge, vendor: OAuthVendor, person: Person) -> None:
    url = await linked(edge)
    asked = await person.go(url)
    assert asked.status == 200
    for word in ("Connect Vendor", "agents of acme", "read", "Go on to Vendor"):
        assert word in asked.text
    (cookie,) = asked.set_cookies
    for part in ("__Host-carrel-connect=", "HttpOnly", "Secure", "SameSite=Lax", "Path=/", "Max-Age=600"):
        assert part in cookie
    sent = await person.go(urljoin(url, asked.link))
    assert sent.status == 302
    assert sent.link.startswith(f"{vendor.url}/authorize?")
    assert url.partition("link=")[2] not in sent.link, "the vendor is not told the link"
    assert sent.headers["Referrer-Policy"] == "no-referrer"
    page = await person.go(sent.link)
    back = await person.go(urljoin(sent.link, page.link))
    assert back.link.startswith(f"{edge.url}/oauth/callback?")
    done = await person.go(back.link)
    assert done.status == 200
    assert "Vendor is connected as octocat" in done.text
    assert vendor.grants[0].access[0] not in done.text
    assert person.cookies[edge.url.partition("//")[2]] == {}, "both cookies are taken back"
    (one,) = (await call(edge, "connections.list"))["connections"]
    assert (one["name"], one["account"], one["state"], one["renews"]) == ("vendor", "octocat", "ok", True)


async def test_looking_at_a_link_uses_nothing_up_and_going_on_does(
    edge: Edge, vendor: OAuthVendor, person: Person, client: aiohttp.ClientSession
) -> None:
    url = await linked(edge)
    for _ in range(3):
        assert (await Person(client).go(url)).status == 200, "a preview"
    asked = await person.go(url)
    going = urljoin(url, asked.link)
    assert (await person.go(going)).status == 302
    for _ in range(2):
        again = await person.go(going)
        assert again.status == 404
        assert "was used already" in again.text
    assert (await Person(client).go(url)).status == 404


async def test_who_was_not_asked_is_asked_first(
    edge: Edge, vendor: OAuthVendor, person: Person, client: aiohttp.ClientSession
) -> None:
    """The link with what another browser's page holds leads to the page, and not to the vendor."""
    url = await linked(edge)
    going = urljoin(url, (await person.go(url)).link)
    victim = Person(client)
    shown = await victim.go(going)
    assert (shown.status, shown.headers.get("Location")) == (200, None)
    assert "agents of acme" in shown.text
    assert (await victim.go(urljoin(url, shown.link))).status == 302


async def test_another_browser_cannot_finish_it_and_does_not_spoil_it(
    edge: Edge, vendor: OAuthVendor, person: Person, client: aiohttp.ClientSession
) -> None:
    url = await linked(edge)
    asked = await person.go(url)
    sent = await person.go(urljoin(url, asked.link))
    back = await person.go(urljoin(sent.link, (await person.go(sent.link)).link))
    stolen = await Person(client).go(back.link)
    assert stolen.status == 404
    assert "another browser" in stolen.text
    assert vendor.grants == []
    assert (await person.go(back.link)).status == 200
    replayed = await person.go(back.link)
    assert replayed.status == 404
    assert not vendor.grants[0].over


async def test_two_ways_at_a_time_in_one_browser(edge: Edge, vendor: OAuthVendor, person: Person) -> None:
    ways = []
    for name in ("one", "two"):
        url = await linked(edge, name=name)
        sent = await person.go(urljoin(url, (await person.go(url)).link))
        ways.append((await person.go(urljoin(sent.link, (await person.go(sent.link)).link))).link)
    for back in ways:
        assert (await person.go(back)).status == 200
    assert [one["name"] for one in (await call(edge, "connections.list"))["connections"]] == ["one", "two"]


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"deny": "access_denied"}, "access_denied"), ({"token_status": 500}, "answered 500"),
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"answer": {"error": "<script>alert(1)</script>"}}, "&lt;script&gt;"),
    ],
)  # fmt: skip
async def test_what_went_wrong_is_said_plainly(
    edge: Edge, vendor: OAuthVendor, person: Person, knobs: dict[str, object], said: str
) -> None:
    for name, value in knobs.items():
        setattr(vendor.knobs, name, value)
    done = await person.through(await linked(edge))
    assert done.status == 502
    assert said in done.text
    assert "Nothing was connected" in done.text
    assert (await call(edge, "connections.list"))["connections"] == []


async def test_a_vendor_that_is_too_slow(edge: Edge, vendor: OAuthVendor, person: Person) -> None:
    declare_vendor(edge, vendor, timeout_seconds=0.2)
    vendor.knobs.token_delay = 30
    done = await person.through(await linked(edge))
    assert done.status == 504
    assert "did not answer within 0.2 s" in done.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/connect/vendor", 404), ("/connect/vendor?link=x", 404), ("/connect/nobody?link=x", 404),
        ("/oauth/callback", 400), ("/oauth/callback?state=s", 400), ("/oauth/callback?state=s&code=c", 404),
        ("/oauth/callback?state=s&code=c&code=d", 400), ("/connect/vendor?link=x&go=%FF", 404),
    ],
)  # fmt: skip
async def test_what_leads_nowhere(edge: Edge, vendor: OAuthVendor, person: Person, path: str, status: int) -> None:
    shown = await person.go(edge.url + path)
    assert (shown.status, shown.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert shown.set_cookies == []


async def test_guessing_is_limited_by_address(edge: Edge, vendor: OAuthVendor, person: Person) -> None:
    statuses = [(await person.go(f"{edge.url}/connect/vendor?link=guess{n}")).status for n in range(70)]
    assert statuses[0] == 404
    assert statuses[-1] == 429
    # Whoever has a link is let in all the same.
    assert (await person.go(await linked(edge))).status == 200
