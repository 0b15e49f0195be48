"""How much longer a keystroke's echo takes in a terminal than over a bare pty, and what a flood in one costs others.

``python -m tests.bench.terminal``: a gateway process with the real sandbox on loopback, and a client here. The bare pty
is `cat` on one of this machine's, in this process. The neighbour is a stream of server-sent events by the demo model.
"""

import asyncio
import itertools
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.edge import bearer
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.socket import Socket, opened

KEYS = 500
STREAMS = 60
SETTLE_SECONDS = 1.0
TOLD_SECONDS = 0.25
"""How often the flood says how far it is; a measurement that ends sooner goes on until it has said so twice."""
WAIT_SECONDS = 30.0
LEAST_RATE = 0.01
"""Megabytes a second below which `yes` was no flood, and what was measured beside it means nothing."""


def figures(name: str, seconds: list[float]) -> str:
    """A line of milliseconds."""
    middle, late = statistics.median(seconds) * 1000, sorted(seconds)[int(len(seconds) * 0.99)] * 1000
    return f"{name:44} p50 {middle:7.2f} ms   p99 {late:7.2f} ms"


async def echo_of_a_bare_pty() -> list[float]:
    """Seconds from writing one byte to reading it back."""
    master, slave = pty.openpty()
    process = subprocess.Popen(["cat"], stdin=slave, stdout=slave, stderr=slave)
    took = []
    try:
        for key in itertools.islice(itertools.cycle(b"abcdefgh"), KEYS):
            began = time.perf_counter()
            os.write(master, bytes([key]))
            os.read(master, 1)
            took.append(time.perf_counter() - began)
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)
    return took


async def echo(socket: Socket, terminal: str) -> list[float]:
    """The same through a terminal: from sending the call to having the output."""
    took = []
    for key in itertools.islice(itertools.cycle("abcdefgh"), KEYS):
        began = time.perf_counter()
        await socket.send("terminal.write", {"terminalId": terminal, "data": key})
        while key not in (told := await socket.next("terminal.output"))["data"]:
            pass
        took.append(time.perf_counter() - began)
        await socket.send("terminal.ack", {"terminalId": terminal, "at": told["next"]})
        await asyncio.sleep(0.002)
    return took


async def flood(url: str, token: str) -> None:
    """Run `yes` in a terminal, keep up with it, and say again and again when it had how many bytes: its own process."""
    async with opened(url, token, "?events=none") as socket:
        terminal, due = (await socket.call("terminal.spawn", {"shell": "yes"}))["terminalId"], 0.0
        sys.stdout.write(f"{terminal}\n")
        while True:
            told = await socket.next("terminal.output")
            await socket.send("terminal.ack", {"terminalId": terminal, "at": told["next"]})
            if (now := time.monotonic()) > due:
                sys.stdout.write(f"{now} {told['next']}\n")
                sys.stdout.flush()
                due = now + TOLD_SECONDS


class Flood:
    """`yes` in a terminal whose page keeps up, in a process of its own. ``told`` is how far it was when."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self.told: list[tuple[float, int]] = []
        command = [sys.executable, "-m", "tests.bench.terminal", gateway.url, gateway.token]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._lines = self._process.stdout
        self._terminal = self._lines.readline().strip()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._lines:
            moment, at = line.split()
            self.told.append((float(moment), int(at)))

    async def rate(self, since: float) -> float:
        """Megabytes a second from ``since`` on, a time of `time.monotonic`; raises where `yes` got next to nothing."""
        until = time.monotonic() + WAIT_SECONDS
        while len(during := [one for one in self.told if one[0] >= since]) < 2:
            if time.monotonic() > until or self._process.poll() is not None:
                raise SystemExit(f"`yes` came to nothing more after {self.told[-1:]}: its terminal stands still.")
            await asyncio.sleep(TOLD_SECONDS)
        (first, begun), (last, came) = during[0], during[-1]
        rate = (came - begun) / (last - first) / 1e6
        if rate < LEAST_RATE:
            raise SystemExit(f"`yes` came to {rate:.4f} MB/s: that is no flood, and beside it nothing was measured.")
        return rate

    def end(self) -> None:
        """End it, and its terminal."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._lines.close()
        self._gateway.rpc("terminal.close", {"terminalId": self._terminal})


async def flooded(gateway: GatewayProcess, measured: Callable[[], Awaitable[Any]]) -> tuple[Any, float]:
    """What ``measured`` gives while `yes` runs in a terminal; and its megabytes a second meanwhile."""
    flooding = await asyncio.to_thread(Flood, gateway)
    try:
        await asyncio.sleep(SETTLE_SECONDS)
        began = time.monotonic()
        found = await measured()
        return found, await flooding.rate(began)
    finally:
        await asyncio.to_thread(flooding.end)


async def streams(gateway: GatewayProcess) -> list[float]:
    """Seconds that each stream of a model's answer takes to its end."""
    took = []
    body = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "hello " * 40}]}
    async with aiohttp.ClientSession(headers=bearer(gateway.token)) as client:
        for _ in range(STREAMS):
            began = time.perf_counter()
            async with client.post(f"{gateway.url}/v1/chat/completions", json=body) as reply:
                assert reply.status == 200, await reply.text()
                await reply.read()
            took.append(time.perf_counter() - began)
    return took


async def measure(gateway: GatewayProcess) -> list[str]:
    """All lines."""
    lines = []
    bare = await echo_of_a_bare_pty()
    lines.append(figures("echo of a bare pty", bare))
    async with opened(gateway.url, gateway.token, "?events=none") as socket:
        made = await socket.call("terminal.spawn", {"shell": "cat"})
        through = await echo(socket, made["terminalId"])
        lines.append(figures("echo through a terminal", through))
        lines.append(
            f"{'over the bare pty, p50':44} {(statistics.median(through) - statistics.median(bare)) * 1000:11.2f} ms"
        )
        beside, rate = await flooded(gateway, lambda: echo(socket, made["terminalId"]))
        lines.append(figures(f"echo beside `yes` at {rate:.1f} MB/s", beside))
    lines.append(figures("a stream, alone", await streams(gateway)))
    beside, rate = await flooded(gateway, lambda: streams(gateway))
    lines.append(figures(f"a stream beside `yes` at {rate:.1f} MB/s", beside))
    return lines


def main(words: list[str]) -> int:
    """Start a gateway, measure, and print."""
    if words:
        asyncio.run(flood(*words))
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)
        gateway = GatewayProcess(home=Path(made) / "home").prepare()
        quotas = gateway.tenants_dir / "demo.yaml"
        quotas.write_text(
            quotas.read_text(encoding="utf-8") + "quotas: {requests_per_minute: 100000}\n", encoding="utf-8"
        )
        gateway.start()
        try:
            for line in asyncio.run(measure(gateway)):
                sys.stdout.write(line + "\n")
        finally:
            gateway.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
