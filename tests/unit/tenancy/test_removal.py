"""What hostile programs left is removed whole, and nothing beside it."""

import os
from pathlib import Path

import pytest

from carrel.errors import CarrelError
from carrel.tenancy.removal import remove_tree


def test_whatever_is_in_it_goes_and_nothing_is_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("kept")
    top = tmp_path / "top"
    (top / "closed").mkdir(parents=True)
    (top / "link").symlink_to(tmp_path / "outside")
    os.link(tmp_path / "outside" / "kept", top / "closed" / "hard")
    os.mkfifo(top / "pipe")
    (top / "closed").chmod(0)
    remove_tree(top)
    remove_tree(top)
    assert os.listdir(tmp_path) == ["outside"]
    assert (tmp_path / "outside" / "kept").read_text() == "kept"


def test_no_depth_is_too_much(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    at = os.open(top, os.O_RDONLY)
    for _ in range(3000):  # deeper than a path may be long, or a call may nest
        os.mkdir("directory", dir_fd=at)
        below = os.open("directory", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    remove_tree(top)
    assert os.listdir(tmp_path) == []


def test_a_link_in_its_place_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "link").symlink_to("outside")
    with pytest.raises(CarrelError, match="link cannot be removed"):
        remove_tree(tmp_path / "link")
    assert sorted(os.listdir(tmp_path)) == ["link", "outside"]
