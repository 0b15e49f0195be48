"""One file on its way into S3, with faults in between."""

import threading
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from carrel.objects.pace import Cancelled, Pace
from carrel.objects.protocol import ObjectChanged, ObjectMissing, ObjectNotKept, StoreRefused, StoreUnavailable
from carrel.objects.s3_upload import MOST_BYTES, MOST_PARTS, UploadEnded, part_size
from tests.fakes import gcs_server
from tests.fakes.s3_servers import (
    Exchange,
    FaultyProxy,
    answer_lost,
    flipped,
    hanging,
    options,
    status,
)
from tests.unit.objects.harness import Place, comes_at, gets, on_part


def at_the_end(change: Callable[[], None]) -> Callable[[Exchange], bool]:
    def fault(exchange: Exchange) -> bool:
        if exchange.method != "POST" or "uploadId" not in exchange.path:
            return False
        change()
        return True

    return fault


def test_one_that_came_meanwhile_is_not_replaced(seaweed_url: str, source: Path) -> None:
    """The condition is on the end of the upload itself, not on the look before it."""
    with FaultyProxy(seaweed_url) as proxy:
        place = Place(proxy.url, "meanwhile")
        proxy.before.append(comes_at("POST", "uploadId", seaweed_url, "meanwhile"))
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


def test_a_part_that_was_taken_otherwise_is_sent_again(seaweed_url: str, source: Path) -> None:
    """By a server that takes what it gets: its tag tells."""
    with FaultyProxy(seaweed_url) as proxy:
        place = Place(proxy.url, "otherwise")
        proxy.before.append(flipped(name="partNumber=2", upwards=True, taken=True))
        place.send(source)
        assert place.content() == source.read_bytes()
        assert len([path for _, path in proxy.seen if "partNumber=2" in path]) == 2
        place.files.close()


def test_a_part_that_stays_otherwise_makes_no_object(seaweed_url: str, source: Path) -> None:
    with FaultyProxy(seaweed_url) as proxy:
        place = Place(proxy.url, "stays")
        proxy.before += [flipped(name="partNumber=2", upwards=True, taken=True)] * 2
        with pytest.raises(ObjectNotKept):
            place.send(source)
        with pytest.raises(ObjectMissing):
            place.content()
        assert place.uploads() == []
        place.files.close()


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


def test_an_error_in_an_answer_that_says_200(seaweed_url: str, source: Path) -> None:
    with FaultyProxy(seaweed_url) as proxy:
        place = Place(proxy.url, "two-hundred")
        proxy.before += status(200, method="POST", name="uploadId", says="InternalError")
        place.send(source)
        assert place.content() == source.read_bytes()
        proxy.before += status(200, method="POST", name="uploadId", says="PreconditionFailed")
        with pytest.raises(ObjectChanged, match="already"):
            place.send(source, "other.tar.gz")
        assert place.uploads() == []
        place.files.close()


def test_a_store_without_the_condition_says_what_to_do(seaweed_url: str, source: Path) -> None:
    with FaultyProxy(seaweed_url) as proxy:
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


@pytest.mark.parametrize("lost", [False, True])
def test_one_that_is_stopped_while_it_ends_is_told_as_what_it_is(seaweed_url: str, source: Path, lost: bool) -> None:
    """What is on its way comes to its end: whoever was told that nothing is there would find it there."""
    with FaultyProxy(seaweed_url) as proxy:
        place = Place(proxy.url, f"stopped-{lost}")
        proxy.before.append(at_the_end(place.pace.stop))
        if lost:
            proxy.after.append(answer_lost(method="POST", name="uploadId"))
        place.send(source)
        after = Place(seaweed_url, f"stopped-{lost}")
        assert (after.content(), after.uploads()) == (source.read_bytes(), [])
        place.files.close()
        after.files.close()


def test_one_that_is_stopped_while_it_is_read_back_is_taken_away(seaweed_url: str, source: Path) -> None:
    """Of a store whose tags are no digests."""

    def renamed(exchange: Exchange) -> bool:
        for at, (name, value) in enumerate(exchange.answer_headers):
            if name.lower() == "etag" and exchange.method == "HEAD":
                exchange.answer_headers[at] = (name, "0" + value)
        exchange.answer = exchange.answer.replace(b"<ETag>", b"<ETag>0")
        return False

    with FaultyProxy(seaweed_url) as proxy:
        place = Place(proxy.url, "stopped-back")
        proxy.after.append(renamed)
        proxy.before.append(at_the_end(place.pace.stop))
        with pytest.raises(Cancelled):
            place.send(source)
        assert any(method == "POST" and "uploadId" in path for method, path in proxy.seen)
        after = Place(seaweed_url, "stopped-back")
        with pytest.raises(ObjectMissing):
            after.content()
        place.files.close()
        after.files.close()


def test_one_that_somebody_else_ends(seaweed_url: str, source: Path) -> None:
    with FaultyProxy(seaweed_url) as proxy:
        place = Place(proxy.url, "ended")
        proxy.before += status(404, method="PUT", name="partNumber=2", says="NoSuchUpload")
        with pytest.raises(UploadEnded, match="somebody else"):
            place.send(source)
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


def test_a_pace_is_kept_by_all_parts_together(seaweed_url: str, source: Path) -> None:
    spent: list[int] = []
    lock = threading.Lock()

    class Counting(Pace):
        def spend(self, count: int) -> None:
            with lock:
                spent.append(count)

    place = Place(seaweed_url, "pace", pace=Counting())
    place.send(source)
    assert sum(spent) == source.stat().st_size
    place.files.close()


def test_parts_are_larger_where_so_many_would_not_do() -> None:
    usual = 16 << 20
    assert part_size(0) == part_size(usual * MOST_PARTS) == usual
    assert part_size(usual * MOST_PARTS + 1) == usual + (1 << 20)
    assert -(-MOST_BYTES // part_size(MOST_BYTES)) <= MOST_PARTS


def test_a_store_that_hangs_is_not_waited_for_long_when_an_upload_is_ended(seaweed_url: str, source: Path) -> None:
    """What is left of it is ended by the next one of that name."""
    with FaultyProxy(seaweed_url) as proxy:
        patient = options(proxy.url, read_seconds=300.0)
        place = Place(proxy.url, "hangs", reached=patient)
        with patch("carrel.objects.s3._HASTY", 0.2):
            proxy.before += status(503, method="PUT", name="partNumber=1", says="SlowDown", times=9)
            proxy.before += [hanging(method="DELETE")] * 2
            with pytest.raises(StoreUnavailable):
                place.send(source)
        assert [method for method, _ in proxy.seen].count("DELETE") == 2
        after = Place(seaweed_url, "hangs")
        assert len(after.uploads()) == 1
        after.send(source)
        assert after.uploads() == []
        place.files.close()
        after.files.close()
