"""Large files against two servers that are not ours, and a directory, with faults in between."""

import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from carrel.errors import InvalidRequest, TooLarge
from carrel.objects.directory_files import DirectoryFiles
from carrel.objects.location import parse_location
from carrel.objects.open import open_files
from carrel.objects.pace import Cancelled, Pace
from carrel.objects.protocol import ObjectChanged, ObjectMissing, ObjectNotKept, StoreRefused, StoreUnavailable
from carrel.objects.retry import Patience
from carrel.objects.s3 import S3Options, S3Store
from carrel.objects.s3_files import S3Files
from carrel.objects.s3_upload import MOST_BYTES, MOST_PARTS, UploadEnded, part_size
from tests.fakes import gcs_server
from tests.fakes.s3_servers import (
    BUCKET,
    Exchange,
    FaultyProxy,
    answer_lost,
    cut_after,
    flipped,
    moto,
    options,
    rclone,
    status,
)

NAME = "acme.tar.gz"
PART = 5 << 20
"""The least that the servers take."""
QUICK = Patience(attempts=3, first=0.0, most=0.0)


@pytest.fixture(scope="module")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto(tmp_path_factory.mktemp("moto")) as url:
        yield url


@pytest.fixture(scope="module")
def rclone_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with rclone(tmp_path_factory.mktemp("rclone")) as url:
        yield url


