"""What a tenant costs whose kept sandbox is suspended: ``python -m tests.bench.idle_workers [--json] [--tenants N]``.

Three gateways with the same declarations are held side by side: one that nobody spoke to, one where every tenant said
something that needs no sandbox, and one where every tenant left a process running in a kept sandbox, which was then
stopped for being idle. What each holds is its proportional share of memory (PSS) with all its descendants.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.fakes.gateway_process import GatewayProcess

SIDE_BY_SIDE: Final = 8
SETTLE_SECONDS: Final = 120.0
OPERATOR: Final = """\
providers: {demo: {kind: demo}}
models:
  demo: {provider: demo, context_window: 32768, max_output: 4096}
default_model: demo
defaults: {sandbox: {keep: true, keep_idle_seconds: 1}}
packages: {source: none}
"""


@dataclass(frozen=True, slots=True)
class Held:
    """What a gateway holds when it rests."""

    what: str
    tenants: int
    processes: int
    gateway_kib: int
    all_kib: int
    kept: int


def token_of(number: int) -> str:
    """A token that the tenant's file declares by its digest."""
    return f"tk_t{number:05}_{number:032x}"


def declare(directory: Path, tenants: int) -> None:
    """Write ``tenants`` of them, each with its token."""
    directory.mkdir(parents=True)
    (directory / "_gateway.yaml").write_text(OPERATOR)
    (directory / "_rate-card.yaml").write_text("markup: 1.20\nmodels: {demo: {input: 1.00, output: 2.00}}\n")
    for number in range(tenants):
        digest = hashlib.sha256(token_of(number).encode()).hexdigest()
        (directory / f"t{number:05}.yaml").write_text(f"tokens: [{{name: ci, sha256: {digest}}}]\n")


def family(pid: int) -> list[int]:
    """A process with all its descendants."""
    told = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(line.split()[0]): int(line.split()[1]) for line in told.splitlines()}
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def share_kib(pid: int) -> int:
    """A process's proportional share of memory."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def measured(what: str, message: str | None, tenants: int, home: Path) -> Held:
    """Start a gateway, let every tenant say ``message``, and look at it when it rests again."""
    declare(home / "tenants.d", tenants)
    gateway = GatewayProcess(home=home).prepare(sample=False).start(wait=120)
    try:
        assert gateway.process is not None
        before = len(family(gateway.process.pid))
        if message is not None:
            with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
                list(pool.map(lambda number: say(gateway, number, message), range(tenants)))
        deadline = time.monotonic() + SETTLE_SECONDS
        while kept(gateway) or len(family(gateway.process.pid)) > before:
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
        pids = family(gateway.process.pid)
        return Held(
            what, tenants, len(pids), share_kib(gateway.process.pid), sum(map(share_kib, pids)), kept(gateway)
        )  # fmt: skip
    finally:
        gateway.stop(wait=60)


def say(gateway: GatewayProcess, number: int, message: str) -> None:
    """One turn of one tenant."""
    body = {"model": "agent:main", "messages": [{"role": "user", "content": message}]}
    answer = gateway.request("POST", "/v1/chat/completions", body, token=token_of(number), timeout=300)
    assert answer.status == 200, answer.body
    assert not message.startswith("run:") or b"exit code 0" in answer.body, answer.body


def kept(gateway: GatewayProcess) -> int:
    """How many sandboxes are kept now."""
    done = gateway.cli("sandboxes", "list", "--json")
    return len(json.loads(done.stdout)["sandboxes"])


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tenants", type=int, default=1000)
    wanted = parser.parse_args()
    contenders = (
        ("nobody said anything", None),
        ("each said something", "hello"),
        ("each left a process in a kept sandbox", "run: echo kept > file; sleep 100000 &"),
    )
    held = []
    for number, (what, message) in enumerate(contenders):
        with tempfile.TemporaryDirectory() as place:
            Path(place).chmod(0o755)
            held.append(measured(what, message, wanted.tenants, Path(place) / str(number)))
    if wanted.json:
        sys.stdout.write(json.dumps([asdict(one) for one in held]) + "\n")
        return
    first, spoken, _ = held
    sys.stdout.write(
        f"{wanted.tenants} tenants; memory is the proportional share, of the gateway and of all processes\n"
    )
    for one in held:
        over = (one.all_kib - first.all_kib) / one.tenants
        more = (one.all_kib - spoken.all_kib) / one.tenants
        sys.stdout.write(
            f"{one.what:40} {one.processes} processes, {one.kept} kept, {one.gateway_kib} / {one.all_kib} KiB, "
            f"{over:7.1f} KiB a tenant over the first, {more:7.1f} over the second\n"
        )


if __name__ == "__main__":
    os.environ.setdefault("NO_COLOR", "1")
    main()
