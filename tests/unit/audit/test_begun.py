import os
from pathlib import Path

import pytest

from carrel.audit.begun import BEGUN, RESERVE, RESERVED, Begun


def change(begun: str, number: int = 0, **more: object) -> dict[str, object]:
    return {"begun": begun, "request_id": "r", "action": "a", "number": number, **more}


def test_what_has_no_line_is_left_and_what_was_torn_is_not(tmp_path: Path) -> None:
    begun = Begun(tmp_path)
    assert begun.left() == []
    begun.add([change("1"), change("2", 3, after={"token": "tk_acme_" + "a" * 32})])
    with (tmp_path / BEGUN).open("ab") as file:
        file.write(b'{"after":4,"line":{"begun":"3"')
    (tmp_path / "2026-03-01.jsonl").write_text(
        '{"n":1,"begun":"1","request_id":"r","action":"a"}\nnonsense\n'
        '{"n":4,"begun":"2","request_id":"another","action":"a"}\n'
    )
    again = Begun(tmp_path)
    [left] = again.left()
    assert (left["begun"], "number" in left) == ("2", False)
    assert "a" * 32 not in (tmp_path / BEGUN).read_text()
    again.clear()
    assert (again.is_open("1"), again.is_open("2"), len(again.left())) == (False, True, 1)
    again.ended([left])
    again.clear()
    assert again.left() == []


def test_the_record_is_read_no_further_than_to_what_is_sought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = '{"n":%d,"begun":"%d","request_id":"r","action":"a"}\n'
    (tmp_path / "2026-03-01.jsonl").write_text("".join(line % (n, n) for n in range(1, 20_001)))
    read: list[int] = []
    real = os.pread

    def counted(fd: int, size: int, at: int) -> bytes:
        read.append(size)
        return real(fd, size, at)

    monkeypatch.setattr(os, "pread", counted)
    begun = Begun(tmp_path)
    assert begun.without_line([change("19999"), change("none")], after=19_990) == [change("none")]
    assert begun.without_line([change("19998"), change("20000")], after=1) == []
    assert 0 < sum(read) <= 4 * 65_536 < (tmp_path / "2026-03-01.jsonl").stat().st_size / 3


def test_a_long_list_is_begun_anew_where_all_is_over(tmp_path: Path) -> None:
    begun = Begun(tmp_path)
    long = change("1", after="x" * 1000)
    for number in range(400):
        begun.add([{**long, "begun": str(number)}])
    assert (tmp_path / BEGUN).stat().st_size > 400_000
    assert begun.is_open("0")
    begun.ended([{"begun": str(number)} for number in range(400)])
    begun.add([change("last")])
    assert [one["begun"] for one in Begun(tmp_path).left()] == ["last"]
    assert (begun.is_open("0"), begun.is_open("last")) == (False, True)


def test_room_is_kept_and_given_up_once(tmp_path: Path) -> None:
    begun = Begun(tmp_path)
    assert not begun.make_room()
    begun.add([change("1")])
    assert (tmp_path / RESERVE).stat().st_size == RESERVED
    assert begun.make_room()
    assert not begun.make_room()
    begun.add([change("2")])
    assert (tmp_path / RESERVE).stat().st_size == RESERVED


def test_without_room_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    begun = Begun(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            begun.add([change("1")])
    assert not begun.is_open("1")
    assert not (tmp_path / RESERVE).exists()
    assert begun.left() == []


def test_a_long_list_is_written_anew_with_what_is_open(tmp_path: Path) -> None:
    begun = Begun(tmp_path)
    begun.add([change("backup", 7), change("restore", 8)])
    for number in range(1200):
        begun.add([change(str(number), 9, after="x" * 1000)])
        begun.ended([{"begun": str(number)}])
    assert (tmp_path / BEGUN).stat().st_size < 300_000
    assert [one["begun"] for one in Begun(tmp_path).left()][:2] == ["backup", "restore"]
    assert (begun.is_open("backup"), begun.is_open("1")) == (True, False)
    assert not (tmp_path / f"{BEGUN}.tmp").exists()


def test_what_a_dead_gateway_left_stays_where_the_list_is_written_anew(tmp_path: Path) -> None:
    Begun(tmp_path).add([change("left", 3)])
    again = Begun(tmp_path)
    assert [one["begun"] for one in again.left()] == ["left"]
    for number in range(600):
        again.add([change(str(number), 9, after="x" * 1000)])
        again.ended([{"begun": str(number)}])
    assert Begun(tmp_path).left()[0]["begun"] == "left"
