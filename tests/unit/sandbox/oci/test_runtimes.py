"""Runtimes are found by their class, and one that is not there is never another."""

from pathlib import Path

import pytest

from carrel.errors import SandboxUnavailable
from carrel.sandbox.oci import runtimes


def test_a_class_is_a_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("crun", "runc", "youki"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {name: runtimes.find(name) for name in ("crun", "runc", "youki")}
    assert [found[name].uid for name in ("crun", "runc", "youki")] == [1000, 0, 0]
    assert [found[name].program for name in found] == [f"{tmp_path}/{name}" for name in found]
    assert found["youki"].options == ()


def test_one_that_is_not_there_is_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxUnavailable, match=r"'youki' is not installed.*install it"):
        runtimes.find("youki")


@pytest.mark.parametrize("name", ["runsc", "gvisor", "kata"])
def test_one_that_would_hold_no_limit_is_not_used(name: str) -> None:
    with pytest.raises(SandboxUnavailable, match=r"a kernel of its own.*nothing is run by another"):
        runtimes.find(name)


def test_one_outside_of_the_gateways_path_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert runtimes.find("runc").program in ("/usr/sbin/runc", "/usr/bin/runc")
