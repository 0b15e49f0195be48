"""What the way out costs: ``python -m tests.bench.egress [--rounds N] [--megabytes N] [--json FILE]``.

Side by side, in turns, over loopback: bytes through a relay of two streams that judges nothing, and through a CONNECT
tunnel of a gate's; and a small HTTPS request on a kept connection, direct, and with TLS ended and a secret swapped in.
"""

import argparse
import asyncio
import base64
import json
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import aiohttp
import uvloop
from aiohttp import web

from tests.fakes.egress import EgressHouse, egress_house, local

PIECE = b"x" * (256 << 10)


async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read all, then say how much it was."""
    count = 0
    while piece := await reader.read(1 << 18):
        count += len(piece)
    writer.write(str(count).encode())
    writer.close()


class Relay(asyncio.Protocol):
    """A relay that judges nothing and counts nothing: each half writes what it reads to the other."""

    def __init__(self, port: int, target: asyncio.Transport | None = None) -> None:
        self._port = port
        self._target = target
        self._source: asyncio.Transport | None = None
        self._other: Relay | None = None
        self._early: list[bytes] = []
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join it to the port, where it is the first half."""
        self._source = cast(asyncio.Transport, transport)
        if self._target is None:
            self._source.pause_reading()
            self._task = asyncio.get_running_loop().create_task(self._join(self._source))

    async def _join(self, client: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        transport, other = await loop.create_connection(lambda: Relay(self._port, client), "127.0.0.1", self._port)
        self._target = transport
        self._other, other._other = other, self
        self._target.writelines(self._early)
        client.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        if self._target is None:
            self._early.append(data)
        else:
            self._target.write(data)

    def eof_received(self) -> bool:
        """Pass the end on."""
        if self._target is not None:
            self._target.write_eof()
        return True

    def pause_writing(self) -> None:
        """Let the other half read no more for now."""
        if self._other is not None and self._other._source is not None:
            self._other._source.pause_reading()

    def resume_writing(self) -> None:
        """Let it go on."""
        if self._other is not None and self._other._source is not None:
            self._other._source.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other half."""
        if self._target is not None:
            self._target.close()


async def sent(port: int, megabytes: int, head: bytes = b"") -> float:
    """Megabytes a second through whatever listens at ``port``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if head:
        writer.write(head)
        await reader.readuntil(b"\r\n\r\n")
    began = time.perf_counter()
    for _ in range(megabytes * 4):
        writer.write(PIECE)
        await writer.drain()
    writer.write_eof()
    assert int(await reader.read()) == megabytes << 20
    writer.close()
    return megabytes / (time.perf_counter() - began)


async def throughput(house: EgressHouse, rounds: int, megabytes: int) -> dict[str, float]:
    """Megabytes a second, p50."""
    loop = asyncio.get_running_loop()
    target = await asyncio.start_server(sink, "127.0.0.1", 0)
    port = target.sockets[0].getsockname()[1]
    relay = await loop.create_server(lambda: Relay(port), "127.0.0.1", 0)
    house.names.known["sink.test"] = [["127.0.0.1"]]
    house.declare({"allow": [local("sink.test", port, tls=False)]})
    proxy = urlsplit(await house.serve(house.gate()))
    password = base64.b64encode(f"carrel:{proxy.password}".encode()).decode()
    head = f"CONNECT sink.test:{port} HTTP/1.1\r\nProxy-Authorization: Basic {password}\r\n\r\n".encode()
    taken: dict[str, list[float]] = {"raw relay": [], "CONNECT tunnel": []}
    for _ in range(rounds):
        taken["raw relay"].append(await sent(relay.sockets[0].getsockname()[1], megabytes))
        taken["CONNECT tunnel"].append(await sent(proxy.port or 0, megabytes, head))
    for server in (target, relay):
        server.close()
    return {name: statistics.median(rates) for name, rates in taken.items()}


async def requests(house: EgressHouse, rounds: int) -> dict[str, float]:
    """Milliseconds of one request on a kept connection, p50."""

    async def hello(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="hello")

    port = await house.host("api.test", hello)
    declared = {"secret": "TOK", "env": "TOK", "hosts": [f"api.test:{port}"], "header": "X-Key"}
    house.declare({"allow": [local("api.test", port)], "inject": [declared]})
    house.secrets.values["TOK"] = "secret-value"
    gate = house.gate()
    proxy = await house.serve(gate)
    inside = ssl.create_default_context(cadata=house.egress.authority(house.tenant.id).certificate.decode())
    outside = ssl.create_default_context(cadata=house.public.certificate.decode())
    taken: dict[str, list[float]] = {"direct": [], "intercepted": []}
    async with aiohttp.ClientSession() as client:

        async def once(name: str, ask: Callable[[], Awaitable[None]]) -> None:
            began = time.perf_counter()
            await ask()
            taken[name].append(time.perf_counter() - began)

        async def direct() -> None:
            url = f"https://127.0.0.1:{port}/"
            async with client.get(url, ssl=outside, server_hostname="api.test") as answer:
                await answer.read()

        async def intercepted() -> None:
            async with client.get(
                f"https://api.test:{port}/", proxy=proxy, ssl=inside, headers={"X-Key": gate.env["TOK"]}
            ) as answer:
                assert answer.status == 200
                await answer.read()

        for _ in range(rounds):
            await once("direct", direct)
            await once("intercepted", intercepted)
    return {name: statistics.median(times) * 1e3 for name, times in taken.items()}


async def measure(rounds: int, megabytes: int) -> dict[str, dict[str, float]]:
    """Both."""
    with tempfile.TemporaryDirectory() as state:
        async with egress_house(Path(state)) as house:
            return {
                "megabytes_per_second": await throughput(house, max(3, rounds // 20), megabytes),
                "request_ms": await requests(house, rounds),
            }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = uvloop.run(measure(given.rounds, given.megabytes))
    rates, times = found["megabytes_per_second"], found["request_ms"]
    for name, rate in rates.items():
        sys.stdout.write(f"{name:16} {rate:8.0f} MB/s  {rate / rates['raw relay']:5.2f} x raw\n")
    for name, taken in times.items():
        sys.stdout.write(f"{name:16} {taken:8.2f} ms    {taken - times['direct']:+5.2f} ms\n")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
