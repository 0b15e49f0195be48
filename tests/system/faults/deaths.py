"""A gateway that dies again and again under work, each time in a way and at a moment that a seed chooses.

``python -m tests.system.faults.deaths --deaths 1000 --seed 1 [--first N] [--side-by-side 2]`` is the long run.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from carrel.main.privilege import identity
from carrel.sandbox.launcher.groups import TENANTS
from tests.fakes.faulty_disk import Call, FaultyDisk
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.groups import subtree
from tests.fakes.mounts import mounts
from tests.fakes.patience import PATIENCE, until
from tests.fakes.sandboxed import reachable
from tests.system.faults.checks import Checks
from tests.system.faults.mix import OTHERS, TENANT, Mix
from tests.system.faults.truth import Truth

DEATHS_OF_ONE: Final = 20
"""How often one state directory dies, before a new one is begun."""
LONGEST: Final = 15.0
"""Seconds of a life, on a machine that comes to nothing."""
LONGEST_START: Final = 300.0
"""Seconds: a machine whose disk others keep busy may stand still for a minute."""
TOKEN: Final = f"tk_{TENANT}_{'5' * 32}"
OPERATOR: Final = """\
providers: {demo: {kind: demo}}
models: {demo: {provider: demo, context_window: 1000000, max_output: 4096}}
default_model: demo
packages: {source: none}
"""
Way = Literal["gateway", "launcher too", "all", "power"]
WAYS: Final[Sequence[Way]] = ("gateway", "gateway", "launcher too", "all", "power", "power", "power")
POINTS: Final[Sequence[tuple[Call, str]]] = (
    ("sync", "/audit/"), ("rename", "audit/head.json"), ("rename", "audit-mark.json"), ("sync", ".journal"),
    ("unlink", ".journal"), ("write", "ledger.sqlite"), ("sync", "ledger.sqlite"), ("sync", "/sessions/"),
    ("rename", "/sessions/"), ("unlink", "/sessions/"), ("sync", "cron.sqlite"), ("write", "cron.sqlite"),
    ("sync", "/memory/"), ("rename", "tokens.json"), ("sync", "/credentials/"), ("rename", ".sealed"),
    ("rename", "config.yaml"), ("sync", "/tenants.d"), ("rename", "/tenants.d/"), ("unlink", "/tenants.d/"),
    ("rename", "/.git/"), ("unlink", "/.git/"), ("write", "/.git/"), ("sync", "/state/"), ("rename", "/state/"),
)  # fmt: skip
"""Calls at which a gateway, or the git that it started, is killed."""


@dataclass(slots=True)
class Figures:
    """What a run came to."""

    seed: str
    deaths: int = 0
    ways: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    acknowledged: int = 0
    starts: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, other: "Figures") -> None:
        """Take what another run came to."""
        self.deaths += other.deaths
        self.ways += other.ways
        self.points += other.points
        self.asked += other.asked
        self.acknowledged += other.acknowledged
        self.starts += other.starts
        self.problems += other.problems


def declare(gateway: GatewayProcess) -> None:
    """A tenant that works, two that are changed, in git."""
    top = gateway.tenants_dir
    top.mkdir(parents=True)
    (top / "_gateway.yaml").write_text(OPERATOR)
    (top / "_rate-card.yaml").write_text("markup: 1.20\nmodels: {demo: {input: 1.00, output: 2.00}}\n")
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    (top / f"{TENANT}.yaml").write_text(f"tokens: [{{name: ci, sha256: {digest}}}]\n")
    for name in OTHERS:
        (top / f"{name}.yaml").write_text("quotas:\n  requests_per_second: 1000\n")
    commit(top)


def commit(top: Path) -> None:
    """Make ``top`` a git work tree with all that is in it committed."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(top)]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "begin"]):
        subprocess.run([*git, *words], check=True)


