"""The file that a tenant is carried in: what anyone's tar makes of it."""

import io
import json
import tarfile
from datetime import UTC, datetime

from carrel.backup.archive import HEADER, MANIFEST, Header, Writer

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_it_is_a_tar_that_says_what_it_is_and_what_is_in_it() -> None:
    out = io.BytesIO()
    writer = Writer(out, Header(tenant="acme", at=AT, carrel="1"))
    writer.directory("sandbox")
    calls = 0

    def changing(restart: object) -> list[bytes]:
        nonlocal calls
        calls += 1
        assert callable(restart)
        restart()
        return [b"whole ", b"now"]

    writer.file("sandbox/a", changing, mode=0o755, mtime=7)
    writer.data("sandbox/b", b"b")
    writer.link("sandbox/c", "a")
    writer.left_out("sandbox/pipe", "It is a pipe.")
    writer.close()
    assert (writer.files, writer.bytes, calls) == (2, 10, 1)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        names = tar.getnames()
        assert names == [HEADER, "tenant/sandbox", "tenant/sandbox/a", "tenant/sandbox/b", MANIFEST]
        assert (tar.getmember("tenant/sandbox/a").mode, tar.getmember("tenant/sandbox/a").mtime) == (0o755, 7)
        listed = tar.extractfile(MANIFEST)
        assert listed is not None
        lines = [json.loads(line) for line in listed.read().splitlines()]
    assert [(line["path"], line["kind"]) for line in lines] == [
        ("sandbox", "directory"), ("sandbox/a", "file"), ("sandbox/b", "file"), ("sandbox/c", "link"),
        ("sandbox/pipe", "left_out"),
    ]  # fmt: skip


def test_the_same_content_is_the_same_archive() -> None:
    made = []
    for _ in range(2):
        out = io.BytesIO()
        writer = Writer(out, Header(tenant="acme", at=AT, carrel="1"))
        writer.data("config.yaml", b"a: 1\n")
        writer.close()
        made.append(out.getvalue())
    assert made[0] == made[1]


def test_one_that_is_abandoned_writes_nothing_more_and_holds_nothing() -> None:
    out, packed = io.BytesIO(), 0

    def counted(more: int) -> None:
        nonlocal packed
        packed += more

    writer = Writer(out, Header(tenant="acme", at=AT, carrel="1"), counts=counted)
    writer.data("config.yaml", bytes(range(256)) * 4096)
    assert packed == 1 << 20
    before = out.getvalue()
    writer.abandon()
    assert out.getvalue() == before
    out.close()
    del writer
