"""The probe tells what does not hold, where nothing holds."""

from pathlib import Path

from carrel.sandbox import probe


def test_outside_a_sandbox_it_finds_much() -> None:
    found = " ".join(probe.findings())
    assert "filters are not in force" in found
    assert "processes of the host" in found


def test_what_can_be_written_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert probe.writable(str(file))
    assert probe.writable(str(tmp_path))
    assert not probe.writable(str(tmp_path / "none" / "file"))
