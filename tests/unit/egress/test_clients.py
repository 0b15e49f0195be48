"""Clients of many tenants: apart, bounded, and never closed under who uses them."""

import asyncio
import os
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import web

from carrel.clock import SystemClock
from carrel.egress.clients import Clients
from carrel.egress.resolve import Dialler
from carrel.ids import TenantId
from carrel.policy.egress.addresses import Network

LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"),)
MOST = 4


class Host:
    """Answers with the port of who asks; `/slow` begins, and ends when ``go`` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        port = str(request.transport.get_extra_info("peername")[1])  # type: ignore[union-attr] # it is there
        if request.path != "/slow":
            return web.Response(text=port)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun ")
        await self.go.wait()
        await response.write(port.encode())
        return response


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host()
    server = web.Server(made.answer)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    made.url = f"http://api.example:{listener.sockets[0].getsockname()[1]}"
    yield made
    listener.close()
    await server.shutdown(0.5)


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    async def look(name: str) -> list[str]:
        return ["127.0.0.1"]

    made = Clients(Dialler(clock=SystemClock(), look=look), most=MOST)
    yield made
    await made.close()
    assert len(made) == 0


async def asked(clients: Clients, host: Host, tenant: str, permitted: tuple[Network, ...] = LOOPBACK) -> str:
    async with clients.client(TenantId(tenant), permitted) as client, client.get(host.url) as answer:
        return await answer.text()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_each_has_connections_of_its_own_and_keeps_them(clients: Clients, host: Host) -> None:
    more = (*LOOPBACK, ip_network("10.0.0.0/8"))
    ports = [await asked(clients, host, *who) for who in (("a", LOOPBACK), ("b", LOOPBACK), ("a", more))]
    assert len(set(ports)) == 3
    assert [await asked(clients, host, *who) for who in (("a", LOOPBACK), ("b", LOOPBACK), ("a", more))] == ports


async def test_of_many_tenants_and_networks_those_stay_that_were_used_last(clients: Clients, host: Host) -> None:
    before = descriptors()
    for number in range(60):
        await asked(clients, host, f"t{number % 20}", (*LOOPBACK, ip_network(f"10.{number}.0.0/16")))
    assert len(clients) == MOST
    await asyncio.sleep(0.05)
    # Both ends of each are here.
    assert descriptors() - before <= 2 * MOST
    last = (*LOOPBACK, ip_network("10.59.0.0/16"))
    assert await asked(clients, host, "t19", last) == await asked(clients, host, "t19", last)


async def test_the_one_that_goes_is_the_longest_unused_and_not_the_first_made(clients: Clients, host: Host) -> None:
    first, second = [await asked(clients, host, tenant) for tenant in ("first", "second")]
    for tenant in ("third", "fourth"):
        await asked(clients, host, tenant)
    assert await asked(clients, host, "first") == first
    await asked(clients, host, "fifth")
    assert await asked(clients, host, "first") == first
    assert await asked(clients, host, "second") != second


async def test_one_in_use_stays_open_whoever_comes_meanwhile(clients: Clients, host: Host) -> None:
    async with clients.client(TenantId("slow"), LOOPBACK) as client, client.get(f"{host.url}/slow") as answer:
        assert await answer.content.readany() == b"begun "
        for number in range(3 * MOST):
            await asked(clients, host, f"t{number}")
        assert len(clients) == MOST
        host.go.set()
        port = (await answer.read()).decode()
    assert await asked(clients, host, "slow") == port, "it is among the last used still"


async def test_where_all_are_in_use_there_are_more_until_they_are_not(clients: Clients, host: Host) -> None:
    async def slow(number: int) -> Any:
        async with clients.client(TenantId(f"t{number}"), LOOPBACK) as client, client.get(f"{host.url}/slow") as answer:
            return await answer.text()

    running = [asyncio.create_task(slow(number)) for number in range(3 * MOST)]
    while len(clients) < 3 * MOST:
        await asyncio.sleep(0.01)
    host.go.set()
    assert all(text.startswith("begun ") for text in await asyncio.gather(*running))
    assert len(clients) == MOST
