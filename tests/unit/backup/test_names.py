"""Names that come out of a backup are judged, whoever wrote them."""

import pytest

from carrel.backup.catalogue import Entry, Part
from carrel.backup.names import (
    is_database,
    is_database_side,
    is_lines,
    is_workspace,
    require_entry,
    require_link,
    require_path,
)
from carrel.errors import CarrelError, UnsafePath

PIECE = "a" * 64


@pytest.mark.parametrize(
    "path",
    [
        "", "/etc/passwd", "../x", "a/../b", "a/./b", "a//b", "a/", ".", "..", "snapshots/x", "backups.json", ".hidden",
        "a\nb", "a\x1bb", "a\u009bb", "a/" * 300 + "b", "a" * 300, "sandbox/" + "\udce9",
    ],
)  # fmt: skip
def test_S9_01_what_is_no_path(path: str) -> None:
    with pytest.raises(CarrelError):
        require_path(path)


def test_S9_01_what_is_one() -> None:
    for path in ("config.yaml", "sandbox/.git/config", "sandbox/a b/ü.txt", "sandbox/..data", "sessions/s.jsonl"):
        assert require_path(path) == path


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("sandbox/link", "../x"), ("sandbox/link", "/etc/passwd"), ("sandbox/a/link", "../../x"), ("sandbox/link", ""),
        ("sandbox/link", "a/../../x"), ("sandbox/link", "/workspace/../x"), ("sandbox/link", "/workspace-evil"),
        ("sandbox.d/member-a/link", "../member-b/x"), ("sandbox.d/link", "member-a"), ("sessions/link", "x"),
        ("sandbox", "x"), ("sandbox/link", "a\nb"), ("credentials/vault", "x"),
    ],
)  # fmt: skip
def test_S9_01_no_link_leads_out(path: str, target: str) -> None:
    with pytest.raises(UnsafePath):
        require_link(path, target)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("sandbox/link", "file"), ("sandbox/a/link", "../b"), ("sandbox/link", "/workspace/b"), ("sandbox/l", "a/../b"),
        ("sandbox.d/member-a/link", "x"), ("sandbox/link", "/workspace"),
    ],
)  # fmt: skip
def test_S9_01_one_that_stays_is_kept(path: str, target: str) -> None:
    assert require_link(path, target) == target


def test_S9_01_entries_are_as_large_as_they_say() -> None:
    part = Part(piece=PIECE, offset=0, length=5)
    require_entry(Entry(path="a", kind="file", size=5, parts=(part,)))
    for wrong in (
        Entry(path="a", kind="file", size=6, parts=(part,)),
        Entry(path="a", kind="directory", parts=(part,)),
        Entry(path="sandbox/a", kind="link", target="b", size=5),
        Entry(path="a", kind="link", target="b"),
    ):
        with pytest.raises(UnsafePath):
            require_entry(wrong)


def test_kinds_of_places() -> None:
    assert is_workspace("sandbox/x")
    assert not is_workspace("sandboxes/x")
    assert is_database("usage/ledger.sqlite")
    assert not is_database("sandbox/own.sqlite")
    assert is_database_side("usage/ledger.sqlite-wal")
    assert not is_database_side("sandbox/x.sqlite-wal")
    assert is_lines("sessions/s.jsonl")
    assert not is_lines("sandbox/s.jsonl")
