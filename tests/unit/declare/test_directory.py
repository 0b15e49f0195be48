import os
import socket
from pathlib import Path

import pytest

from carrel.declare.directory import (
    MAX_OPERATOR_BYTES,
    MAX_TENANT_BYTES,
    DirectoryUnreadable,
    Refused,
    counts,
    misnamed,
    read,
    scan,
    tenant_of,
)


@pytest.mark.parametrize(
    "name",
    [".acme.yaml.swp", ".#acme.yaml", "#acme.yaml#", "acme.yaml~", "4913", "README.md", "acme.yaml.orig", ".x.yaml"],
)
def test_what_editors_leave_does_not_count(name: str) -> None:
    assert not counts(name)


def test_declarations_count() -> None:
    assert all(counts(name) for name in ("acme.yaml", "_gateway.yaml", "acme.yml"))


def test_names_are_judged() -> None:
    assert misnamed("acme.yaml") is None
    assert misnamed("_plans.yaml") is None
    assert "rename it to acme.yaml" in (misnamed("acme.yml") or "")
    assert "did you mean _gateway.yaml?" in (misnamed("_gatway.yaml") or "")
    assert "no tenant id" in (misnamed("Acme.yaml") or "")
    assert tenant_of("acme.yaml") == "acme"
    assert tenant_of("Acme.yaml") is None


def test_a_scan_sees_changes(tmp_path: Path) -> None:
    file = tmp_path / "acme.yaml"
    file.write_text("a")
    (tmp_path / "notes.txt").write_text("x")
    before = scan(tmp_path)
    assert list(before) == ["acme.yaml"]
    assert scan(tmp_path) == before
    file.write_text("ab")
    assert scan(tmp_path) != before


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DirectoryUnreadable):
        scan(tmp_path / "nope")


def test_a_plain_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_bytes(b"x" * MAX_TENANT_BYTES)
    content = read(tmp_path, "acme.yaml")
    assert len(content.data) == MAX_TENANT_BYTES
    assert len(content.digest) == 64
    assert scan(tmp_path)["acme.yaml"] == content.signature


def test_links_fifos_sockets_directories_and_large_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    (tmp_path / "link.yaml").symlink_to("target")
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "directory.yaml").mkdir()
    (tmp_path / "large.yaml").write_bytes(b"x" * (MAX_TENANT_BYTES + 1))
    (tmp_path / "_gateway.yaml").write_bytes(b"x" * (MAX_OPERATOR_BYTES + 1))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.yaml"))
        for name in ("link", "fifo", "directory", "large", "_gateway", "socket"):
            with pytest.raises(Refused):
                read(tmp_path, f"{name}.yaml")
    with pytest.raises(FileNotFoundError):
        read(tmp_path, "nope.yaml")
