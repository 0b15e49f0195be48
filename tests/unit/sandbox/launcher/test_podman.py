"""podman in the cradle: how it is called, and how a container's first process is known. Runs are in tests/contract."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from carrel.sandbox.launcher.podman import Podman

ORDER: dict[str, Any] = {
    "runtime": "/opt/bin/crun", "uid": 60987,
    "podman": {"program": "/usr/bin/podman", "options": ["--read-only"], "argv": ["/bin/sh"], "environment": "a\nb\n"},
}  # fmt: skip


def made(place: Path) -> Podman:
    return Podman(ORDER, {"podman": ["--cgroups=disabled"]}, place=str(place), root="/root")


def test_everything_of_its_own_is_beneath_the_bundle(tmp_path: Path) -> None:
    arguments, environment = made(tmp_path)._arguments(), made(tmp_path)._environment()
    assert arguments[-3:] == ["--rootfs", "/root", "/bin/sh"]
    assert {"--read-only", "--cgroups=disabled", f"--root={tmp_path}/podman/graph"} <= set(arguments)
    own = {name: value for name, value in environment.items() if name != "PATH" and value.startswith("/")}
    assert own
    assert all(value.startswith(f"{tmp_path}/podman") for value in own.values())
    assert environment["_CONTAINERS_ROOTLESS_UID"] == "60987"


def test_the_first_process_is_known_by_the_kernels_word(tmp_path: Path) -> None:
    podman = made(tmp_path)
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    with ours, theirs:
        place = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 6)]
        child = os.posix_spawn("/bin/sh", ["sh", "-c", "echo >&6"], {}, file_actions=place)
        ours.settimeout(60)
        assert podman.first(ours) == child
        assert os.waitpid(child, 0)[1] == 0
        podman.let_go(ours)
        assert theirs.recv(100) == b"2\na\nb\n"


def test_one_that_never_comes_is_nobody(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    theirs.close()
    with ours:
        assert made(tmp_path).first(ours) is None


@pytest.mark.parametrize("text", ["", "one\n"])
def test_so_many_lines_are_announced(tmp_path: Path, text: str) -> None:
    order = {**ORDER, "podman": {**ORDER["podman"], "environment": text}}
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Podman(order, {"podman": []}, place=str(tmp_path), root="/root").let_go(ours)
        assert theirs.recv(100) == f"{len(text.splitlines())}\n{text}".encode()
