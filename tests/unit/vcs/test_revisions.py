import errno
import hashlib
from pathlib import Path

import pytest

from carrel.errors import StorageFull
from carrel.vcs.revisions import NOTHING, Revisions


def test_a_revision_is_written_and_swapped_in(tmp_path: Path) -> None:
    revisions = Revisions(tmp_path)
    path = revisions.export("a" * 40, {"acme.yaml": b"plan: pro\n"}).path
    revisions.swap("a" * 40)
    assert revisions.current == "a" * 40
    assert (tmp_path / "current" / "acme.yaml").read_bytes() == b"plan: pro\n"
    before = path.stat().st_ino
    assert revisions.export("a" * 40, {"acme.yaml": b"plan: pro\n"}).path.stat().st_ino == before


def test_what_a_crash_left_half_done_is_written_again(tmp_path: Path) -> None:
    revisions, files = Revisions(tmp_path), {"acme.yaml": b"plan: pro\n", "b.yaml": b""}
    path = revisions.export("a" * 40, files).path
    (path / "acme.yaml").write_bytes(b"pla")
    (path / "more.yaml").write_bytes(b"")
    (tmp_path / "revisions" / f".{'b' * 40}.1.tmp").mkdir()
    again = revisions.export("a" * 40, files)
    assert {f.name: f.read_bytes() for f in again.path.iterdir()} == files


def test_old_ones_go_and_the_one_in_force_stays(tmp_path: Path) -> None:
    revisions = Revisions(tmp_path, keep=2)
    for name in "abcd":
        revisions.export(name * 40, {"_gateway.yaml": name.encode()})
        revisions.swap(name * 40)
        revisions.tidy(name * 40)
    assert sorted(p.name[0] for p in (tmp_path / "revisions").iterdir()) == ["c", "d"]
    revisions.export("e" * 40, {})
    revisions.swap("d" * 40)
    revisions.tidy("d" * 40)
    assert revisions.path("d" * 40).is_dir()


def test_at_first_there_is_none(tmp_path: Path) -> None:
    assert Revisions(tmp_path).current is None


def test_before_the_first_there_is_one_that_declares_nobody(tmp_path: Path) -> None:
    assert [p.name for p in Revisions(tmp_path).nothing().iterdir()] == ["_gateway.yaml"]
    assert Revisions(tmp_path).nothing().name == NOTHING


def test_what_is_the_same_is_linked_and_not_written(tmp_path: Path) -> None:
    revisions = Revisions(tmp_path)
    first = revisions.export("a" * 40, {"acme.yaml": b"plan: pro\n", "b.yaml": b"b", "gone.yaml": b""})
    like = first.intact(["acme.yaml", "b.yaml"])
    second = revisions.export("b" * 40, {"b.yaml": b"other", "new.yaml": b"n"}, like=like.intact(["acme.yaml"]))
    assert {f.name: f.read_bytes() for f in second.path.iterdir()} == {
        "acme.yaml": b"plan: pro\n", "b.yaml": b"other", "new.yaml": b"n",
    }  # fmt: skip
    assert (second.path / "acme.yaml").stat().st_ino == (first.path / "acme.yaml").stat().st_ino
    assert (first.path / "b.yaml").read_bytes() == b"b"
    assert second.digests == {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in second.path.iterdir()}
    # Again, as after a move that failed: it is there already.
    inode = second.path.stat().st_ino
    assert revisions.export("b" * 40, {}, like=second.intact(second.kept)).path.stat().st_ino == inode
    (second.path / "more.yaml").write_bytes(b"")
    assert not (revisions.export("b" * 40, {}, like=second.intact(second.kept)).path / "more.yaml").exists()


def test_what_somebody_changed_is_not_linked(tmp_path: Path) -> None:
    first = Revisions(tmp_path).export("a" * 40, {"acme.yaml": b"plan: pro\n", "b.yaml": b"b", "c.yaml": b"c"})
    (first.path / "acme.yaml").write_bytes(b"plan: max\n")
    (first.path / "b.yaml").unlink()
    assert set(first.intact(first.kept).kept) == {"c.yaml"}


def test_without_hard_links_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    revisions = Revisions(tmp_path)
    first = revisions.export("a" * 40, {"acme.yaml": b"plan: pro\n"})

    def refused(*_: object) -> None:
        raise OSError(errno.EMLINK, "Too many links")

    monkeypatch.setattr("os.link", refused)
    second = revisions.export("b" * 40, {}, like=first)
    assert (second.path / "acme.yaml").read_bytes() == b"plan: pro\n"
    assert not list((tmp_path / "revisions").glob(".*"))


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    revisions = Revisions(tmp_path)
    first = revisions.export("a" * 40, {"acme.yaml": b"plan: pro\n"})
    revisions.swap("a" * 40)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.link", full)
    with pytest.raises(StorageFull, match="the one before stays in force"):
        revisions.export("b" * 40, {"b.yaml": b""}, like=first)
    assert [f.name for f in (tmp_path / "revisions").iterdir()] == ["a" * 40]
    assert revisions.current == "a" * 40
