"""A directory and bytes in memory are judged alike."""

from pathlib import Path

import pytest

from carrel.declare.directory import MAX_TENANT_BYTES, Refused
from carrel.declare.load import load_files, load_tree
from carrel.declare.source import InMemory, OnDisk
from tests.fakes.declarations import declare


def bytes_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize(
    "text", ["plan: pro\n", "plan: nope\n", "plan: pro\nplan: pro\n", "a: [\n", "display_name: !x y\n", ""]
)
def test_what_is_said_of_a_directory_is_said_of_its_bytes(tmp_path: Path, text: str) -> None:
    path = declare(tmp_path / "d", acme=text, other="plan: starter\n")
    (path / "_gatway.yaml").write_text("")
    (path / "Bad.yaml").write_text("")
    (path / "notes.txt").write_text("not a declaration")
    on_disk, in_memory = load_tree(path), load_files(bytes_of(path))
    assert in_memory.problems == on_disk.problems
    assert {t: j.revision for t, j in in_memory.tenants.items()} == {t: j.revision for t, j in on_disk.tenants.items()}
    assert len(on_disk.problems) >= 2


def test_the_limits_hold_for_both(tmp_path: Path) -> None:
    large = b"#" * (MAX_TENANT_BYTES + 1)
    (tmp_path / "acme.yaml").write_bytes(large)
    for source in (OnDisk(tmp_path), InMemory({"acme.yaml": large})):
        with pytest.raises(Refused, match="over 256 KiB"):
            source.read("acme.yaml")


def test_what_is_missing_is_missing_in_both(tmp_path: Path) -> None:
    for source in (OnDisk(tmp_path), InMemory({})):
        assert source.scan() == {}
        with pytest.raises(FileNotFoundError):
            source.read("acme.yaml")
        with pytest.raises(FileNotFoundError):
            source.signature("acme.yaml")
