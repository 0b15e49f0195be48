"""Places and keys, as people and strangers write them."""

import pytest

from carrel.errors import InvalidRequest
from carrel.objects.location import Location, parse_location, require_key, require_prefix


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("s3://bucket", Location("s3", "bucket", "")),
        ("s3://bucket/a/b/", Location("s3", "bucket", "a/b")),
        ("file:///var/backups", Location("file", "", "/var/backups")),
    ],
)
def test_places(text: str, place: Location) -> None:
    assert parse_location(text) == place
    assert parse_location(str(place)) == place


@pytest.mark.parametrize(
    "text",
    [
        "", "bucket/a", "http://bucket/a", "s3:/bucket", "s3://", "s3://B", "s3://bu", "s3://bucket//a", "s3://bucket/../a",
        "s3://bucket/a b", "s3://bucket/a\n", "file://relative", "file:///", "file:///a/../b", "s3://key:secret@bucket/a",
        "s3://bucket/" + "a" * 2000, "s3://bucket/a?x=y",
    ],
)  # fmt: skip
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_location(text)


def test_beneath_is_by_whole_parts() -> None:
    home = parse_location("s3://bucket/a")
    assert parse_location("s3://bucket/a/b").within(home)
    assert home.within(home)
    assert home.within(parse_location("s3://bucket"))
    for other in ("s3://bucket/a-evil", "s3://bucket", "s3://other/a", "file:///a"):
        assert not parse_location(other).within(home)


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a b", "a\0", "a/" * 20 + "b"])
def test_S9_01_what_is_no_key(key: str) -> None:
    with pytest.raises(InvalidRequest):
        require_key(key)
    assert require_key("acme/pieces/ab/abcd") == "acme/pieces/ab/abcd"


def test_S9_01_a_prefix_is_whole_parts() -> None:
    assert require_prefix("") == ""
    assert require_prefix("acme/") == "acme/"
    for prefix in ("acme", "/", "../", "a//"):
        with pytest.raises(InvalidRequest):
            require_prefix(prefix)
