"""A gateway that starts, or ends, on a disk that takes nothing: it says so in one line, and loses nothing.

What is asserted here is the table in docs/explanation/faults.md.
"""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.sandboxed import reachable
from tests.system.faults.deaths import TOKEN, Figures, Life


@pytest.fixture
def life() -> Iterator[Life]:
    """A gateway whose state directory is a small disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    with reachable() as home:
        one = Life(home, "ends", Figures("ends"))
        state = one.gateway.state_dir
        state.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m,mode=0700", "none", str(state)], check=True)
        try:
            yield one
            assert one.close() == 0
        finally:
            one.close()
            subprocess.run(["umount", "--lazy", str(state)], check=True)


def fill(life: Life) -> Path:
    """Leave no room on its disk; the file that takes it."""
    ballast = life.gateway.state_dir / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return ballast


def remembers(life: Life) -> bool:
    """Whether what was acknowledged is there."""
    return "blue whales" in str(life.gateway.rpc("memory.search", {"query": "whales"}, token=TOKEN))


def refused(life: Life) -> str:
    """What a start that is refused says last."""
    said = len(life.gateway.output)
    with pytest.raises(AssertionError, match="the gateway ended with 1"):
        life.start()
    told = "".join(life.gateway.output[said:])
    assert "Traceback" not in told, told
    return told.splitlines()[-1]


def test_a_start_on_a_full_disk(life: Life) -> None:
    life.start()
    assert "id" in life.gateway.rpc("memory.add", {"text": "blue whales sing"}, token=TOKEN)
    assert life.close() == 0
    ballast = fill(life)
    for _ in range(2):
        told = refused(life)
        assert told.startswith("carrel: The disk is full: "), told
        assert f"Make room where the state directory is ({life.gateway.state_dir})" in told
    ballast.unlink()
    life.start()
    assert remembers(life)


def test_a_death_on_a_full_disk(life: Life) -> None:
    life.start()
    assert "id" in life.gateway.rpc("memory.add", {"text": "blue whales sing"}, token=TOKEN)
    ballast = fill(life)
    refused = life.gateway.rpc("memory.add", {"text": "more"}, token=TOKEN)
    assert refused["data"]["code"] == "storage_full", refused
    life.kill("all")
    ballast.unlink()
    life.start()
    assert remembers(life)
    assert life.gateway.cli("audit", "verify").returncode == 0


def test_a_start_on_a_disk_that_is_read_only(life: Life) -> None:
    life.start()
    assert "id" in life.gateway.rpc("memory.add", {"text": "blue whales sing"}, token=TOKEN)
    assert life.close() == 0
    subprocess.run(["mount", "-o", "remount,ro", str(life.gateway.state_dir)], check=True)
    try:
        told = refused(life)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(life.gateway.state_dir)], check=True)
    assert told.startswith("carrel: The disk fails (Read-only file system): "), told
    assert f"Look after the disk of the state directory ({life.gateway.state_dir})" in told
    life.start()
    assert remembers(life)


def test_a_stop_on_a_disk_that_is_read_only(life: Life) -> None:
    life.start()
    assert "id" in life.gateway.rpc("memory.add", {"text": "blue whales sing"}, token=TOKEN)
    life.disk.fail(errno.EROFS, "write", "sync", "rename", "unlink")
    assert life.close() == 0, life.gateway.text
    life.disk.heal()
    assert "Traceback" not in life.gateway.text
    life.start()
    assert remembers(life)
