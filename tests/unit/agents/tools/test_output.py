"""Output is safe to read, short, and kept whole."""

import os

from hypothesis import given
from hypothesis import strategies as st

from carrel.agents.tools.output import HEAD_BYTES, KEPT_FILES, TAIL_BYTES, fitted, safe
from tests.unit.agents.tools.conftest import Rig


def test_what_would_steer_a_terminal_is_written_out() -> None:
    assert safe(b"\x1b[31mred\x1b]52;c;x\x07 \x00 \xff \xc2\x9b \xe2\x80\xae \t\nok\r\nend\r") == (
        "\\x1b[31mred\\x1b]52;c;x\\x07 \\x00 \\xff \\x9b \\u202e \t\nok\nend\\x0d"
    )
    assert safe("grüße 你好 🙂".encode()) == "grüße 你好 🙂"


@given(st.binary())
def test_any_bytes_become_text_without_controls(data: bytes) -> None:
    text = safe(data)
    assert all(c in "\n\t" or ord(c) >= 0x20 for c in text)
    text.encode()


async def test_short_output_is_left_as_it_is(rig: Rig) -> None:
    assert await fitted(b"hello\n", rig.setting) == "hello\n"
    assert os.listdir(rig.path) == []


async def test_long_output_is_cut_in_the_middle_and_kept_whole(rig: Rig) -> None:
    data = b"".join(b"line %06d \xc3\xa9\n" % n for n in range(5000))
    text = await fitted(data, rig.setting)
    assert len(text.encode()) < HEAD_BYTES + TAIL_BYTES + 500
    assert text.startswith("line 000000 é\n")
    assert text.endswith("line 004999 é\n")
    [kept] = (rig.path / ".carrel/output").iterdir()
    assert kept.read_bytes() == data
    assert f"/workspace/.carrel/output/{kept.name}" in text
    assert kept.name.startswith("call-1-")


async def test_what_the_sandbox_dropped_is_said(rig: Rig) -> None:
    assert "77 bytes were over the limit" in await fitted(b"short", rig.setting, dropped=77)
    assert "77 bytes were over the limit" in await fitted(b"x" * 50_000, rig.setting, dropped=77)


async def test_a_workspace_that_forbids_it_costs_the_copy_alone(rig: Rig) -> None:
    (rig.path / ".carrel").symlink_to("/tmp")
    text = await fitted(b"x" * 50_000, rig.setting)
    assert "could not be kept" in text
    assert text.startswith("xxx")


async def test_the_oldest_copies_go(rig: Rig) -> None:
    directory = rig.path / ".carrel/output"
    directory.mkdir(parents=True)
    for number in range(KEPT_FILES + 5):
        (directory / f"old-{number}.txt").write_text("x")
        os.utime(directory / f"old-{number}.txt", (number, number))
    await fitted(b"x" * 50_000, rig.setting)
    names = set(os.listdir(directory))
    assert len(names) == KEPT_FILES
    assert "old-0.txt" not in names
    assert any(name.startswith("call-1-") for name in names)
