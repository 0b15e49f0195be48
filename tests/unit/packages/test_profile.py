"""Several packages as one tree of links."""

from pathlib import Path

import pytest

from carrel.packages import profile

A, B = "/nix/store/a", "/nix/store/b"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for path, text in {
        f"{A}/bin/both": "a", f"{A}/bin/one": "a", f"{A}/share/doc/a": "a", f"{A}/share/own/x": "a",
        f"{A}/include/h": "a",
        f"{B}/bin/both": "b", f"{B}/bin/bash": "b", f"{B}/share/doc/b": "b", f"{B}/lib/b.so": "b",
    }.items():  # fmt: skip
        file = tmp_path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def links(tree: Path) -> dict[str, str]:
    return {str(path.relative_to(tree)): str(path.readlink()) for path in tree.rglob("*") if path.is_symlink()}


def test_directories_are_merged_and_the_first_file_counts(top: Path, tmp_path: Path) -> None:
    profile.make(tmp_path / "profile", (A, B), lambda path: Path(f"{top}{path}"))
    assert links(tmp_path / "profile") == {
        "bin/both": f"{A}/bin/both", "bin/one": f"{A}/bin/one", "bin/bash": f"{B}/bin/bash", "bin/sh": "bash",
        "share/doc/a": f"{A}/share/doc/a", "share/doc/b": f"{B}/share/doc/b", "share/own": f"{A}/share/own",
        "lib/b.so": f"{B}/lib/b.so",
    }  # fmt: skip


def test_a_shell_of_its_own_stays(top: Path, tmp_path: Path) -> None:
    (top / B.lstrip("/") / "bin" / "sh").write_text("b")
    profile.make(tmp_path / "profile", (B,), lambda path: Path(f"{top}{path}"))
    assert links(tmp_path / "profile")["bin/sh"] == f"{B}/bin/sh"


def test_where_one_has_a_link_and_another_a_directory_the_first_counts(top: Path, tmp_path: Path) -> None:
    (top / A.lstrip("/") / "share" / "man").symlink_to("doc")
    (top / B.lstrip("/") / "share" / "man").mkdir()
    profile.make(tmp_path / "profile", (A, B), lambda path: Path(f"{top}{path}"))
    assert links(tmp_path / "profile")["share/man"] == f"{A}/share/man"
