"""Files of the record: appended, whole or not at all."""

from pathlib import Path

import pytest

from carrel.audit import files
from carrel.audit.files import append_synced, appended, backwards, cut_off, days


def test_lines_are_appended_and_cut(tmp_path: Path) -> None:
    file = tmp_path / "2026-03-01.jsonl"
    append_synced(file, b"a\n")
    with appended(file, b"b\n"):
        assert file.read_bytes() == b"a\nb\n"
    with pytest.raises(FileNotFoundError), appended(file, b"c\n"):
        (tmp_path / "none").read_bytes()
    assert file.read_bytes() == b"a\nb\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_only_days_are_days(tmp_path: Path) -> None:
    for name in ("2026-03-02.jsonl", "2026-03-01.jsonl", "heads.jsonl", "head.json", "2026-03-01.jsonl.tmp"):
        (tmp_path / name).touch()
    assert [path.stem for path in days(tmp_path)] == ["2026-03-01", "2026-03-02"]
    assert days(tmp_path / "none") == []


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    "text", [b"", b"\n", b"a", b"a\n", b"a\nbc\n\ndef\n", b"a\nbcdefgh\nij", b"\n\na\n\n", b"abcdef"]
)
def test_lines_are_read_from_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, piece: int) -> None:
    monkeypatch.setattr(files, "_PIECE", piece)
    file = tmp_path / "2026-03-01.jsonl"
    file.write_bytes(text)
    assert list(backwards(file)) == text.splitlines(keepends=True)[::-1]


def test_a_file_that_is_cut_off_while_it_is_read_ends_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_PIECE", 4096)
    file = tmp_path / "2026-03-01.jsonl"
    kept = [b"%04d" % number + b"x" * 1000 + b"\n" for number in range(40)]
    file.write_bytes(b"".join(kept))
    lines = backwards(file)
    assert next(lines) == kept[-1]
    cut_off(file, len(kept[0]) * 30)
    found = list(lines)
    assert found[-10:] == kept[9::-1]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        append_synced(tmp_path / "link", b"a\n")
