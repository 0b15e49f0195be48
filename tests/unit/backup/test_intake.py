"""S9.1: an archive is laid out whole, or nothing is left of it; no name in it reaches anything else."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carrel.backup import intake
from carrel.backup.archive import HEADER, MANIFEST, Header, Writer
from carrel.backup.intake import take_in
from carrel.errors import CarrelError, InvalidRequest, StorageFull, TooLarge, UnsafePath
from carrel.objects.pace import Cancelled

HEAD = Header(tenant="acme", at=datetime(2026, 3, 1, tzinfo=UTC), carrel="1")


def archive(*fill: Callable[[Writer], None]) -> bytes:
    out = io.BytesIO()
    writer = Writer(out, HEAD)
    for one in fill:
        one(writer)
    writer.close()
    return out.getvalue()


def ordinary(writer: Writer) -> None:
    writer.directory("sandbox")
    writer.data("sandbox/a", b"hello", mode=0o755, mtime=7)
    writer.data("sandbox/A", b"another", mode=0o600)
    writer.link("sandbox/to-a", "a")
    writer.directory("sessions")
    writer.data("sessions/s_1.jsonl", b"{}\n")


def taken(data: bytes, place: Path) -> intake.TakenIn:
    return take_in(io.BytesIO(data), place, going=lambda: None)


def test_all_of_it_is_laid_out(tmp_path: Path) -> None:
    place = tmp_path / "new"
    done = taken(archive(ordinary), place)
    assert (done.files, done.bytes, done.sessions, done.header.tenant) == (3, 15, 1, "acme")
    assert (place / "sandbox/a").read_bytes() == b"hello"
    assert ((place / "sandbox/a").stat().st_mode & 0o777, (place / "sandbox/a").stat().st_mtime) == (0o755, 7)
    assert (place / "sandbox/to-a").readlink() == Path("a")
    assert taken(archive(ordinary), tmp_path / "again").digest == done.digest


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../evil", "no plain path"), ("/etc/passwd", "no plain path"), ("a/../../evil", "no plain path"),
        ("sandbox/./a", "no plain path"), ("a\x1b[2J", "control character"), ("config.yaml/", "no plain path"),
        ("snapshots/x", "nothing that a backup holds"), (".ssh", "nothing that a backup holds"),
        ("nowhere/a", "before its directory"),
    ],
)  # fmt: skip
def test_S9_01_no_name_reaches_anything_else(tmp_path: Path, path: str, said: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with pytest.raises(CarrelError, match=said):
        taken(archive(lambda writer: writer.data(path, b"evil")), home / ".acme.restore")
    assert [one.name for one in tmp_path.rglob("*")] == ["home"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "../credentials/tokens.json", ""])
def test_S9_01_no_link_leads_out(tmp_path: Path, target: str) -> None:
    def fill(writer: Writer) -> None:
        writer.directory("sandbox")
        writer.link("sandbox/evil", target)

    with pytest.raises(UnsafePath):
        taken(archive(fill), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "names", [("config.yaml", "config.yaml"), ("agents", "Agents"), ("zoë", "zoe\u0308")], ids=ascii
)
def test_S9_01_a_name_that_is_there_twice_or_spelt_another_way(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(UnsafePath, match="there twice"):
        taken(archive(*(lambda w, n=name: w.data(n, b"x") for name in names)), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def raw(*entries: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


TOLD = HEAD.model_dump_json().encode()
LINE = json.dumps({"path": "a", "kind": "file", "size": 1, "sha256": "0" * 64}).encode() + b"\n"


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (b"", InvalidRequest, "first name|whole archive|ends"),
        (b"not gzip", InvalidRequest, "no whole archive"),
        (raw(("other", b"")), InvalidRequest, "no archive of a tenant"),
        (raw((HEADER, b"{}")), InvalidRequest, "carrel-export.json is not as it should be"),
        (raw((HEADER, TOLD.replace(b'"format":1', b'"format":2'))), InvalidRequest, "A newer Carrel"),
        (raw((HEADER, b" " * 70_000)), TooLarge, "70000 bytes"),
        (raw((HEADER, TOLD), ("tenant/a", b"x")), InvalidRequest, "without its manifest"),
        (raw((HEADER, TOLD), ("elsewhere/a", b"x")), UnsafePath, "not where a tenant's files are"),
        (raw((HEADER, TOLD), ("tenant/a", b"x"), (MANIFEST, b"")), UnsafePath, "not in the archive's manifest"),
        (raw((HEADER, TOLD), ("tenant/a", b"x"), (MANIFEST, LINE)), UnsafePath, "changed on its way"),
        (raw((HEADER, TOLD), (MANIFEST, LINE)), UnsafePath, "changed on its way"),
        (raw((HEADER, TOLD), (MANIFEST, b"[]\n")), InvalidRequest, "manifest.jsonl is not as it should be"),
        (archive(ordinary)[:-40], CarrelError, "ende?[sd]"),
    ],
    ids=range(13),
)
def test_S9_01_what_is_no_archive_leaves_nothing(
    tmp_path: Path, data: bytes, error: type[CarrelError], said: str
) -> None:
    with pytest.raises(error, match=said):
        taken(data, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_S9_01_it_does_not_unpack_to_more_than_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_room", lambda place: intake._Room(1 << 20, 1000))
    bomb = raw((HEADER, TOLD), ("tenant/a", bytes(4 << 20)))
    assert len(bomb) < 64 << 10
    with pytest.raises(TooLarge, match="to spare"):
        taken(bomb, tmp_path / "new")
    monkeypatch.setattr(intake, "MOST_ENTRIES", 3)
    with pytest.raises(TooLarge, match="over 3 names"):
        taken(archive(ordinary), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_S9_01_what_unpacks_without_end_is_ended_by_the_room_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export of one byte over and over is as a bomb is; what tells them apart is whether there is room."""
    counts = []
    one = 4 << 20

    def fill(writer: Writer) -> None:
        writer.directory("sandbox")
        for number in range(6):
            writer.data(f"sandbox/{number}", b"x" * one)

    data = archive(fill)
    assert len(data) * 200 < 6 * one
    monkeypatch.setattr(intake, "_room", lambda place: intake._Room(4 * one, 1000))
    with pytest.raises(TooLarge, match="to spare"):
        take_in(io.BytesIO(data), tmp_path / "new", going=lambda: counts.append(1))
    # Ended where it no longer fits, before that is written.
    assert len(counts) == 1 + 5
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(intake, "_room", lambda place: intake._Room(6 * one, 1000))
    assert taken(data, tmp_path / "new").bytes == 6 * one
    assert (tmp_path / "new/sandbox/5").read_bytes() == b"x" * one