@pytest.fixture(params=["moto", "rclone"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of two whole parts and a rest, no block of which is as another."""
    path = tmp_path_factory.mktemp("source") / NAME
    path.write_bytes(os.urandom(2 * PART + 12345))
    return path


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.node.name).partition("[")[0]


class Place:
    """A place beneath a server's bucket, and how much was told of."""

    def __init__(
        self, url: str, prefix: str, *, conditional: bool = True, pace: Pace | None = None,
        reached: S3Options | None = None,
    ) -> None:  # fmt: skip
        how = reached or options(url, conditional=conditional)
        self.proven: set[str] = set()
        self.store = S3Store(parse_location(f"s3://{BUCKET}/{prefix}"), how)
        self.pace = pace or Pace()
        self.files = S3Files(self.store, pace=self.pace, patience=QUICK, part=PART, proven=self.proven)
        self.told = 0

    def count(self, more: int) -> None:
        self.told += more

    def send(self, source: Path, name: str = NAME, *, replaces: bool = False) -> None:
        self.files.send(name, source, replaces=replaces, counts=self.count)

    def content(self, name: str = NAME) -> bytes:
        stream, size = self.files.read(name, counts=self.count)
        with stream:
            data = stream.read()
        assert len(data) == size
        return data

    def uploads(self) -> list[str]:
        try:
            with self.store.speaking("") as (s3, named):
                found = s3.list_multipart_uploads(Bucket=named["Bucket"], Prefix=named["Key"])
        except StoreRefused as error:
            assert error.details["reason"] == "NoSuchUpload"  # noqa: PT017 - so rclone says that there is none
            return []
        return [one["Key"] for one in found.get("Uploads", ())]

    def begin(self, name: str = NAME) -> str:
        with self.store.speaking(name) as (s3, named):
            upload: str = s3.create_multipart_upload(**named)["UploadId"]
        return upload


@pytest.fixture
def conditional(request: pytest.FixtureRequest) -> bool:
    """One of the two servers ignores conditions."""
    return "rclone" not in request.node.name


@pytest.fixture
def place(url: str, prefix: str, conditional: bool) -> Iterator[Place]:
    made = Place(url, prefix, conditional=conditional)
    yield made
    made.files.close()


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


def comes_at(method: str, name: str, url: str, prefix: str) -> Callable[[Exchange], bool]:
    """Another's object is there just before a request."""

    def comes(exchange: Exchange) -> bool:
        if exchange.method != method or name not in exchange.path:
            return False
        other = S3Store(parse_location(f"s3://{BUCKET}/{prefix}"), options(url))
        other.put(NAME, b"another's")
        other.close()
        return True

    return comes


def test_one_that_came_meanwhile_is_not_replaced(moto_url: str, source: Path) -> None:
    """The condition is on the end of the upload itself, not on the look before it."""
    with FaultyProxy(moto_url) as proxy:
        place = Place(proxy.url, "meanwhile")
        proxy.before.append(comes_at("POST", "uploadId", moto_url, "meanwhile"))
        with pytest.raises(ObjectChanged, match="already"):
            place.send(source)
        assert place.content() == b"another's"
        assert place.uploads() == []
        place.files.close()


def test_where_conditions_do_not_hold_it_is_looked_for_before_the_end(rclone_url: str, source: Path) -> None:
    with FaultyProxy(rclone_url) as proxy:
        place = Place(proxy.url, "looked", conditional=False)
        proxy.before.append(comes_at("PUT", "partNumber", rclone_url, "looked"))
        with pytest.raises(ObjectChanged, match="already"):
            place.send(source)
        assert place.content() == b"another's"
        place.files.close()


def test_a_store_that_ignores_conditions_is_refused_unless_that_is_declared(rclone_url: str, source: Path) -> None:
    place = Place(rclone_url, "ignores")
    with pytest.raises(StoreRefused, match="ignores conditional writes"):
        place.send(source)
    with pytest.raises(ObjectMissing):
        place.content()
    place.send(source, replaces=True)
    place.files.close()


def on_part(number: int, change: Callable[[Exchange], None]) -> Callable[[Exchange], bool]:
    def fault(exchange: Exchange) -> bool:
        if exchange.method != "PUT" or f"partNumber={number}" not in exchange.path:
            return False
        change(exchange)
        return True

    return fault


def test_a_part_that_fails_is_sent_again_by_itself(url: str, source: Path, conditional: bool) -> None:
    with FaultyProxy(url) as proxy:
        place = Place(proxy.url, "again", conditional=conditional)
        proxy.before += status(503, method="PUT", name="partNumber=1", says="SlowDown")
        proxy.before.append(on_part(2, lambda exchange: setattr(exchange, "lost", True)))
        proxy.before += [flipped(name="partNumber=3", upwards=True)]
        proxy.after += [answer_lost(method="PUT", name="partNumber=3")]
        place.send(source)
        assert place.told == source.stat().st_size
        assert place.content() == source.read_bytes()
        sent = [path for method, path in proxy.seen if method == "PUT"]
        assert [len([path for path in sent if f"partNumber={n}" in path]) >= 2 for n in (1, 2, 3)] == [True] * 3
        place.files.close()


def test_a_part_that_was_taken_otherwise_is_sent_again(moto_url: str, source: Path) -> None:
    """This server takes what it gets: its tag tells."""
    with FaultyProxy(moto_url) as proxy:
        place = Place(proxy.url, "otherwise")
        proxy.before.append(flipped(name="partNumber=2", upwards=True))
        place.send(source)
        assert place.content() == source.read_bytes()
        assert len([path for _, path in proxy.seen if "partNumber=2" in path]) == 2
        place.files.close()


def test_a_part_that_stays_otherwise_makes_no_object(moto_url: str, source: Path) -> None:
    with FaultyProxy(moto_url) as proxy:
        place = Place(proxy.url, "stays")
        proxy.before += [flipped(name="partNumber=2", upwards=True)] * 2
        with pytest.raises(ObjectNotKept):
            place.send(source)
        with pytest.raises(ObjectMissing):
            place.content()
        assert place.uploads() == []
        place.files.close()


def gets(proxy: FaultyProxy) -> int:
    """How often the object was asked for, or what is left of it."""
    return len([path for method, path in proxy.seen if method == "GET" and NAME in path and "uploads" not in path])


def test_where_tags_are_none_the_whole_is_read_back(rclone_url: str, source: Path) -> None:
    with FaultyProxy(rclone_url) as proxy:
        tags: dict[str, str] = {}

        def renamed(exchange: Exchange) -> bool:
            for at, (name, value) in enumerate(exchange.answer_headers):
                if name.lower() == "etag" and "partNumber" in exchange.path:
                    tags[value[::-1]] = value
                    exchange.answer_headers[at] = (name, value[::-1])
            if exchange.method == "POST" and b"CompleteMultipartUploadResult" in exchange.answer:
                exchange.answer = exchange.answer.replace(b"<ETag>", b"<ETag>0")
            return False

        def back(exchange: Exchange) -> bool:
            for given, own in tags.items():
                exchange.body = exchange.body.replace(given.strip('"').encode(), own.strip('"').encode())
            exchange.headers["Content-Length"] = str(len(exchange.body))
            return False

        proxy.after.append(renamed)
        proxy.before.append(back)
        place = Place(proxy.url, "tags", conditional=False)
        place.send(source)
        assert gets(proxy) == 1
        assert place.content() == source.read_bytes()
        place.files.close()


def test_a_lost_answer_to_its_end_is_told_from_anothers_object(
    url: str, source: Path, prefix: str, conditional: bool
) -> None:
    with FaultyProxy(url) as proxy:
        place = Place(proxy.url, prefix, conditional=conditional)
        proxy.after.append(answer_lost(method="POST", name="uploadId"))
        place.send(source)
        assert place.content() == source.read_bytes()
        place.files.close()


def test_an_error_in_an_answer_that_says_200(moto_url: str, source: Path) -> None:
    with FaultyProxy(moto_url) as proxy:
        place = Place(proxy.url, "two-hundred")
        proxy.before += status(200, method="POST", name="uploadId", says="InternalError")
        place.send(source)
        assert place.content() == source.read_bytes()
        proxy.before += status(200, method="POST", name="uploadId", says="PreconditionFailed")
        with pytest.raises(ObjectChanged, match="already"):
            place.send(source, "other.tar.gz")
        assert place.uploads() == []
        place.files.close()


def test_a_store_without_the_condition_says_what_to_do(moto_url: str, source: Path) -> None:
    with FaultyProxy(moto_url) as proxy:
        place = Place(proxy.url, "no-condition")
        proxy.before += status(501, method="POST", name="uploadId", says="NotImplemented")
        with pytest.raises(StoreRefused, match="conditional_writes: false"):
            place.send(source)
        assert place.uploads() == []
        place.files.close()


def test_what_fails_leaves_no_parts(url: str, source: Path, prefix: str, conditional: bool) -> None:
    with FaultyProxy(url) as proxy:
        place = Place(proxy.url, prefix, conditional=conditional)
        proxy.before += status(503, method="PUT", name="partNumber=2", says="SlowDown", times=9)
        with pytest.raises(StoreUnavailable):
            place.send(source)
        after = Place(url, prefix)
        assert after.uploads() == []
        with pytest.raises(ObjectMissing):
            after.content()
        place.files.close()
        after.files.close()


def test_what_is_stopped_leaves_no_parts(url: str, source: Path, prefix: str, conditional: bool) -> None:
    with FaultyProxy(url) as proxy:
        place = Place(proxy.url, prefix, conditional=conditional)
        proxy.before.append(on_part(1, lambda _: place.pace.stop()))
        with pytest.raises(Cancelled):
            place.send(source)
        assert place.uploads() == []
        assert any(method == "DELETE" for method, _ in proxy.seen)
        place.files.close()


def test_one_that_somebody_else_ends(moto_url: str, source: Path) -> None:
    with FaultyProxy(moto_url) as proxy:
        place = Place(proxy.url, "ended")
        proxy.before += status(404, method="PUT", name="partNumber=2", says="NoSuchUpload")
        with pytest.raises(UploadEnded, match="somebody else"):
            place.send(source)
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


def test_one_of_which_something_came_lately_is_not_ended(moto_url: str) -> None:
    """This server says of every upload that it was begun years ago."""
    place = Place(moto_url, "lately")
    upload = place.begin()
    place.begin("other.tar.gz")
    with place.store.speaking(NAME) as (s3, named):
        s3.upload_part(**named, UploadId=upload, PartNumber=1, Body=b"x")
    assert place.files.end_left(datetime.now(UTC) - timedelta(days=1)) == 1
    assert place.uploads() == [f"lately/{NAME}"]
    place.files.close()


@pytest.mark.parametrize(("code", "says"), [(501, "NotImplemented"), (403, "AccessDenied")])
def test_a_store_that_lists_no_uploads_takes_them_all_the_same(
    moto_url: str, source: Path, code: int, says: str
) -> None:  # fmt: skip
    with FaultyProxy(moto_url) as proxy:
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


def test_read_on_from_where_it_broke_off(url: str, source: Path, prefix: str, conditional: bool) -> None:
    with FaultyProxy(url) as proxy:
        place = Place(proxy.url, prefix, conditional=conditional)
        place.send(source)
        proxy.after += [cut_after(PART, name=NAME), cut_after(3 << 20, name=NAME), cut_after(0, name=NAME)]
        proxy.before += status(503, method="GET", name=NAME, says="SlowDown")
        before = place.told
        assert place.content() == source.read_bytes()
        assert place.told - before == source.stat().st_size
        assert gets(proxy) == 5
        place.files.close()


def test_one_that_is_replaced_while_it_is_read(
    url: str, source: Path, tmp_path: Path, prefix: str, conditional: bool
) -> None:
    with FaultyProxy(url) as proxy:
        place = Place(proxy.url, prefix, conditional=conditional)
        place.send(source)
        other = tmp_path / "other"
        other.write_bytes(os.urandom(source.stat().st_size))
        proxy.after.append(cut_after(1 << 20, name=NAME))
        stream, _ = place.files.read(NAME, counts=place.count)
        stream.read(1 << 19)
        Place(url, prefix).send(other, replaces=True)
        with pytest.raises(ObjectChanged, match="replaced"), stream:
            stream.read()
        place.files.close()


def test_a_store_that_gives_no_part_of_an_object(moto_url: str, source: Path) -> None:
    with FaultyProxy(moto_url) as proxy:
        place = Place(proxy.url, "whole-only")
        place.send(source)

        def whole(exchange: Exchange) -> bool:
            exchange.headers.pop("Range", None)
            return False

        proxy.before.append(whole)
        proxy.after.append(cut_after(1 << 20, name=NAME))
        with pytest.raises(StoreRefused, match="broke off"):
            place.content()
        place.files.close()


def test_google_has_no_condition_there_and_other_tags(source: Path, tmp_path: Path) -> None:
    """So it is looked for as late as can be, and read back."""
    small = tmp_path / "small"
    small.write_bytes(b"small")
    with gcs_server.GoogleStorage() as server:
        place = Place(server.url, "google", reached=gcs_server.options(server.url))
        place.begin()
        place.send(source)
        assert (server.uploads, [one.method for one in server.asked[-3:]]) == ({}, ["POST", "HEAD", "GET"])
        assert place.content() == source.read_bytes()
        for other in (source, small):
            with pytest.raises(ObjectChanged, match="already"):
                place.send(other)
        place.send(small, replaces=True)
        place.send(source, replaces=True)
        assert place.content() == source.read_bytes()
        place.send(small, "other.tar.gz")
        place.files.close()


def test_a_pace_is_kept_by_all_parts_together(moto_url: str, source: Path) -> None:
    spent: list[int] = []
    lock = threading.Lock()

    class Counting(Pace):
        def spend(self, count: int) -> None:
            with lock:
                spent.append(count)

    place = Place(moto_url, "pace", pace=Counting())
    place.send(source)
    assert sum(spent) == source.stat().st_size
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


def test_parts_are_larger_where_so_many_would_not_do() -> None:
    usual = 16 << 20
    assert part_size(0) == part_size(usual * MOST_PARTS) == usual
    assert part_size(usual * MOST_PARTS + 1) == usual + (1 << 20)
    assert -(-MOST_BYTES // part_size(MOST_BYTES)) <= MOST_PARTS


def test_opened_by_where_it_is(tmp_path: Path, moto_url: str) -> None:
    found: list[Any] = [open_files(parse_location(f"file://{tmp_path}"), options(moto_url)),
                        open_files(parse_location(f"s3://{BUCKET}/x"), options(moto_url))]  # fmt: skip
    assert [type(one) for one in found] == [DirectoryFiles, S3Files]
    for one in found:
        one.close()
