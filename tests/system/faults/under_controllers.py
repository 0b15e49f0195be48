"""A sandbox over the memory that its cgroup has: run by `test_memory` in a kernel that has all controllers."""

import asyncio
import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.fakes.groups import subtree
from tests.fakes.sandboxed import reachable
from tests.system.faults.deaths import OPERATOR, TOKEN, Figures, Life, declare, gateways_uid
from tests.system.faults.mix import OTHERS

LIMIT = 96 << 20
CROWD = "run: for n in 1 2 3 4; do python3 -I -S -c 'import time; x = bytearray(40 << 20); time.sleep(60)' & done; wait"
"""Each is within what a process may have; together they are over the sandbox's."""


@pytest.fixture
def machine() -> None:
    """This kernel's own loopback, and a place for temporary files, for it reads the host's disk alone."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777", "none", "/var/tmp"], check=True)


@pytest.fixture
def life(machine: None) -> Iterator[Life]:
    with reachable() as home, subtree(gateways_uid()) as group:
        one = Life(home, "memory", Figures("memory"), faulty=False, group=group, declares=declare)
        operator = one.gateway.tenants_dir / "_gateway.yaml"
        operator.write_text(f"{OPERATOR}defaults: {{sandbox: {{memory_bytes: {LIMIT}}}}}\n")
        try:
            one.start()
            yield one
            assert one.close() == 0
        finally:
            one.close()


def test_a_sandbox_that_its_cgroup_ends_is_told_and_nobody_else_notices(life: Life) -> None:
    issued = life.gateway.cli("tenants", "token", "issue", OTHERS[0], "--json")
    assert issued.returncode == 0, issued.stderr
    neighbour = json.loads(issued.stdout)["token"]

    def say(message: str, token: str = TOKEN) -> str:
        told = life.gateway.rpc("sessions.send", {"message": message}, token=token)
        return str(told.get("text", told))

    async def both() -> tuple[str, list[str]]:
        crowd = asyncio.ensure_future(asyncio.to_thread(say, CROWD))
        beside: list[str] = []
        while not crowd.done() or not beside:
            beside.append(await asyncio.to_thread(say, "run: echo fine", neighbour))
        return await crowd, beside

    told, beside = asyncio.run(both())
    assert "it was over its 96 MiB of memory" in told, told
    assert "sandbox.memory_bytes" in told
    assert all("fine" in answer for answer in beside), beside
    assert "fits" in say("run: echo fits")
    assert life.groups_left() == []
