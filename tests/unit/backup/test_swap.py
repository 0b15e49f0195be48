"""In one step into the live directory's place, and back."""

from pathlib import Path

import pytest

from carrel.backup import swap
from carrel.errors import Conflict, NotFound
from carrel.ids import TenantId

ACME = TenantId("acme")


def laid(home: Path, text: str) -> None:
    swap.staged(home, ACME).mkdir(parents=True)
    (swap.staged(home, ACME) / "file").write_text(text)


def test_there_confirmed_and_back(tmp_path: Path) -> None:
    laid(tmp_path, "one")
    assert not swap.swap_in(tmp_path, ACME)
    assert (tmp_path / "acme/file").read_text() == "one"
    laid(tmp_path, "two")
    assert swap.swap_in(tmp_path, ACME)
    assert (tmp_path / "acme/file").read_text() == "two"
    laid(tmp_path, "three")
    with pytest.raises(Conflict):
        swap.swap_in(tmp_path, ACME)
    swap.undo(tmp_path, ACME)
    assert (tmp_path / "acme/file").read_text() == "one"
    assert swap.swap_in(tmp_path, ACME)
    swap.confirm(tmp_path, ACME)
    assert [path.name for path in tmp_path.iterdir()] == ["acme"]
    assert (tmp_path / "acme/file").read_text() == "three"
    for work in (swap.undo, swap.confirm):
        with pytest.raises(NotFound):
            work(tmp_path, ACME)


def test_directories_without_a_file_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "acme/sessions").mkdir(parents=True)
    assert swap.is_empty(tmp_path, ACME)
    assert swap.is_empty(tmp_path, TenantId("none"))
    laid(tmp_path, "one")
    assert not swap.swap_in(tmp_path, ACME)
    assert not swap.is_empty(tmp_path, ACME)


def test_what_killed_restores_left_goes_and_nothing_else(tmp_path: Path) -> None:
    for name in (".acme.restore", ".acme.before", ".other-thing.restore.x", "acme", "..restore"):
        (tmp_path / name).mkdir()
    swap.clear_staged(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".acme.before", ".other-thing.restore.x", "acme", "..restore"}
    swap.clear_staged(tmp_path / "none")
