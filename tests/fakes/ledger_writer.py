"""A process that meters calls as fast as it can and says what it was told, to be killed at any moment.

``python -m tests.fakes.ledger_writer STATE SEED``: prints ``ready``, then ``begun ID`` once a call is let through and
``acked ID`` once its settling has returned.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from carrel.clock import SystemClock
from carrel.declare.rate_card import TokenCounts
from carrel.ids import RequestId
from carrel.metering.protocol import Call
from carrel.metering.service import Metering
from carrel.tasks import Tasks
from carrel.telemetry import Metrics, configure_logging
from tests.fakes.tenants import make_snapshot, make_tenant

TENANTS = ("a", "b", "c")


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


async def main(state: Path, seed: int) -> None:
    configure_logging(level="error")
    chance = random.Random(seed)  # noqa: S311 - the same chances for the same seed
    tasks = Tasks("writer")
    tenants = [make_tenant(state, name) for name in TENANTS]
    snapshot = make_snapshot(*tenants)
    meter = Metering(
        state_dir=state, clock=SystemClock(), tasks=tasks, metrics=Metrics(), segment_bytes=32_768, open_ledgers=2
    )  # fmt: skip
    await meter.start()
    say("ready")

    async def calls(worker: int) -> None:
        for number in range(1_000_000):
            name = RequestId(f"r{seed}-{worker}-{number}")
            held = await meter.reserve(chance.choice(tenants), snapshot, Call(name, "demo", 100, 100))
            say(f"begun {name}")
            if chance.random() < 0.1:
                await asyncio.sleep(chance.random() * 0.01)
            if chance.random() < 0.02:
                continue
            await held.settle(TokenCounts(input=1, output=number % 7), outcome="ok")
            say(f"acked {name}")
            if chance.random() < 0.02:
                await meter.flush()

    await asyncio.gather(*(calls(worker) for worker in range(48)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
