"""Runtimes are found by their class, and one that is not there is never another."""

from pathlib import Path

import pytest

from carrel.errors import SandboxUnavailable
from carrel.sandbox.oci import runtimes


def test_a_class_is_a_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("crun", "runc", "runsc", "kata-runtime", "youki"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {name: runtimes.find(name) for name in ("crun", "runc", "runsc", "gvisor", "kata", "youki")}
    assert found["gvisor"].program == found["runsc"].program == f"{tmp_path}/runsc"
    assert found["kata"].program == f"{tmp_path}/kata-runtime"
    assert [found[name].uid for name in ("crun", "runc", "youki")] == [1000, 0, 0]
    assert [name for name, one in found.items() if one.own_kernel] == ["runsc", "gvisor", "kata"]
    assert found["youki"].options == ()


def test_one_that_is_not_there_is_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxUnavailable, match=r"'kata-runtime' is not installed.*install it"):
        runtimes.find("kata")


def test_one_outside_of_the_gateways_path_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert runtimes.find("runc").program in ("/usr/sbin/runc", "/usr/bin/runc")