@dataclass
class Life:
    """One state directory, and the gateways that live and die on it."""

    home: Path
    seed: str
    figures: Figures
    faulty: bool = True
    """Whether it is on the faulty disk."""
    descriptors: int = 0
    """How many the gateway may have; 0 is as many as this process."""
    group: Path | None = None
    """The cgroup that is delegated to the gateway."""
    declares: Callable[[GatewayProcess], None] = declare
    """Lays out tenants.d."""
    disk: FaultyDisk = field(init=False)
    gateway: GatewayProcess = field(init=False)
    truth: Truth = field(default_factory=Truth)
    outlived: dict[int, str] = field(default_factory=dict)
    """Who was still in the group of the gateway that died last."""

    def __post_init__(self) -> None:
        root = self.home / "home"
        root.mkdir()
        root.chmod(0o755)
        self.disk = FaultyDisk(root, self.home / "store")
        self.gateway = GatewayProcess(home=root, args=("--trial",), env=self.disk.env if self.faulty else {})
        if self.descriptors:
            limited = f'ulimit -n {self.descriptors}; exec "$0" "$@"'
            self.gateway.program = ("sh", "-c", limited, *self.gateway.program)
        if self.group is not None:
            joined = f'echo $$ > {self.group}/cgroup.procs && exec "$0" "$@"'
            self.gateway.program = ("sh", "-c", joined, *self.gateway.program)
        self.declares(self.gateway)
        self.disk.sync()

    def live(self, deaths: int) -> None:
        """Be born, work, die and be looked at, so many times."""
        chance = random.Random(self.seed)  # noqa: S311 - the same for the same seed
        self.start()
        for number in range(deaths):
            before = len(self.figures.problems)
            self.die(chance, number)
            if len(self.figures.problems) > before:
                break
        self.figures.asked += self.truth.asked()
        self.figures.acknowledged += self.truth.acknowledged()

    def start(self) -> None:
        """Start the gateway, until it is ready."""
        began = time.monotonic()
        self.gateway.start(wait=LONGEST_START)
        self.figures.starts.append(time.monotonic() - began)

    def die(self, chance: random.Random, number: int) -> None:
        """One round."""
        way, seed = chance.choice(WAYS), f"{self.seed}.{number}"
        point = chance.choice(POINTS) if chance.random() < 0.6 else None
        told, times, after = chance.randint(1, 90), chance.randint(1, 12), chance.random() < 0.5
        mix = Mix(self.gateway, self.truth, seed.replace(".", "-"), TOKEN)
        process = self.gateway.process
        assert process is not None
        if point is not None:
            self.disk.kill_at(process.pid, point[0], path=point[1], after=after, time=times)

        async def until_dead() -> None:
            end, enough = time.monotonic() + LONGEST, self.truth.acknowledged() + told
            while self.truth.acknowledged() < enough and time.monotonic() < end and process.poll() is None:
                await asyncio.sleep(0.002)
            self.kill(way)

        name = (
            f"{way}, {'after' if after else 'before'} {point[0]} {point[1]}" if point else f"{way}, after {told} told"
        )
        try:
            asyncio.run(mix.run(until_dead))
            if self.disk.killed and point is not None:
                self.figures.points[f"{'after' if after else 'before'} {point[0]} {point[1]}"] += 1
            self.disk.heal()
            if way == "power":
                self.disk.power_cut()
            self.start()
            problems = [*Checks(self.gateway, self.truth, TOKEN).all(), *self.groups_left()]
        except Exception as error:  # noqa: BLE001 - any is a finding of this round
            problems = [f"{type(error).__name__}: {error}"[:4000]]
        self.figures.deaths += 1
        self.figures.ways[way] += 1
        self.figures.problems += [f"[{seed}: {name}] {problem}" for problem in problems]

    def kill(self, way: Way) -> None:
        """End the gateway, and wait until nothing of it is there any more."""
        process = self.gateway.process
        assert process is not None
        family = descendants(process.pid)
        # Whoever is stopped cannot start another while it is looked at.
        process.send_signal(signal.SIGSTOP) if process.poll() is None else None
        family |= descendants(process.pid)
        process.kill()
        if way == "launcher too":
            end({pid: began for pid, began in family.items() if "carrel.sandbox.launcher" in command(pid)})
        if way in ("all", "power"):
            end(family)
        process.wait(PATIENCE)
        if not until(lambda: not alive(family), seconds=30):
            left = [f"{pid} {command(pid)}" for pid in alive(family)]
            self.figures.problems.append(f"processes are left: {left}")
            end(family)
        # Also such as are nobody's children: a sandbox that was being made may wait for ever, having run nothing.
        self.outlived = {pid: began(pid) for pid in within(self.group)}

    def groups_left(self, seconds: float = 60.0) -> list[str]:
        """Which groups of sandboxes have nobody in them: a reserve that waits for the next command is in its own."""
        if self.group is None:
            return []
        tenants = self.group / TENANTS
        if not until(lambda: not alive(self.outlived), seconds=seconds):
            return [f"processes outlive the next start: {[command(pid) for pid in alive(self.outlived)]}"]
        gone = until(lambda: tenants.is_dir() and not empty_beneath(tenants), seconds=seconds)
        return [] if gone else [f"cgroups are left: {empty_beneath(tenants)}"]

    def close(self) -> int:
        """Stop it as one stops a gateway; its status, 0 where it was dead."""
        process = self.gateway.process
        return self.gateway.stop() if process is not None and process.poll() is None else 0


