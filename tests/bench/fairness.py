"""What a tenant that floods costs another: the other's latency at one provider alone, beside a flood, and in one line.

``python -m tests.bench.fairness [--seconds N] [--flood N] [--places N] [--json FILE]``. Callers, gateway and vendor
share this process. An answer takes the vendor 0.2 s; the provider has few places. One tenant asks one call after the
other, another keeps a flood of calls open. "In one line" is the same without the guard.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import aiohttp

from carrel.clock import SystemClock
from carrel.providers.guard import Guard
from carrel.relay.guarded import GuardedRelay
from carrel.relay.relay import Relay
from carrel.secrets import SecretStore
from carrel.tasks import Tasks
from carrel.telemetry import Metrics, configure_logging
from tests.fakes.edge import FakeMeter, bearer, chat_body, running_edge, token_of
from tests.fakes.vendor import FakeVendor, Script

ANSWER_SECONDS: Final = 0.05
PATH: Final = "/v1/chat/completions"
BODY: Final = chat_body("hi", model="vendor-large")


async def measure(*, seconds: float, flood: int, places: int, fair: bool) -> list[float]:
    """The polite tenant's latencies in seconds."""
    clock, meter, tasks = SystemClock(), FakeMeter(), Tasks("bench")
    secrets = SecretStore(credentials_dir=None, secrets_dir=None, environ={})
    relay = Relay(meter=meter, secrets=secrets, clock=clock, tasks=tasks, metrics=Metrics())
    passing: Any = GuardedRelay(relay, Guard(clock)) if fair else relay
    with tempfile.TemporaryDirectory() as state:
        async with FakeVendor() as vendor, running_edge(Path(state), relay=passing, meter=meter) as edge:
            vendor.script("vendor-large", Script(delay=ANSWER_SECONDS, piece=1000, text="hi"))
            current = edge.directory.current
            provider = current.gateway.providers["vendor"].model_copy(
                update={"base_url": vendor.openai_url, "max_connections": places}
            )
            providers = {**current.gateway.providers, "vendor": provider}
            gateway = current.gateway.model_copy(update={"providers": providers})
            edge.directory.publish(replace(current, gateway=gateway))
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(connector=connector) as client:
                stop = asyncio.Event()
                floods = [asyncio.create_task(_flood(client, edge.url + PATH, stop)) for _ in range(flood)]
                await asyncio.sleep(1.0)
                took = await _polite(client, edge.url + PATH, seconds)
                stop.set()
                await asyncio.gather(*floods)
    await relay.close()
    await tasks.close()
    return took


async def _flood(client: aiohttp.ClientSession, url: str, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await _ask(client, url, "bravo")


async def _polite(client: aiohttp.ClientSession, url: str, seconds: float) -> list[float]:
    took, ends = [], time.perf_counter() + seconds
    while time.perf_counter() < ends:
        began = time.perf_counter()
        await _ask(client, url, "acme")
        took.append(time.perf_counter() - began)
    return took


async def _ask(client: aiohttp.ClientSession, url: str, tenant: str) -> None:
    body = BODY[:-1] + b', "stream": true}'
    async with client.post(url, data=body, headers=bearer(token_of(tenant))) as reply:
        await reply.read()


def summary(took: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds, and how many."""
    ordered = sorted(took)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {"p50": statistics.median(ordered) * 1e3, "p99": p99 * 1e3, "calls": len(ordered)}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fairness", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--flood", type=int, default=64)
    parser.add_argument("--places", type=int, default=16)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    configure_logging(level="warning")
    rows = {}
    for name, flood, fair in (("alone", 0, True), ("beside a flood", options.flood, True),
                              ("beside a flood, in one line", options.flood, False)):  # fmt: skip
        took = asyncio.run(measure(seconds=options.seconds, flood=flood, places=options.places, fair=fair))
        rows[name] = summary(took)
        told = "  ".join(f"{key} {value:8.1f}" for key, value in rows[name].items())
        print(f"{name:<30} {told}", flush=True)  # noqa: T201 - its user interface
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
