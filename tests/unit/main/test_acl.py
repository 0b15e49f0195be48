"""One name more in an access list, and everybody else's rights as they were."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from carrel.main import acl

UID = 60987
OWNER, USER, GROUP, NAMED_GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
ANY = 0xFFFFFFFF


def effective(entries: acl.Entries) -> acl.Entries:
    mask = entries.get((MASK, ANY), 7)
    return {
        key: value & mask if key[0] in (USER, GROUP, NAMED_GROUP) else value
        for key, value in entries.items()
        if key[0] != MASK
    }


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640, 0o755, 0o700, 0o777, 0o000])
def test_a_mode_and_one_name_more(mode: int) -> None:
    made = acl.extended(acl.of_mode(mode), UID, 6)
    assert effective(made) == {**acl.of_mode(mode), (USER, UID): 6}
    assert acl.permits(made, UID, 6)
    assert acl.unpacked(acl.packed(made)) == made


def test_a_mask_that_is_widened_gives_nobody_else_more() -> None:
    before = {(OWNER, ANY): 7, (USER, 5): 7, (GROUP, ANY): 7, (NAMED_GROUP, 9): 6, (MASK, ANY): 4, (OTHER, ANY): 0}
    made = acl.extended(before, UID, 7)
    assert effective(made) == {**effective(before), (USER, UID): 7}


def test_rights_are_added_to_those_that_the_name_has() -> None:
    once = acl.extended(acl.of_mode(0o600), UID, 4)
    assert not acl.permits(once, UID, 6)
    assert effective(acl.extended(once, UID, 2))[USER, UID] == 6


def test_what_a_mask_takes_away_is_not_permitted() -> None:
    assert not acl.permits({(USER, UID): 7, (MASK, ANY): 5}, UID, 2)
    assert acl.permits({(USER, UID): 7, (MASK, ANY): 5}, UID, 5)
    assert not acl.permits(None, UID, 0)


@pytest.mark.parametrize("value", [b"", b"\x01\x00\x00\x00", b"\x02\x00\x00\x00\x01"])
def test_a_list_of_another_form_is_not_guessed_at(value: bytes) -> None:
    with pytest.raises(acl.NoAccessLists):
        acl.unpacked(value)


@pytest.mark.skipif(shutil.which("getfacl") is None, reason="getfacl is not here")
def test_the_kernel_takes_it_and_the_system_s_own_tool_reads_it(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir(mode=0o750)
    place.chmod(0o750)
    acl.let(str(place), UID, 7, inherited=True)
    acl.let(str(place), UID, 7, inherited=True)
    shown = subprocess.run(
        ["getfacl", "--omit-header", "--numeric", "--absolute-names", str(place)],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert shown == [
        "user::rwx", f"user:{UID}:rwx", "group::r-x", "mask::rwx", "other::---",
        "default:user::rwx", f"default:user:{UID}:rwx", "default:group::r-x", "default:mask::rwx", "default:other::---",
    ]  # fmt: skip
    assert acl.inherits(str(place), UID, 7)
    assert not acl.inherits(str(place), UID + 1, 1)


def test_what_is_made_later_is_the_name_s_too(tmp_path: Path) -> None:
    acl.let(str(tmp_path), UID, 7, inherited=True)
    made = tmp_path / "later"
    made.write_text("x")
    assert acl.permits(acl.unpacked(os.getxattr(made, "system.posix_acl_access")), UID, 6)


def test_a_file_system_without_lists_says_so() -> None:
    with pytest.raises(acl.NoAccessLists):
        acl.let("/proc/self/status", UID, 4)
