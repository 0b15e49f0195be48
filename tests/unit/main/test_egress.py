"""The key of placeholders."""

from pathlib import Path

import pytest

from carrel.main.egress import KEY_BYTES, KeyUnusable, placeholder_key


def test_the_key_is_made_once_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    key = placeholder_key(tmp_path)
    assert len(key) == KEY_BYTES
    assert placeholder_key(tmp_path) == key
    assert (tmp_path / "placeholder.key").stat().st_mode & 0o777 == 0o600


def test_what_is_no_key_is_told(tmp_path: Path) -> None:
    (tmp_path / "placeholder.key").write_bytes(b"short")
    with pytest.raises(KeyUnusable, match="remove it"):
        placeholder_key(tmp_path)
    with pytest.raises(KeyUnusable):
        placeholder_key(tmp_path / "missing")
