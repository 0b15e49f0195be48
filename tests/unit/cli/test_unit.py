"""The settings of the machine's own unit."""

import os
from pathlib import Path

import pytest

from carrel.cli.unit import host_file


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in systemd's place, which says what is written beside it."""
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\n[ "$4" = carrel.service ] && cat {tmp_path}/said\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


def test_what_the_unit_is_started_with(tmp_path: Path, systemctl: Path) -> None:
    settings = tmp_path / "carrel-host.json"
    start = "{{ path=/bin/carrel ; argv[]=/bin/carrel gateway {words} ; ignore_errors=no ; pid=1 }}"
    for words in (f"--host {settings}", f"--host={settings}"):
        (tmp_path / "said").write_text(start.format(words=words))
        settings.unlink(missing_ok=True)
        assert host_file() is None, "it is not there"
        settings.write_text("{}")
        assert host_file() == settings
    (tmp_path / "said").write_text(start.format(words="--listen 127.0.0.1:1"))
    assert host_file() is None
    (tmp_path / "said").write_text("")
    assert host_file() is None


def test_a_machine_without_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host_file() is None
