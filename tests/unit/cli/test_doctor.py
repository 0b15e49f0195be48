"""The doctor looks at everything, and its verdict is its exit code."""

from pathlib import Path

import pytest

from tests.fakes.administration import FakeReconciler
from tests.unit.cli.conftest import CommandLine, Serve
from tests.unit.cli.test_installation import STATUS

SAMPLE = Path(__file__).resolve().parents[3] / "tenants.d"
MACHINE = {"kernel", "openat2", "seccomp", "user namespaces", "state", "disk", "clock"}
INSTALLATION = {"vault", "declarations", "git", "packages", "gateway"}


class Told(FakeReconciler):
    """Says that all is well, and that tenants.d is the sample."""

    async def status(self) -> object:
        return STATUS | {"tenants_dir": str(SAMPLE)}


async def test_it_looks_at_everything_and_finds_nothing(carrel: CommandLine, serve: Serve) -> None:
    carrel.state.chmod(0o700)
    async with serve(reconciler=Told()):
        done = await carrel("doctor")
        told = (await carrel("doctor", "--json")).json()
    assert done.code == 0, done.out
    assert f"declarations: 2 tenants in {SAMPLE}" in done.out
    assert done.out.endswith("\nNothing is at fault.\n")
    assert {finding["what"] for finding in told["findings"]} >= MACHINE | INSTALLATION | {"sandbox", "userland"}
    assert told["ok"] is True


async def test_over_the_wire_only_the_gateway_is_looked_at(carrel: CommandLine) -> None:
    key = carrel.state / "key"
    key.write_text("ak_x_" + "0" * 32)
    done = await carrel("doctor", "--url", "http://127.0.0.1:1", "--admin-key-file", str(key), "--json")
    assert [finding["what"] for finding in done.json()["findings"]] == ["gateway"]


async def test_a_fault_is_exit_code_1(carrel: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = await carrel("doctor", str(carrel.state / "nowhere"), "--listen", "127.0.0.1:1")
    assert done.code == 1
    assert "FAULT    declarations: " in done.out
    assert "\n         Name another" in done.out
    assert "FAULT    sandbox: bubblewrap is missing" in done.out
    told = await carrel("doctor", str(carrel.state / "nowhere"), "--json")
    assert (told.code, told.json()["ok"]) == (1, False)
    assert (await carrel("doctor", "--listen", "here")).code == 2
