"""Mixed work for minutes on one gateway, and what it holds meanwhile: memory, descriptors, threads, processes.

``python -m tests.system.faults.soak [--seconds 600] [--seed 1]`` is the long run. What grows without an end is a leak:
the last two thirds are judged by the line that fits them best, so that what is made at the start does not count.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.fakes.sandboxed import reachable
from tests.system.faults.checks import Checks
from tests.system.faults.deaths import TOKEN, Figures, Life, descendants
from tests.system.faults.mix import Mix

EVERY: Final = 2.0
PACE: Final = 0.15
"""Seconds that a worker rests after each thing: a load that goes on, not a race."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the gateway holds ``at`` so many seconds after the begin."""

    at: float
    rss_kib: int
    descriptors: int
    threads: int
    children: int
    done: int


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a run came to. Slopes are a minute's growth by the line that fits the last two thirds best."""

    seconds: float
    done: int
    first: Sample
    last: Sample
    rss_kib_a_minute: float
    rss_kib_a_thousand_done: float
    descriptors_a_minute: float
    threads_a_minute: float
    children_a_minute: float
    problems: Sequence[str]


def look(pid: int, at: float, done: int) -> Sample:
    """A sample of now."""
    process = Path(f"/proc/{pid}")
    told = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line)
    return Sample(
        at, int(told["VmRSS"].split()[0]), len(os.listdir(process / "fd")), int(told["Threads"]),
        len(descendants(pid)), done,
    )  # fmt: skip


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The rise of the line that fits ``points`` best."""
    count = len(points)
    middle_x, middle_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


def soak(life: Life, seconds: float, seed: str) -> Soaked:
    """Work on ``life`` for so long, and look at it afterwards."""
    process = life.gateway.process
    assert process is not None
    samples: list[Sample] = []
    began = time.monotonic()

    async def watch() -> None:
        while time.monotonic() - began < seconds:
            samples.append(look(process.pid, time.monotonic() - began, life.truth.acknowledged()))
            await asyncio.sleep(EVERY)

    asyncio.run(Mix(life.gateway, life.truth, seed, TOKEN, pace=PACE).run(watch))
    later = samples[len(samples) // 3 :]

    def a_minute(kind: str) -> float:
        return slope([(one.at / 60, getattr(one, kind)) for one in later])

    return Soaked(
        time.monotonic() - began, life.truth.acknowledged(), samples[0], samples[-1], a_minute("rss_kib"),
        1000 * slope([(one.done, one.rss_kib) for one in later]), a_minute("descriptors"), a_minute("threads"),
        a_minute("children"), Checks(life.gateway, life.truth, TOKEN).all(),
    )  # fmt: skip


def main() -> int:
    """The long run."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seconds", type=float, default=600.0)
    words.add_argument("--seed", default="1")
    told = words.parse_args()
    with reachable() as home:
        life = Life(home, told.seed, Figures(told.seed), faulty=False)
        try:
            life.start()
            found = soak(life, told.seconds, told.seed)
        finally:
            life.close()
    sys.stdout.write(json.dumps(asdict(found), indent=1) + "\n")
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
