"""What is asked of vendors, bounded in size and time."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from carrel.connections.vendor import MOST_ANSWER, Vendor
from carrel.declare.oauth import OAuthProvider
from carrel.egress.outbound import Outbound
from carrel.errors import CarrelError, UpstreamError, UpstreamTimeout
from carrel.ids import TenantId
from carrel.secrets import Secret, SecretMissing
from carrel.wire.oauth import OAuthRefused, OAuthUnclear
from tests.fakes.connections import PlainClients
from tests.fakes.oauth_vendor import SECRET, OAuthVendor, declared, running_vendor

ACME = TenantId("acme")


async def known(name: str) -> Secret:
    if name != "VENDOR_SECRET":
        raise SecretMissing(f"secret {name!r} is not set")
    return Secret(SECRET)


@pytest.fixture
async def asking() -> AsyncIterator[Vendor]:
    clients = PlainClients()
    yield Vendor(outside=Outbound(clients), secret=known)
    await clients.close()


@pytest.fixture
async def vendor() -> AsyncIterator[OAuthVendor]:
    async with running_vendor() as running:
        yield running


def provider(url: str, **more: Any) -> OAuthProvider:
    given = declared(url, **more)
    return OAuthProvider.model_validate({
        **given, "scopes": tuple(given["scopes"]), "more_scopes": (), "addresses": tuple(given["addresses"])
    })  # fmt: skip


@pytest.mark.parametrize("auth", ["basic", "post"])
async def test_the_client_is_known_either_way(asking: Vendor, vendor: OAuthVendor, auth: str) -> None:
    with pytest.raises(OAuthRefused, match="invalid_grant"):
        await asking.refresh(ACME, provider(vendor.url, client_auth=auth), "unknown")
    with pytest.raises(SecretMissing):
        await asking.refresh(ACME, provider(vendor.url, client_secret={"secret": "OTHER"}), "unknown")
    vendor.secret = "another"
    with pytest.raises(OAuthRefused, match="invalid_client"):
        await asking.refresh(ACME, provider(vendor.url, client_auth=auth), "unknown")


async def test_a_vendor_that_fails_may_be_asked_again_and_one_that_is_slow_is_given_up(
    asking: Vendor, vendor: OAuthVendor
) -> None:
    vendor.knobs.token_status = 503
    with pytest.raises(UpstreamError) as caught:
        await asking.refresh(ACME, provider(vendor.url), "x")
    assert caught.value.retryable
    vendor.knobs.token_status, vendor.knobs.token_delay = 200, 30
    with pytest.raises(UpstreamTimeout):
        await asking.refresh(ACME, provider(vendor.url, timeout_seconds=0.1), "x")
    with pytest.raises(CarrelError, match=r"cannot be connected to|could not be talked to"):
        await asking.refresh(ACME, provider(vendor.url, token_url="http://127.0.0.1:1/token"), "x")


async def test_a_revocation(asking: Vendor, vendor: OAuthVendor) -> None:
    assert await asking.revoke(ACME, provider(vendor.url), "unknown", hint="access_token")
    assert not await asking.revoke(ACME, provider(vendor.url, revoke_url=None), "x", hint="access_token")
    vendor.secret = "another"
    with pytest.raises(OAuthRefused):
        await asking.revoke(ACME, provider(vendor.url), "x", hint="access_token")


async def test_an_account_is_nice_to_have(asking: Vendor, vendor: OAuthVendor) -> None:
    assert await asking.account(ACME, provider(vendor.url), "bad token") is None
    assert await asking.account(ACME, provider(vendor.url, account_url=None), "x") is None
    assert await asking.account(ACME, provider(vendor.url, account_url="http://127.0.0.1:1/"), "x") is None


async def test_an_answer_without_end_is_cut(asking: Vendor) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * (MOST_ANSWER + 1))

    app = web.Application()
    app.router.add_post("/token", endless)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        with pytest.raises(OAuthUnclear, match="bytes"):
            await asking.refresh(ACME, provider(f"http://127.0.0.1:{runner.addresses[0][1]}"), "x")
    finally:
        await runner.cleanup()
