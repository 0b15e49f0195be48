"""The probe tells what does not hold, where nothing holds."""

import resource
from pathlib import Path

import pytest

from carrel.sandbox import probe


def test_outside_a_sandbox_it_finds_much() -> None:
    found = " ".join(probe.findings())
    assert "filters are not in force" in found
    assert "processes of the host" in found


def test_limits_that_were_not_set_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = dict.fromkeys(range(16), (1, 1)) | {resource.RLIMIT_DATA: (resource.RLIM_INFINITY,) * 2}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    assert "The sandbox has no limit of DATA." in probe.findings()
    limits[resource.RLIMIT_DATA] = (1, 1)
    assert "no limit" not in " ".join(probe.findings())


def test_what_can_be_written_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert probe.writable(str(file))
    assert probe.writable(str(tmp_path))
    assert not probe.writable(str(tmp_path / "none" / "file"))
