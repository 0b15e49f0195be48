"""Large files in S3: what is there, what is left, and what is refused."""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carrel.errors import InvalidRequest, TooLarge
from carrel.objects.protocol import ObjectChanged, ObjectMissing, StoreRefused
from carrel.objects.s3_upload import MOST_BYTES
from tests.fakes.s3_servers import (
    Exchange,
    FaultyProxy,
)
from tests.unit.objects.harness import NAME, PART, Place


@pytest.mark.parametrize("size", [0, 12345, PART - 1, PART, 2 * PART + 1])
def test_what_was_sent_comes_back_byte_by_byte(place: Place, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    name = f"acme-{size}.tar.gz"
    place.send(source, name)
    assert place.told == size
    assert place.content(name) == source.read_bytes()
    assert place.told == 2 * size
    assert place.uploads() == []


def test_what_is_there_is_replaced_only_where_that_is_said(place: Place, source: Path, tmp_path: Path) -> None:
    place.send(source)
    small = tmp_path / "small"
    small.write_bytes(b"small")
    for other in (source, small):
        with pytest.raises(ObjectChanged, match="already"):
            place.send(other)
    assert place.content() == source.read_bytes()
    place.send(small, replaces=True)
    assert place.content() == b"small"
    place.send(source, replaces=True)
    assert place.content() == source.read_bytes()


def test_a_store_that_ignores_conditions_is_refused_unless_that_is_declared(rclone_url: str, source: Path) -> None:
    place = Place(rclone_url, "ignores")
    with pytest.raises(StoreRefused, match="ignores conditional writes"):
        place.send(source)
    with pytest.raises(ObjectMissing):
        place.content()
    place.send(source, replaces=True)
    place.files.close()


def test_what_a_death_left_is_ended_by_the_next_of_that_name_alone(place: Place, source: Path) -> None:
    place.begin()
    place.begin()
    place.begin(f"{NAME}.gz")
    place.begin("other.tar.gz")
    place.send(source)
    assert sorted(place.uploads()) == sorted(
        f"{prefix}/{name}" for prefix in [place.uploads()[0].rpartition("/")[0]]
        for name in (f"{NAME}.gz", "other.tar.gz")
    )  # fmt: skip


def test_what_is_left_and_old_is_ended(rclone_url: str) -> None:
    place = Place(rclone_url, "old")
    for name in ("acme.tar.gz", "acme/deep.tar.gz", "of-another-program.bin"):
        place.begin(name)
    assert place.files.end_left(datetime.now(UTC) - timedelta(days=1)) == 0
    assert len(place.uploads()) == 3
    assert place.files.end_left(datetime.now(UTC) + timedelta(minutes=1)) == 2
    assert [one.rpartition("/")[2] for one in place.uploads()] == ["of-another-program.bin"]
    place.files.close()


def test_one_of_which_something_came_lately_is_not_ended(seaweed_url: str) -> None:
    """By a server that says of every upload that it was begun years ago."""
    with FaultyProxy(seaweed_url) as proxy:

        def long_ago(exchange: Exchange) -> bool:
            exchange.answer = re.sub(rb"(?<=<Initiated>)[^<]*", b"2010-11-10T20:48:33.000Z", exchange.answer)
            return False

        proxy.after.append(long_ago)
        place = Place(proxy.url, "lately")
        upload = place.begin()
        place.begin("other.tar.gz")
        with place.store.speaking(NAME) as (s3, named):
            s3.upload_part(**named, UploadId=upload, PartNumber=1, Body=b"x")
        assert place.files.end_left(datetime.now(UTC) - timedelta(days=1)) == 1
        assert place.uploads() == [f"lately/{NAME}"]
        place.files.close()


@pytest.mark.parametrize(("code", "says"), [(501, "NotImplemented"), (403, "AccessDenied")])
def test_a_store_that_lists_no_uploads_takes_them_all_the_same(
    seaweed_url: str, source: Path, code: int, says: str
) -> None:  # fmt: skip
    with FaultyProxy(seaweed_url) as proxy:
        place = Place(proxy.url, f"no-list-{code}")

        def unlisted(exchange: Exchange) -> bool:
            if exchange.method == "GET" and "?uploads" in exchange.path:
                exchange.status = code
                exchange.answer = f"<Error><Code>{says}</Code></Error>".encode()
            return False

        proxy.before.append(unlisted)
        place.send(source)
        assert place.files.end_left(datetime.now(UTC)) == 0
        assert place.content() == source.read_bytes()
        place.files.close()


def test_names_that_are_none_and_files_that_are_too_large(place: Place, tmp_path: Path) -> None:
    for name in ("../x", "a/b", "", ".hidden", "a b", "x" * 300):
        with pytest.raises(InvalidRequest):
            place.send(tmp_path / "x", name)
        with pytest.raises(InvalidRequest):
            place.content(name)
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(TooLarge):
        place.send(huge)
