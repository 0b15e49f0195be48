"""The right store for a place."""

from pathlib import Path

from carrel.objects.conditions import KEY
from carrel.objects.directory_files import DirectoryFiles
from carrel.objects.location import parse_location
from carrel.objects.open import open_files, open_store
from carrel.objects.s3 import S3Options
from carrel.objects.s3_files import S3Files
from tests.fakes.s3_servers import BUCKET, FaultyProxy, options, seaweed


def test_by_what_the_place_is(tmp_path: Path) -> None:
    files = open_store(parse_location(f"file://{tmp_path}"), S3Options(conditional=False))
    files.put("a/b", b"1")
    assert (tmp_path / "a/b").read_bytes() == b"1"
    assert files.conditional
    files.close()
    assert not open_store(parse_location("s3://bucket"), S3Options(conditional=False)).conditional


def test_each_bucket_is_tried_out_once_for_all_who_share_what_is_known(tmp_path: Path) -> None:
    with seaweed(tmp_path) as url, FaultyProxy(url) as proxy:
        proven: set[str] = set()
        for place in ("one", "two", "two/three"):
            store = open_store(parse_location(f"s3://{BUCKET}/{place}"), options(proxy.url), proven=proven)
            store.put("a/b", b"1", absent=True)
            store.close()
        tried = [path for _, path in proxy.seen if path.endswith(KEY)]
        assert len(tried) == 5
        assert {path.partition(KEY)[0] for path in tried} == {f"/{BUCKET}/one/"}
        assert len(proxy.seen) == len(tried) + 3
        store = open_store(parse_location(f"s3://{BUCKET}/one"), options(proxy.url))
        store.put("a/c", b"1", absent=True)
        store.put("a/d", b"1", absent=True)
        store.close()
        assert len(proxy.seen) == len(tried) * 2 + 3 + 2, "another process tries anew, and finds the object there"


def test_large_files_by_where_they_are(tmp_path: Path) -> None:
    found: list[object] = [open_files(parse_location(f"file://{tmp_path}"), options("http://127.0.0.1:9")),
                        open_files(parse_location(f"s3://{BUCKET}/x"), options("http://127.0.0.1:9"))]  # fmt: skip
    assert [type(one) for one in found] == [DirectoryFiles, S3Files]
