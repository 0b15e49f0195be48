"""The control socket's place and peers."""

import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from carrel.http.control_socket import ControlSocket, peer_uid


def test_it_replaces_what_was_left_and_goes_when_told(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    ControlSocket(path).bind().close()
    control = ControlSocket(path)
    bound = control.bind()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    bound.close()
    control.remove()
    control.remove()
    assert not path.exists()


def test_it_never_removes_what_is_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    try:
        ControlSocket(path).bind()
    except OSError:
        assert path.read_text() == "precious"
    else:
        raise AssertionError("a file was replaced")


def test_root_the_gateway_and_its_starter_are_admitted(tmp_path: Path) -> None:
    control = ControlSocket(tmp_path / "s", starter_uid=4242)
    assert all(control.admits(uid) for uid in (0, os.getuid(), 4242))
    assert not any(control.admits(uid) for uid in (4243, None, -1))
    assert not ControlSocket(tmp_path / "s").admits(4242)


def test_a_starter_of_another_uid_can_reach_it(tmp_path: Path) -> None:
    control = ControlSocket(tmp_path / "s", starter_uid=4242)
    control.bind().close()
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o666


def test_the_kernel_names_the_peer() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        request: Any = SimpleNamespace(get_extra_info=lambda name: here)
        assert peer_uid(request) == os.getuid()
    nobody: Any = SimpleNamespace(get_extra_info=lambda name: None)
    assert peer_uid(nobody) is None
