"""Mixed work for minutes on one gateway, and what it holds meanwhile: memory, descriptors, tasks, threads, processes.

``python -m tests.system.faults.soak [--seconds 600] [--seed 1]`` is the long run. What is kept is bounded: sessions and
notes that are too many are deleted, so that whatever grows without an end is a leak. The last third is judged, by the
line that fits it best, for caches have filled by then; and once nothing runs any more, nothing may be left of the work.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.patience import until
from tests.fakes.sandboxed import reachable
from tests.system.faults.checks import Checks
from tests.system.faults.deaths import TOKEN, Figures, Life, descendants
from tests.system.faults.mix import Mix

EVERY: Final = 2.0
PACE: Final = 0.15
"""Seconds that a worker rests after each thing: a load that goes on, not a race."""
MOST_KEPT: Final = 100
STANDING: Final = 4
"""So many tasks of an owner may begin with the first use of it, and stay."""
MOST_GROWTH: Final[Mapping[str, float]] = {
    "memory_kib": 256, "descriptors": 1, "tasks": 4, "threads": 0.5, "children": 0.5
}  # fmt: skip
"""How much of each a minute may add at the most. Tasks in hand are more where the machine is slower: by those that are
left at rest it is judged whether they leak."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the gateway holds ``at`` so many seconds after the begin.

    Its memory is what no file is behind: the journal's file is mapped, and fills and is given back by 2 MiB.
    """

    at: float
    memory_kib: int
    descriptors: int
    tasks: int
    threads: int
    children: int
    done: int


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a run came to. ``growth`` is a minute's by kind, in the last third.

    ``left`` are tasks by owner, where there are more at rest than before by more than `STANDING`.
    """

    seconds: float
    done: int
    first: Sample
    last: Sample
    growth: Mapping[str, float]
    left: Mapping[str, int]
    problems: Sequence[str]
    samples: Sequence[Sample] = field(repr=False)

    @property
    def grown(self) -> Sequence[str]:
        """What of it grew for ever, by the look of it."""
        return [
            f"{kind} by {found:.2f} a minute" for kind, found in self.growth.items() if found > MOST_GROWTH[kind]
        ]  # fmt: skip


def tasks(gateway: GatewayProcess) -> Mapping[str, int]:
    """The gateway's tasks by owner."""
    told = gateway.request("GET", "/metrics").body.decode()
    return {
        sample.labels["owner"]: int(sample.value)
        for family in text_string_to_metric_families(told) for sample in family.samples if family.name == "carrel_tasks"
    }  # fmt: skip


async def look(gateway: GatewayProcess, at: float, done: int) -> Sample:
    """A sample of now."""
    assert gateway.process is not None
    process = Path(f"/proc/{gateway.process.pid}")
    held = sum((await asyncio.to_thread(tasks, gateway)).values())
    told = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line)
    return Sample(
        at, int(told["RssAnon"].split()[0]), len(os.listdir(process / "fd")), held, int(told["Threads"]),
        len(descendants(gateway.process.pid)), done,
    )  # fmt: skip


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The rise of the line that fits ``points`` best."""
    count = len(points)
    middle_x, middle_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


def soak(life: Life, seconds: float, seed: str) -> Soaked:
    """Work on ``life`` for so long, and look at it afterwards."""
    samples: list[Sample] = []
    at_rest = tasks(life.gateway)
    began = time.monotonic()

    async def watch() -> None:
        while time.monotonic() - began < seconds:
            samples.append(await look(life.gateway, time.monotonic() - began, life.truth.acknowledged()))
            await asyncio.sleep(EVERY)

    asyncio.run(Mix(life.gateway, life.truth, seed, TOKEN, pace=PACE, most_kept=MOST_KEPT).run(watch))
    took = time.monotonic() - began
    problems = Checks(life.gateway, life.truth, TOKEN).all()
    later = samples[-max(1, len(samples) // 3) :]
    growth = {kind: slope([(one.at / 60, getattr(one, kind)) for one in later]) for kind in MOST_GROWTH}
    return Soaked(
        took, life.truth.acknowledged(), samples[0], samples[-1], growth, left(life.gateway, at_rest), problems, samples
    )  # fmt: skip


def left(gateway: GatewayProcess, at_rest: Mapping[str, int]) -> Mapping[str, int]:
    """Tasks by owner that do not end although nobody asks for anything any more."""
    more: dict[str, int] = {}

    def over() -> bool:
        more.clear()
        more.update({who: count for who, count in tasks(gateway).items() if count > at_rest.get(who, 0) + STANDING})
        return not more

    until(over, pause=0.2)
    return more


def main() -> int:
    """The long run."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seconds", type=float, default=600.0)
    words.add_argument("--seed", default="1")
    words.add_argument("--samples", type=Path, help="a file for all of them, a line each")
    told = words.parse_args()
    with reachable() as home:
        life = Life(home, told.seed, Figures(told.seed), faulty=False)
        try:
            life.start()
            found = soak(life, told.seconds, told.seed)
        finally:
            life.close()
    if told.samples is not None:
        told.samples.write_text("".join(json.dumps(asdict(one)) + "\n" for one in found.samples))
    shown = asdict(found) | {"grown": found.grown}
    del shown["samples"]
    sys.stdout.write(json.dumps(shown, indent=1) + "\n")
    return 1 if found.problems or found.left or found.grown else 0


if __name__ == "__main__":
    sys.exit(main())
