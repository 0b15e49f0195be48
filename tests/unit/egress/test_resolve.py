"""Names asked once, addresses judged, and connections to nothing else."""

import asyncio
from ipaddress import ip_network

import pytest

from carrel.clock import SystemClock
from carrel.declare.hosts import canonical
from carrel.egress.resolve import AddressRefused, Dialler, Unreachable, own_addresses
from tests.fakes.egress import Names

LOOPBACK = (ip_network("127.0.0.0/8"),)


def dialler(**known: list[list[str]]) -> tuple[Dialler, Names]:
    names = Names({name.replace("_", "."): answers for name, answers in known.items()})
    return Dialler(clock=SystemClock(), look=names), names


async def test_S4_03_only_good_addresses_are_given() -> None:
    made, _ = dialler(mixed_test=[["10.0.0.1", "1.1.1.1", "::1", "2606:4700:4700::1111", "::ffff:127.0.0.1"]])
    good = await made.vetted(canonical("mixed.test"))
    assert [str(address) for address in good] == ["1.1.1.1", "2606:4700:4700::1111"]


@pytest.mark.parametrize("answer", ["127.0.0.1", "169.254.169.254", "64:ff9b::7f00:1", "::ffff:10.0.0.1", "fe80::1%lo"])
async def test_S4_03_a_name_that_leads_inside_is_refused(answer: str) -> None:
    made, _ = dialler(evil_test=[[answer]])
    with pytest.raises(AddressRefused, match="not connected to"):
        await made.vetted(canonical("evil.test"))
    for literal in ("127.0.0.1", "[::1]", "0x7f.1", "169.254.169.254"):
        with pytest.raises(AddressRefused):
            await made.vetted(canonical(literal))


async def test_S4_03_a_resolver_that_changes_its_mind_is_asked_once() -> None:
    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hello, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    made, names = dialler(rebinding_test=[["1.1.1.1"], ["127.0.0.1"]])
    assert [str(a) for a in await made.vetted(canonical("rebinding.test"))] == ["1.1.1.1"]
    assert names.asked == ["rebinding.test"]
    with pytest.raises(AddressRefused):
        await made.connected(canonical("rebinding.test"), port)
    made, names = dialler(named_test=[["127.0.0.1"], ["10.0.0.1"]])
    connected = await made.connected(canonical("named.test"), port, permitted=LOOPBACK)
    assert connected.getpeername() == ("127.0.0.1", port)
    assert names.asked == ["named.test"]
    connected.close()
    server.close()


async def test_what_does_not_resolve_or_answer_is_told() -> None:
    made, _ = dialler(here_test=[["127.0.0.1"]])
    with pytest.raises(Unreachable, match="does not resolve"):
        await made.vetted(canonical("nowhere.test"))
    with pytest.raises(Unreachable, match="cannot be connected"):
        await made.connected(canonical("here.test"), 1, permitted=LOOPBACK)


def test_S4_03_the_machines_own_addresses_are_known() -> None:
    assert "127.0.0.1" in {str(address) for address in own_addresses()}


async def test_the_system_resolves_its_own_name() -> None:
    made = Dialler(clock=SystemClock())
    with pytest.raises(AddressRefused):
        await made.vetted(canonical("localhost"))
