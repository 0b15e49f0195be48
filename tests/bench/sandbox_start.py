"""What a sandbox costs: ``python -m tests.bench.sandbox_start [--rounds N] [--json FILE]``.

Side by side, in turns: a program by itself, bubblewrap by itself with the flags of a hardened command line, and a job
through the runner with everything that it adds (launcher, filters, limits, files of /etc, a gate, output read back),
alone, with the closure of 500 paths, and in a cgroup (by root); `python -c pass` by a bare fork, and in a worker. Then
a hundred at once, and how long the event loop was held up while they started.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from carrel.declare.tenant import SandboxConfig
from carrel.sandbox.protocol import Job
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.userland import Mount
from tests.fakes.groups import delegated
from tests.fakes.sandboxed import LAUNCH_UID, USR, reachable, workspace_tenant

BARE: Final = (
    "bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--new-session", "--die-with-parent", "--cap-drop",
    "ALL", "--clearenv", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64",
    "/lib64", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--", "/usr/bin/true",
)  # fmt: skip
PATHS: Final = 500
AT_ONCE: Final = 100
LOOK_SECONDS: Final = 0.001


class OpenGate:
    """A gate with the environment and files of a real one, which nobody comes to."""

    def __init__(self) -> None:
        self.env = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://carrel:secret@127.0.0.1:3128")
        self.files = {"ssl/certs/ca-certificates.crt": b"x" * 220_000}

    async def prepare(self) -> None:
        """It is ready."""

    def follow(self, other: object, /, *, alone: bool) -> None:
        """It is for everybody."""

    async def serve(self, listener: socket.socket) -> None:
        """Wait."""
        await asyncio.Event().wait()


def once(argv: tuple[str, ...]) -> None:
    """Run a program as the sandbox's uid and wait for it."""
    subprocess.run(argv, check=True, user=LAUNCH_UID, group=LAUNCH_UID, extra_groups=[] if LAUNCH_UID else None, env={})


def farm(path: Path) -> Mount:
    """A directory of as many store paths as a large closure has, mounted as one."""
    store = path / "store"
    for number in range(PATHS):
        (store / f"{number:032d}-path" / "bin").mkdir(parents=True)
    for directory in (store, *store.rglob("*")):
        directory.chmod(0o755)
    return Mount(str(store), "/nix/store")


async def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each contender: p50 and p95."""
    taken: dict[str, list[float]] = {}

    async def job(name: str, sandbox: BwrapSandbox, wanted: Job) -> None:
        began = time.perf_counter()
        outcome = await sandbox.run(tenant, wanted)
        taken.setdefault(name, []).append(time.perf_counter() - began)
        assert outcome.exit_code == 0, outcome

    def alone(name: str, argv: tuple[str, ...]) -> None:
        taken.setdefault(name, []).append(timed(lambda: once(argv)))

    with ExitStack() as stack:
        path = stack.enter_context(reachable())
        tenant = workspace_tenant(Path(path))
        runner = BwrapSandbox(launch_uid=LAUNCH_UID, at_once=AT_ONCE)
        plain = Job(("/usr/bin/true",), SandboxConfig(concurrent=AT_ONCE), USR, gate=OpenGate())
        large = replace(plain, userland=replace(USR, mounts=(*USR.mounts, farm(Path(path)))))
        python = ("/usr/bin/python3", "-I", "-S", "-c", "pass")
        worker = replace(plain, argv=python, keep="main")
        order = random.Random(1)  # noqa: S311 - that none always comes after the same other
        grouped = stack.enter_context(delegated()) if os.geteuid() == 0 else None
        in_group = BwrapSandbox(launch_uid=LAUNCH_UID, groups=grouped)
        names = ["program alone", "bubblewrap alone", "a job with a gate", f"a job, {PATHS} paths", "python alone",
                 "python in a worker", *(["a job in a cgroup", "a worker's, in one"] if grouped else [])]  # fmt: skip
        commands = {names[0]: ("/usr/bin/true",), names[1]: BARE, names[4]: python}
        jobs = {names[2]: (runner, plain), names[3]: (runner, large), names[5]: (runner, worker)}
        jobs |= dict(zip(names[6:], ((in_group, plain), (in_group, worker)), strict=False))
        for _ in range(rounds):
            for name in order.sample(names, len(names)):
                if name in commands:
                    alone(name, commands[name])
                else:
                    await job(name, *jobs[name])
        stalls, seconds = await crowd(runner.run, tenant, plain)
        await runner.close()
        await in_group.close()
        tenant.root.close()
    found = {
        name: {"p50_ms": statistics.median(times) * 1e3, "p95_ms": statistics.quantiles(times, n=20)[18] * 1e3}
        for name, times in sorted(taken.items(), key=lambda item: names.index(item[0]))
    }
    found[f"{AT_ONCE} at once, each"] = {"p50_ms": seconds / AT_ONCE * 1e3, "p95_ms": seconds / AT_ONCE * 1e3}
    found["the loop's stall, one start"] = {"p50_ms": stalls[0] * 1e3, "p95_ms": stalls[1] * 1e3}
    return found


async def crowd(run: Callable[..., object], tenant: object, job: Job) -> tuple[tuple[float, float], float]:
    """The loop's stall (p50 and p99) while one is started after the other, and the seconds of a hundred at once."""
    late: list[float] = []
    stop = asyncio.Event()

    async def look() -> None:
        while not stop.is_set():
            began = time.perf_counter()
            await asyncio.sleep(LOOK_SECONDS)
            late.append(max(0.0, time.perf_counter() - began - LOOK_SECONDS))

    looking = asyncio.ensure_future(look())
    for _ in range(AT_ONCE):
        await run(tenant, job)  # type: ignore[misc] # the runner's own
    stop.set()
    await looking
    began = time.perf_counter()
    ended = await asyncio.gather(*(run(tenant, job) for _ in range(AT_ONCE)))  # type: ignore[call-overload]
    seconds = time.perf_counter() - began
    assert all(outcome.exit_code == 0 for outcome in ended)
    return (statistics.median(late), statistics.quantiles(late, n=100)[98]), seconds


def timed(do: Callable[[], None]) -> float:
    """Seconds that ``do`` takes."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    os.environ.setdefault("PATH", os.defpath)
    found = asyncio.run(measure(given.rounds))
    bare = found["bubblewrap alone"]["p50_ms"]
    for name, times in found.items():
        p50, p95 = times["p50_ms"], times["p95_ms"]
        sys.stdout.write(f"{name:28} p50 {p50:6.2f} ms  p95 {p95:6.2f} ms  {p50 / bare:5.2f} x bare\n")
    sys.stdout.write("(of the loop's stall the second figure is the p99)\n")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
