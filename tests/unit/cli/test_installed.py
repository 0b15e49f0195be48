from pathlib import Path

import pytest

from carrel.cli.installed import CannotInstall, install


def test_a_file_is_there_whole_with_its_directories(tmp_path: Path) -> None:
    path = install(tmp_path / "a/b/c", "text\n")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("text\n", 0o644)
    install(path, "other\n")
    assert [one.name for one in path.parent.iterdir()] == ["c"]


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    install(tmp_path / "link", "mine")
    assert ((tmp_path / "precious").read_text(), (tmp_path / "link").is_symlink()) == ("precious", False)


def test_what_stands_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotInstall, match="cannot be written"):
        install(tmp_path / "file" / "below", "text")
