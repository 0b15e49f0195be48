"""Each fault that a machine may have is found, and none where there is none."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from carrel.cli import machine
from carrel.cli.findings import Finding
from carrel.sandbox.protocol import Confinement
from carrel.sandbox.runner import BwrapSandbox


def test_an_old_kernel() -> None:
    assert machine.kernel("5.13.0-1").state == "fault"
    assert machine.kernel("5.14").state == machine.kernel("6.18.44-fc").state == "ok"


def test_openat2_works_here_and_is_missed_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.opening().state == "ok"
    monkeypatch.setattr("carrel.tenancy.paths.open_beneath", _refused)
    assert machine.opening().state == "fault"


def _refused(*_: object) -> int:
    raise OSError(38, "Function not implemented")


def test_namespaces_that_the_system_forbids(tmp_path: Path) -> None:
    def found(*, holds: bool = False) -> list[Finding]:
        return list(machine.namespaces(tmp_path, holds=holds))

    (tmp_path / "kernel").mkdir()
    (tmp_path / "user").mkdir()
    assert [finding.state for finding in found()] == ["ok"]
    (tmp_path / "kernel" / "unprivileged_userns_clone").write_text("0\n")
    (tmp_path / "kernel" / "apparmor_restrict_unprivileged_userns").write_text("1\n")
    (tmp_path / "user" / "max_user_namespaces").write_text("0\n")
    assert [finding.state for finding in found()] == ["fault", "fault", "warning"]
    mends = [finding.mend for finding in found()]
    assert mends[0].startswith("sysctl -w kernel.unprivileged_userns_clone=1,")
    assert mends[1].startswith("sysctl -w user.max_user_namespaces=15000,")
    assert mends[2].startswith("an AppArmor profile for bwrap that allows `userns`, or sysctl -w")
    assert [finding.state for finding in found(holds=True)] == ["ok"]


def test_a_kernel_that_cannot_filter_system_calls(tmp_path: Path) -> None:
    missing = machine.filters(tmp_path, holds=False)
    assert (missing.state, "allow, errno, kill_process" in missing.text) == ("fault", True)
    assert "CONFIG_SECCOMP_FILTER" in missing.mend
    (tmp_path / "kernel" / "seccomp").mkdir(parents=True)
    (tmp_path / "kernel" / "seccomp" / "actions_avail").write_text("kill_process kill_thread errno allow\n")
    assert machine.filters(tmp_path, holds=False).state == "ok"
    assert machine.filters(tmp_path / "none", holds=True).state == "ok"


def test_cgroups_that_are_delegated_and_that_are_not(tmp_path: Path) -> None:
    group = tmp_path / "tree" / "ours"
    group.mkdir(parents=True)
    (tmp_path / "cgroup").write_text("0::/ours\n")
    (tmp_path / "mountinfo").write_text(f"1 1 0:1 / {tmp_path}/tree rw - cgroup2 cgroup2 rw\n")
    found = machine.cgroups(tmp_path)
    assert found.state == "warning"
    assert "this process's cgroup is not delegated to it." in found.text
    assert "Delegate=yes" in found.mend
    (tmp_path / "cgroup").write_text("3:memory:/old\n")
    assert "no cgroup v2 hierarchy" in machine.cgroups(tmp_path).text
    assert machine.cgroups(tmp_path / "none").state == "warning"


def test_no_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = machine.tried()
    assert (found.state, "bubblewrap is missing" in found.text) == ("fault", True)


@pytest.mark.parametrize(
    ("uid", "check", "state"),
    [
        (1000, None, "ok"),
        (0, None, "ok"),
        (1000, "bwrap: Creating new namespace failed: Permission denied", "fault"),
        (0, "bwrap: Can't find source path /srv/x: Permission denied", "warning"),
        (0, "seccomp does not hold", "fault"),
    ],
)
def test_what_the_sandbox_itself_found(
    monkeypatch: pytest.MonkeyPatch, uid: int, check: str | None, state: str
) -> None:
    async def checked(self: BwrapSandbox, confinement: Confinement | None = None) -> str | None:
        return check

    monkeypatch.setattr(BwrapSandbox, "check", checked)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert machine.tried().state == state


def test_runtimes_that_modes_name_and_that_do_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    async def checked(self: BwrapSandbox, confinement: Confinement | None = None) -> str | None:
        return None if confinement == Confinement("oci", "crun") else "it is not installed"

    monkeypatch.setattr(BwrapSandbox, "check", checked)
    found = {
        one.what: one
        for one in machine.runtimes([Confinement("oci", name) for name in ("kata", "runsc")], {"runsc": None})
    }
    assert {what: one.state for what, one in found.items()} == {
        "runtime kata": "fault", "runtime runsc": "ok", "runtime crun": "ok", "runtime runc": "ok",
        "runtime podman with crun": "ok",
    }  # fmt: skip
    assert "would run nothing: it is not installed" in found["runtime runc"].text
    assert "`runtime_class`" in found["runtime kata"].mend


def test_a_state_directory_that_is_open_or_not_there(tmp_path: Path) -> None:
    def states(path: Path) -> list[str]:
        return [finding.state for finding in machine.state(path)]

    tmp_path.chmod(0o755)
    assert states(tmp_path)[0] == "fault"
    tmp_path.chmod(0o700)
    assert states(tmp_path)[0] == "ok"
    assert states(tmp_path / "none") == ["ok"]
    (tmp_path / "file").touch()
    assert states(tmp_path / "file" / "none") == ["warning"]


@pytest.mark.parametrize(
    ("blocks", "inodes", "state"),
    [(1 << 30, 1 << 20, "ok"), (1 << 17, 1 << 20, "warning"), (1 << 10, 1 << 20, "fault"), (1 << 30, 9, "fault")],
)
def test_a_disk_that_fills(tmp_path: Path, blocks: int, inodes: int, state: str) -> None:
    found = os.statvfs_result((4096, 4096, 1 << 31, blocks, blocks, 1 << 21, inodes, inodes, 0, 255))
    assert machine.room(tmp_path, found).state == state


def test_a_disk_that_counts_no_inodes(tmp_path: Path) -> None:
    found = os.statvfs_result((4096, 4096, 1 << 31, 1 << 30, 1 << 30, 0, 0, 0, 0, 255))
    assert machine.room(tmp_path, found).state == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_a_state_directory_that_takes_no_writes_is_a_fault(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "none", str(tmp_path)], check=True)
    try:
        assert [one.state for one in machine.state(tmp_path) if one.what == "disk"] != ["fault"]
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        found = next(one for one in machine.state(tmp_path) if one.what == "disk")
        assert found.state == "fault"
        assert "takes no writes (Read-only file system)" in found.text
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_clock_that_cannot_be_right(tmp_path: Path) -> None:
    assert machine.clock(0).state == "fault"
    assert machine.clock(2_000_000_000).state == "ok"
    assert machine.newest(tmp_path / "none") == 0
    written = tmp_path / "2033-05-18.jsonl"
    written.touch()
    os.utime(written, (2_000_000_000, 2_000_000_000))
    assert machine.clock(1_999_999_000, machine.newest(tmp_path)).state == "fault"
    assert machine.clock(2_000_000_001, machine.newest(tmp_path)).state == "ok"


@pytest.mark.parametrize(
    ("says", "state"),
    [("bubblewrap 0.8.0", "ok"), ("bubblewrap 0.11.1", "ok"), ("bubblewrap 0.4.1", "fault"), ("", "fault")],
)
def test_a_bubblewrap_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, state: str) -> None:
    (tmp_path / "bwrap").write_text(f"#!/bin/sh\necho {says}\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = machine.bubblewrap()
    assert (found.what, found.state) == ("bubblewrap", state), found.text
    assert state == "ok" or str(tmp_path / "bwrap") in found.mend
    monkeypatch.setenv("PATH", "/nowhere")
    assert list(machine.bubblewrap()) == [], "that it is missing is said of the sandbox"


@pytest.mark.parametrize(("limit", "state"), [(512, "fault"), (4096, "warning"), (524_288, "ok")])
def test_how_many_files_may_be_open(limit: int, state: str) -> None:
    assert machine.files(limit).state == state


def test_the_launchers_socket(tmp_path: Path) -> None:
    path = tmp_path / "launcher.sock"

    def found() -> tuple[str, str]:
        one = machine.launcher(path, Path("/proc/net/unix").read_text())
        return one.state, one.text

    assert found()[0] == "fault"
    path.write_text("")
    assert "is no socket" in found()[1]
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        assert found()[0] == "ok"
    assert (found()[0], "Nothing listens" in found()[1]) == ("fault", True)
