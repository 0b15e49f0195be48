"""The right store for a place."""

from pathlib import Path

from carrel.objects.location import parse_location
from carrel.objects.open import open_store
from carrel.objects.s3 import S3Options


def test_by_what_the_place_is(tmp_path: Path) -> None:
    files = open_store(parse_location(f"file://{tmp_path}"), S3Options(conditional=False))
    files.put("a/b", b"1")
    assert (tmp_path / "a/b").read_bytes() == b"1"
    assert files.conditional
    files.close()
    assert not open_store(parse_location("s3://bucket"), S3Options(conditional=False)).conditional
