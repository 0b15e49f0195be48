"""Files of the record: appended, whole or not at all."""

from pathlib import Path

import pytest

from carrel.audit.files import append_synced, appended, days


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


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        append_synced(tmp_path / "link", b"a\n")
