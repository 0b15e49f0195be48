"""Files of the workspace are read, written and edited as they are."""

import asyncio
import os

import pytest

from carrel.agents.tools.files import MAX_FILE_BYTES, FileEdit, FileRead, FileWrite
from carrel.errors import CarrelError, DiskQuotaExceeded, InvalidRequest, NotFound, UnsafePath
from tests.unit.agents.tools.conftest import Rig


async def test_what_is_written_is_read(rig: Rig) -> None:
    wrote = await rig.run(FileWrite(), path="/workspace/a/b/c.txt", content="grüße\n")
    assert wrote.content == "Wrote /workspace/a/b/c.txt: 8 bytes."
    assert (rig.path / "a/b/c.txt").read_text() == "grüße\n"
    assert (await rig.run(FileRead(), path="a/b/c.txt")).content == "grüße\n"
    assert (await rig.run(FileWrite(), path="a/b/c.txt", content="")).content.startswith("Replaced")
    assert (await rig.run(FileRead(), path="a/b/c.txt")).content == ""


async def test_a_part_is_read_by_lines(rig: Rig) -> None:
    (rig.path / "f").write_text("".join(f"{n}\n" for n in range(1, 11)))
    part = await rig.run(FileRead(), path="f", offset=4, limit=2)
    assert part.content == "4\n5\n\n[lines 4 to 5 of 10; read on with offset 6]"
    assert (await rig.run(FileRead(), path="f", offset=10)).content == "10\n"
    beyond = await rig.run(FileRead(), path="f", offset=11)
    assert (beyond.content, beyond.is_error) == ("/workspace/f has 10 lines.", True)


async def test_a_long_file_is_cut_and_a_binary_one_is_named(rig: Rig) -> None:
    (rig.path / "long").write_text("x" * 100_000)
    assert "bytes are left out here" in (await rig.run(FileRead(), path="long")).content
    (rig.path / "bin").write_bytes(b"\x7fELF\0\1")
    binary = await rig.run(FileRead(), path="bin")
    assert (binary.content, binary.is_error) == (
        "/workspace/bin is no text: 6 bytes that begin with 7f 45 4c 46 00 01.",
        True,
    )
    with (rig.path / "huge").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(InvalidRequest, match="over 32 MiB"):
        await rig.run(FileRead(), path="huge")


async def test_writing_keeps_the_permissions(rig: Rig) -> None:
    (rig.path / "run.sh").write_text("a")
    (rig.path / "run.sh").chmod(0o755)
    await rig.run(FileWrite(), path="run.sh", content="b")
    assert (rig.path / "run.sh").stat().st_mode & 0o777 == 0o755


async def test_an_edit_replaces_what_is_there_once(rig: Rig) -> None:
    (rig.path / "f").write_bytes(b"one two\nthree\xff\n")
    edited = await rig.run(FileEdit(), path="f", old="two\nthree", new="2\n3")
    assert edited.content == "Edited /workspace/f: replaced 1 time."
    assert (rig.path / "f").read_bytes() == b"one 2\n3\xff\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("absent", "x", "is not in /workspace/f"), ("a", "x", "3 times"), ("b", "b", "the same")],
)
async def test_an_edit_that_is_not_clear_changes_nothing(rig: Rig, old: str, new: str, said: str) -> None:
    (rig.path / "f").write_text("a a a b")
    with pytest.raises(InvalidRequest, match=said):
        await rig.run(FileEdit(), path="f", old=old, new=new)
    assert (rig.path / "f").read_text() == "a a a b"


async def test_an_edit_of_all_and_of_other_line_ends(rig: Rig) -> None:
    (rig.path / "f").write_bytes(b"a\r\nb\r\na\r\nb\r\n")
    edited = await rig.run(FileEdit(), path="f", old="a\nb", new="c\nd", replace_all=True)
    assert "2 times" in edited.content
    assert (rig.path / "f").read_bytes() == b"c\r\nd\r\nc\r\nd\r\n"


async def test_edits_side_by_side_are_all_there(rig: Rig) -> None:
    (rig.path / "f").write_text("".join(f"<{n}>" for n in range(20)))
    await asyncio.gather(*(rig.run(FileEdit(), path="f", old=f"<{n}>", new=f"[{n}]") for n in range(20)))
    assert (rig.path / "f").read_text() == "".join(f"[{n}]" for n in range(20))


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x"])
async def test_paths_out_of_it_are_refused(rig: Rig, path: str) -> None:
    (rig.path / "a").mkdir()
    for attempt in (
        rig.run(FileRead(), path=path), rig.run(FileWrite(), path=path, content="x"),
        rig.run(FileEdit(), path=path, old="a", new="b"),
    ):  # fmt: skip
        with pytest.raises(UnsafePath):
            await attempt
    assert not (rig.path.parent / "x").exists()


@pytest.mark.parametrize("path", ["/workspace", "a/", "."])
async def test_a_directory_is_no_file(rig: Rig, path: str) -> None:
    (rig.path / "a").mkdir()
    with pytest.raises(InvalidRequest):
        await rig.run(FileWrite(), path=path, content="x")
    with pytest.raises(CarrelError):
        await rig.run(FileRead(), path=path)


async def test_what_is_not_there_is_said_so(rig: Rig) -> None:
    with pytest.raises(NotFound, match="There is no /workspace/nothing"):
        await rig.run(FileRead(), path="nothing")
    with pytest.raises(NotFound):
        await rig.run(FileEdit(), path="nothing", old="a", new="b")
    assert os.listdir(rig.path) == []


async def test_over_the_quota_nothing_is_written_and_within_it_all_is(rig: Rig) -> None:
    await rig.run(FileWrite(), path="f", content="as it was")
    rig.sandbox.full = DiskQuotaExceeded("The workspace takes 9 bytes of 9.")
    for tool, arguments in (
        (FileWrite(), {"path": "g", "content": "more"}),
        (FileEdit(), {"path": "f", "old": "was", "new": "was, and more"}),
    ):
        with pytest.raises(DiskQuotaExceeded, match="9 bytes of 9"):
            await rig.run(tool, **arguments)
    assert (rig.path / "f").read_text() == "as it was"
    assert not (rig.path / "g").exists()
    rig.sandbox.full = None
    await rig.run(FileEdit(), path="f", old="was", new="is")
    assert (rig.path / "f").read_text() == "as it is"
