from pathlib import Path

from carrel.vcs.revisions import NOTHING, Revisions


def test_a_revision_is_written_and_swapped_in(tmp_path: Path) -> None:
    revisions = Revisions(tmp_path)
    path = revisions.export("a" * 40, {"acme.yaml": b"plan: pro\n"})
    revisions.swap("a" * 40)
    assert revisions.current == "a" * 40
    assert (tmp_path / "current" / "acme.yaml").read_bytes() == b"plan: pro\n"
    before = path.stat().st_ino
    assert revisions.export("a" * 40, {"acme.yaml": b"plan: pro\n"}).stat().st_ino == before


def test_what_a_crash_left_half_done_is_written_again(tmp_path: Path) -> None:
    revisions, files = Revisions(tmp_path), {"acme.yaml": b"plan: pro\n", "b.yaml": b""}
    path = revisions.export("a" * 40, files)
    (path / "acme.yaml").write_bytes(b"pla")
    (path / "more.yaml").write_bytes(b"")
    (tmp_path / "revisions" / f".{'b' * 40}.1.tmp").mkdir()
    again = revisions.export("a" * 40, files)
    assert {f.name: f.read_bytes() for f in again.iterdir()} == files


def test_old_ones_go_and_the_one_in_force_stays(tmp_path: Path) -> None:
    revisions = Revisions(tmp_path, keep=2)
    for name in "abcd":
        revisions.export(name * 40, {"_gateway.yaml": name.encode()})
        revisions.swap(name * 40)
    assert sorted(p.name[0] for p in (tmp_path / "revisions").iterdir()) == ["c", "d"]
    revisions.export("e" * 40, {})
    revisions.swap("d" * 40)
    assert revisions.path("d" * 40).is_dir()


def test_at_first_there_is_none(tmp_path: Path) -> None:
    assert Revisions(tmp_path).current is None


def test_before_the_first_there_is_one_that_declares_nobody(tmp_path: Path) -> None:
    assert [p.name for p in Revisions(tmp_path).nothing().iterdir()] == ["_gateway.yaml"]
    assert Revisions(tmp_path).nothing().name == NOTHING
