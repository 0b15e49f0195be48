"""Faults that a gateway outlives: what its users are told meanwhile, and that all is whole once the fault is gone.

What is asserted here is the table in docs/explanation/faults.md.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.patience import PATIENCE, until
from tests.fakes.sandboxed import reachable
from tests.system.faults.checks import Checks
from tests.system.faults.deaths import TOKEN, Figures, Life
from tests.system.faults.mix import Mix, Refused

DAY = 86_400.0
DESCRIPTORS = 256
ENOUGH = 12
"""How often something is refused, or something done, before a fault has shown what it does."""


@dataclass
class Patient:
    """One gateway that all these faults come over, one after the other."""

    life: Life
    count: int = 0
    ahead: float = 0.0

    def work(self, *, refused: int = 0, done: int = 0) -> list[Refused]:
        """Work until so much was refused and so much done; what was refused."""
        self.count += 1
        truth = self.life.truth
        mix = Mix(self.life.gateway, truth, f"f{self.count}", TOKEN, tolerant=True, ahead=self.ahead)
        goal = truth.acknowledged() + done

        async def enough() -> None:
            async with asyncio.timeout(PATIENCE):
                while len(mix.refusals) < refused or truth.acknowledged() < goal:
                    await asyncio.sleep(0.01)

        asyncio.run(mix.run(enough))
        return mix.refusals

    def whole(self) -> None:
        """It works again, by itself and soon, and nothing is lost, doubled or left."""
        assert until(lambda: not self.work(done=ENOUGH)), self.work(done=1)
        found = Checks(self.life.gateway, self.life.truth, TOKEN, failing=True).all()
        assert not found, found

    def codes(self, refusals: list[Refused]) -> set[str]:
        """What was said, in short: the status, and the code in the body."""
        return {refused.code for refused in refusals}


@pytest.fixture(scope="module")
def silent() -> Iterator[socket.socket]:
    """A listener that never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener


@pytest.fixture(scope="module")
def patient(silent: socket.socket) -> Iterator[Patient]:
    with reachable() as home:
        mounted = os.geteuid() == 0
        if mounted:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m,mode=0755", "none", str(home)], check=True)
        life = Life(home, "faults", Figures("faults"), descriptors=DESCRIPTORS)
        _declare_a_silent_provider(life.gateway.tenants_dir, silent.getsockname()[1])
        life.disk.sync()
        try:
            life.start()
            yield Patient(life)
            assert life.close() == 0
        finally:
            life.close()
            if mounted:
                subprocess.run(["umount", "--lazy", str(home)], check=True)


def _declare_a_silent_provider(top: Path, port: int) -> None:
    (top / "_gateway.yaml").write_text(
        "providers:\n  demo: {kind: demo}\n"
        f"  silent: {{kind: openai, base_url: 'http://127.0.0.1:{port}/v1', first_byte_seconds: 1}}\n"
        "models:\n  demo: {provider: demo, context_window: 1000000, max_output: 4096}\n"
        "  silent: {provider: silent, context_window: 1000000, max_output: 4096}\n"
        "default_model: demo\npackages: {source: none}\n"
    )
    rates = "markup: 1.20\nmodels: {demo: {input: 1.00, output: 2.00}, silent: {input: 1.00, output: 2.00}}\n"
    (top / "_rate-card.yaml").write_text(rates)
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(top), "commit", "-qam", "s"], check=True
    )


def test_a_disk_that_fails(patient: Patient) -> None:
    patient.life.disk.io_error("sync")
    told = patient.codes(patient.work(refused=ENOUGH))
    patient.life.disk.heal()
    assert told <= {"503 storage_failed", "200 storage_failed"}, told
    patient.whole()


def test_a_disk_that_is_full(patient: Patient) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    ballast = patient.life.home / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    told = patient.codes(patient.work(refused=ENOUGH))
    ballast.unlink()
    assert told <= {"507 storage_full", "200 storage_full"}, told
    patient.whole()


def test_no_descriptors(patient: Patient) -> None:
    idle = [socket.create_connection(("127.0.0.1", patient.life.gateway.port)) for _ in range(DESCRIPTORS)]
    try:
        refusals = patient.work(refused=ENOUGH)
    finally:
        for connection in idle:
            connection.close()
    assert patient.codes(refusals) <= {"0", "503 unavailable", "200 unavailable"}, refusals
    patient.whole()


@pytest.mark.parametrize("days", [2, -3, 0])
def test_a_clock_that_jumps(patient: Patient, days: int) -> None:
    patient.ahead = days * DAY
    patient.life.disk.jump(patient.ahead)
    assert patient.work(done=3 * ENOUGH) == []
    patient.whole()


def test_a_provider_that_hangs(patient: Patient) -> None:
    body = {"model": "silent", "messages": [{"role": "user", "content": "hello"}]}
    with ThreadPoolExecutor(8) as pool:
        ask = partial(patient.life.gateway.request, "POST", "/v1/chat/completions", body, token=TOKEN)
        asked = [pool.submit(ask) for _ in range(8)]
        assert patient.work(done=ENOUGH) == []
        told = {(reply.status, reply.json()["error"]["code"]) for reply in (one.result() for one in asked)}
    assert told <= {(504, "upstream_timeout"), (503, "provider_unavailable")}, told
    patient.whole()


def test_a_sandbox_without_memory(patient: Patient) -> None:
    program = "run: python3 -c 'x = bytearray(1 << 40)'"
    told = patient.life.gateway.rpc("sessions.send", {"message": program}, token=TOKEN)
    assert "MemoryError" in told["text"], told
    patient.whole()