def test_what_is_nothing_but_zeros_is_no_bomb_and_takes_no_room(tmp_path: Path) -> None:
    size = (16 << 20) + 7

    def fill(writer: Writer) -> None:
        writer.directory("sandbox")
        writer.data("sandbox/image", bytes(size))
        writer.data("sandbox/other", bytes(1 << 20) + b"end")

    taken(archive(fill), tmp_path / "new")
    image = tmp_path / "new/sandbox/image"
    assert (image.stat().st_size, image.read_bytes().count(0)) == (size, size)
    assert image.stat().st_blocks * 512 < size
    assert (tmp_path / "new/sandbox/other").read_bytes() == bytes(1 << 20) + b"end"


def test_S9_01_a_size_that_lies_is_judged_before_it_is_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("tenant/a")
    info.size = 0o77777777777
    begun = gzip.decompress(raw((HEADER, TOLD)))[:1024] + info.tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(CarrelError, match=r"to spare|ends in the middle"):
        taken(gzip.compress(begun), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_S9_01_more_names_than_the_disk_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_room", lambda place: intake._Room(1 << 30, 2))
    with pytest.raises(TooLarge, match="to spare"):
        taken(archive(ordinary), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_line_of_the_manifest_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafePath, match="longer than"):
        taken(raw((HEADER, TOLD), (MANIFEST, b"x" * (2 << 20))), tmp_path / "new")


def test_one_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    def going() -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        take_in(io.BytesIO(archive(ordinary)), tmp_path / "new", going=going)
    assert list(tmp_path.iterdir()) == []


def test_every_flipped_byte_of_the_content_is_found(tmp_path: Path) -> None:
    whole = gzip.decompress(archive(ordinary))
    for at in (whole.index(b"hello"), whole.index(b"another"), whole.index(b"to-a")):
        bad = bytearray(whole)
        bad[at] ^= 1
        try:
            done = taken(gzip.compress(bytes(bad)), tmp_path / "new")
        except CarrelError:
            continue
        # A link's name is bound by nothing but the manifest itself, whose digest tells it from another.
        assert done.digest != taken(archive(ordinary), tmp_path / "again").digest


def test_a_disk_with_nothing_to_spare_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "RESERVE_BYTES", 1 << 62)
    with pytest.raises(StorageFull, match="nothing to spare"):
        taken(archive(ordinary), tmp_path / "new")
    assert not (tmp_path / "new").exists()