def began(pid: int) -> str:
    """When a process was begun: with it a number is known to be the same process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def command(pid: int) -> str:
    """A process' command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def descendants(pid: int) -> dict[int, str]:
    """All below ``pid``, with when they were begun."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            below.setdefault(parent, []).append(int(entry.name))
    found, todo = {}, [pid]
    while todo:
        for child in below.get(todo.pop(), []):
            found[child] = began(child)
            todo.append(child)
    return found


def alive(family: dict[int, str]) -> list[int]:
    """Those of ``family`` that still are; one that only waits to be counted is not."""
    return [pid for pid, when in family.items() if when and began(pid) == when and not _dead(pid)]


def _dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except (OSError, IndexError):
        return True


def end(family: dict[int, str]) -> None:
    """SIGKILL to those that still are."""
    for pid in alive(family):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def empty_beneath(group: Path) -> list[str]:
    """The groups in ``group`` that nobody is in."""
    found: list[str] = []
    # A group that goes away while it is walked through is left alone by this, and no error.
    for directory, _, files in os.walk(group):
        events = Path(directory, "cgroup.events")
        with contextlib.suppress(OSError):
            if events.parent != group and events.name in files and "populated 0" in events.read_text():
                found.append(str(events.parent.relative_to(group)))
    return found


def within(group: Path | None) -> list[int]:
    """The processes in ``group`` and in groups beneath it."""
    found: list[int] = []
    # As above: groups go away meanwhile, those of a launcher that outlives its gateway for a moment.
    for directory, _, files in os.walk(group) if group is not None else ():
        with contextlib.suppress(OSError):
            if "cgroup.procs" in files:
                found += map(int, Path(directory, "cgroup.procs").read_text().split())
    return found


@contextmanager
def delegated() -> Iterator[Path | None]:
    """A cgroup for a gateway that root starts; None for anybody else, who cannot make one."""
    if os.geteuid() != 0:
        yield None
        return
    with subtree(gateways_uid()) as group:
        yield group


def gateways_uid() -> int:
    """Whom a gateway that root starts on declarations of root's becomes."""
    return identity(Path("/nowhere"), os.environ).uid


@contextmanager
def life(seed: str, figures: Figures) -> Iterator[Life]:
    """A new state directory, and a cgroup of the gateway's own."""
    with reachable() as home, delegated() as group:
        one = Life(home, seed, figures, group=group)
        before = mounts(home)
        try:
            yield one
            ended = one.close()
            if ended:
                figures.problems.append(f"[{seed}] ended with {ended}")
            left = [line for line in mounts(home) if line not in before]
            if left:
                figures.problems.append(f"[{seed}] mounts are left: {left}")
        finally:
            one.close()


def run(seed: str, deaths: int) -> Figures:
    """So many deaths of one state directory."""
    figures = Figures(seed)
    with life(seed, figures) as one:
        one.live(deaths)
        if figures.problems:
            words = [line for line in one.gateway.output if "event=request" not in line]
            figures.problems.append("the gateway's last words: " + "".join(words)[-3000:])
    return figures


def say(line: str) -> None:
    """One line for whoever waits."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """The long run."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--deaths", type=int, default=1000)
    words.add_argument("--seed", default="1")
    words.add_argument("--first", type=int, default=0)
    words.add_argument("--side-by-side", type=int, default=2)
    told = words.parse_args()
    total = Figures(told.seed)
    seeds = [f"{told.seed}.{number}" for number in range(told.first, told.first + -(-told.deaths // DEATHS_OF_ONE))]
    with ProcessPoolExecutor(told.side_by_side) as pool:
        for found in pool.map(run, seeds, [min(DEATHS_OF_ONE, told.deaths)] * len(seeds)):
            total.add(found)
            say(f"{found.seed}: {found.deaths} deaths, {found.acknowledged} of {found.asked} told")
            for problem in found.problems:
                say(f"  {problem}")
    starts = sorted(total.starts)
    shown = {name: getattr(total, name) for name in ("seed", "deaths", "ways", "points", "asked", "acknowledged")}
    shown |= {
        "problems": len(total.problems),
        "starts": {"median": starts[len(starts) // 2], "most": starts[-1], "count": len(starts)},
    }
    say(json.dumps(shown, indent=1))
    return 1 if total.problems else 0


if __name__ == "__main__":
    sys.exit(main())
