"""HTTP of the gateway's own, through the guard."""

from ipaddress import ip_network

import pytest
from aiohttp import web

from carrel.egress.outbound import Outbound
from carrel.egress.resolve import AddressRefused, Unreachable
from carrel.errors import InvalidRequest
from carrel.ids import TenantId
from carrel.policy.egress.addresses import Network
from tests.fakes.egress import EgressHouse

ACME = TenantId("acme")


LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"),)


async def said(request: web.BaseRequest) -> web.StreamResponse:
    if request.path == "/away":
        return web.Response(status=302, headers={"Location": "http://169.254.169.254/"})
    return web.json_response({"headers": dict(request.headers), "body": (await request.read()).decode()})


@pytest.fixture
async def outbound(house: EgressHouse) -> Outbound:
    return Outbound(house.egress)


async def test_it_speaks_to_who_is_permitted_and_sends_what_it_was_given_alone(
    house: EgressHouse, outbound: Outbound
) -> None:
    port = await house.host("api.example", said)
    url = f"https://api.example:{port}/x"
    async with outbound.request(
        ACME, "POST", url, headers={"X-A": "b"}, data=b"body", permitted=LOOPBACK, stall_seconds=30
    ) as answer:
        told = await answer.json()
    assert told["body"] == "body"
    assert {name.lower() for name in told["headers"]} == {"host", "x-a", "content-length"}
    assert house.names.asked == ["api.example"]


async def test_S4_03_an_address_that_nobody_named_is_refused_in_every_form(
    house: EgressHouse, outbound: Outbound
) -> None:
    port = await house.host("api.example", said)
    for url in (
        f"https://api.example:{port}/", f"http://127.0.0.1:{port}/", "http://169.254.169.254/", "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
    ):  # fmt: skip
        with pytest.raises(AddressRefused):
            async with outbound.request(ACME, "GET", url, headers={}, stall_seconds=30):
                pass
    with pytest.raises(Unreachable):
        async with outbound.request(ACME, "GET", "https://none.example/", headers={}, stall_seconds=30):
            pass
    with pytest.raises(InvalidRequest):
        async with outbound.request(ACME, "GET", "ftp://api.example/", headers={}, stall_seconds=30):
            pass


async def test_no_redirect_is_followed(house: EgressHouse, outbound: Outbound) -> None:
    port = await house.host("api.example", said)
    async with outbound.request(
        ACME, "GET", f"https://api.example:{port}/away", headers={}, permitted=LOOPBACK, stall_seconds=30
    ) as answer:
        assert answer.status == 302
