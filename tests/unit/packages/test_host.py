"""The host's userland is made of what the host has, and says why it is used."""

from pathlib import Path

import pytest

from carrel.errors import Unavailable
from carrel.packages.host import host_userland


def test_links_stay_links_and_directories_are_mounted(tmp_path: Path) -> None:
    (tmp_path / "usr" / "bin").mkdir(parents=True)
    (tmp_path / "usr" / "bin" / "bash").touch()
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "lib64").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "shadow").touch()
    made = host_userland("no Nix", root=tmp_path)
    assert (made.kind, made.reason, made.shell) == ("host", "no Nix", "/usr/bin/bash")
    assert made.links == (("usr/bin", "/bin"),)
    assert [mount.target for mount in made.mounts] == ["/usr", "/lib64"]


def test_a_host_without_a_shell_has_nothing_to_lend(tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    with pytest.raises(Unavailable, match="no Nix"):
        host_userland("no Nix", root=tmp_path)


def test_this_host_has_one() -> None:
    assert host_userland("a test").shell.startswith(("/usr/bin/", "/bin/"))
