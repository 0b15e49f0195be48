"""`carrel connections`."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.fakes.edge import Edge
from tests.fakes.oauth_vendor import OAuthVendor, running_vendor
from tests.fakes.person import Person, declare_vendor
from tests.unit.cli.conftest import CommandLine

TENANT = ("--tenant", "acme")


@pytest.fixture
async def vendor(edge: Edge) -> AsyncIterator[OAuthVendor]:
    async with running_vendor() as running:
        declare_vendor(edge, running)
        yield running


async def test_an_account_from_its_link_to_its_end(carrel: CommandLine, edge: Edge, vendor: OAuthVendor) -> None:
    assert "It may connect with vendor." in (await carrel("connections", "list", *TENANT)).err
    scopes = ("--scope", "read", "--scope", "write")
    made = await carrel("connections", "link", "vendor", "--name", "work", *scopes, *TENANT)
    assert made.out.startswith(f"{edge.url}/connect/vendor?link=")
    assert "once" in made.err
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        await Person(client).through(made.out.strip())
    listed = (await carrel("connections", "list", *TENANT)).out.splitlines()
    assert listed[1].split()[:6] == ["work", "vendor", "octocat", "ok", "read", "write"]
    assert "renewed before" in listed[1]
    told = (await carrel("connections", "list", *TENANT, "--json")).json()
    assert told["connections"][0]["account"] == "octocat"
    gone = await carrel("connections", "remove", "work", *TENANT)
    assert "the vendor has taken its token back" in gone.out
    assert (await carrel("connections", "remove", "work", *TENANT)).code == 1


async def test_where_nothing_is_declared(carrel: CommandLine, edge: Edge) -> None:
    assert "No OAuth provider is declared" in (await carrel("connections", "list", *TENANT)).err
    done = await carrel("connections", "link", "github", *TENANT)
    assert (done.code, "may connect with: there is none" in done.err) == (1, True)


async def test_json_of_each(carrel: CommandLine, edge: Edge, vendor: OAuthVendor) -> None:
    made = (await carrel("connections", "link", "vendor", *TENANT, "--json")).json()
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        await Person(client).through(made["url"])
    assert (await carrel("connections", "remove", "vendor", *TENANT, "--json")).json()["revoked"] is True
