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
    assert [found[name].family for name in found] == ["crun", "runc", None]


def test_one_is_found_where_it_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "_ANYBODYS", ("/anybodys/",))
    with pytest.raises(SandboxUnavailable, match=r"everybody may write.*/usr/local/bin"):
        runtimes.find("/anybodys/crun")
    program = tmp_path / "hardened"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    found = runtimes.find(str(program))
    assert (found.program, found.family, found.uid) == (str(program), None, 0)
    with pytest.raises(SandboxUnavailable, match=r"/none' is not installed"):
        runtimes.find(str(tmp_path / "none"))


def test_an_engine_that_is_not_there_is_named_with_the_mend() -> None:
    assert runtimes.find("crun", "podman").engine == "/usr/bin/podman"
    with pytest.raises(SandboxUnavailable, match=r"'no-engine' is not installed.*leave out"):
        runtimes.find("crun", "no-engine")


def test_one_that_is_not_there_is_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxUnavailable, match=r"'youki' is not installed.*install it"):
        runtimes.find("youki")


@pytest.mark.parametrize("name", ["kata-runtime", "/opt/kata/bin/kata-runtime", "firecracker", "gvisor"])
def test_no_name_is_refused_but_what_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runtimes, "_ANYBODYS", ())
    path = tmp_path / ("runsc" if name == "gvisor" else Path(name).name)
    called = str(path) if name.startswith("/") else name
    monkeypatch.setattr(runtimes, "_PLACES", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match="is not installed"):
        runtimes.find(called)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    assert runtimes.find(called) == runtimes.Runtime(called, str(path), 0)


def test_one_outside_of_the_gateways_path_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert runtimes.find("runc").program in ("/usr/sbin/runc", "/usr/bin/runc")
