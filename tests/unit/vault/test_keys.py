"""What is a key file, and what is none."""

import base64
import os
import threading
from pathlib import Path

import pytest

from carrel.vault.keys import MasterKeys, MasterKeyUnusable, make, read

ONE, TWO = base64.b64encode(b"1" * 32).decode(), base64.b64encode(b"2" * 32).decode()


def given(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(mode)
    return path


def loaded(path: Path, *, ours: bool = False) -> MasterKeys:
    keys = read(path, ours=ours)
    assert keys is not None
    return keys


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert read(tmp_path / "keys", ours=True) is None


def test_one_is_made_once_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    threads = [threading.Thread(target=make, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = loaded(path, ours=True).of(1)
    make(path)
    assert loaded(path, ours=True).of(1) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["master.key"]


@pytest.mark.parametrize(("mode", "ours", "good"), [(0o600, True, True), (0o640, True, False), (0o640, False, True),
                                                    (0o660, False, False), (0o604, False, False)])  # fmt: skip
def test_a_file_that_others_could_read_or_change_is_refused(tmp_path: Path, mode: int, ours: bool, good: bool) -> None:
    path = given(tmp_path, ONE, mode)
    if good:
        assert loaded(path, ours=ours).newest == 1
        return
    with pytest.raises(MasterKeyUnusable, match="chmod 600"):
        read(path, ours=ours)


def test_a_link_is_followed_where_the_file_is_the_operators_only(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(given(tmp_path, ONE))
    assert loaded(link).of(1) == b"1" * 32
    with pytest.raises(MasterKeyUnusable):
        read(link, ours=True)


def test_versions_stand_side_by_side(tmp_path: Path) -> None:
    keys = loaded(given(tmp_path, f"1 {ONE}  # from before\n\n3 {TWO}\n"))
    assert (keys.newest, keys.of(1), keys.of(3)) == (3, b"1" * 32, b"2" * 32)
    with pytest.raises(MasterKeyUnusable, match="put it back"):
        keys.of(2)
    assert ONE not in repr(keys)
    assert keys.marks.keys() == {1, 3}
    assert keys.marks[1] == loaded(given(tmp_path, ONE)).marks[1] != keys.marks[3]


@pytest.mark.parametrize(
    "text",
    ["", "short", f"x {ONE}", f"0 {ONE}", f"1 {ONE}\n1 {TWO}", f"1 {ONE} more", base64.b64encode(b"x" * 31).decode(),
     f"{ONE}\n{TWO}", f"1 {ONE}\n" * 1000],
)  # fmt: skip
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(MasterKeyUnusable) as refused:
        read(given(tmp_path, text), ours=False)
    assert ONE not in refused.value.message


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "keys", 0o600)
    with pytest.raises(MasterKeyUnusable):
        read(tmp_path / "keys", ours=True)
