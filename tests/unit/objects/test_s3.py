"""The S3 store against two servers that are not ours, with faults in between."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from carrel.errors import InvalidRequest
from carrel.objects.location import parse_location
from carrel.objects.pace import Pace
from carrel.objects.protocol import (
    ObjectChanged,
    ObjectDamaged,
    ObjectMissing,
    ObjectNotKept,
    StoreRefused,
    StoreUnavailable,
)
from carrel.objects.retry import Patience, PatientStore
from carrel.objects.s3 import S3Options, S3Store
from carrel.secrets import Secret
from tests.fakes.s3_servers import (
    BUCKET,
    Exchange,
    FaultyProxy,
    answer_lost,
    cut_after,
    flipped,
    hanging,
    options,
    status,
    truncated,
)

QUICK = Patience(attempts=3, first=0.0, most=0.0)


@pytest.fixture
def store(url: str, request: pytest.FixtureRequest) -> Iterator[S3Store]:
    made = S3Store(parse_location(f"s3://{BUCKET}/{request.node.name.partition('[')[0]}/a"), options(url))
    yield made
    made.close()


def test_written_read_listed_and_removed(store: S3Store, url: str) -> None:
    tag = store.put("acme/pieces/ab/one", b"one" * 1000)
    store.put("acme/head", b"head")
    assert store.get("acme/pieces/ab/one", most=3000) == (b"one" * 1000, tag)
    beside = S3Store(parse_location(f"s3://{BUCKET}/test_written_read_listed_and_removed/a-evil"), options(url))
    beside.put("acme/other", b"x")
    assert sorted((one.key, one.size) for one in store.list("acme/")) == [
        ("acme/head", 4),
        ("acme/pieces/ab/one", 3000),
    ]
    assert list(store.folders()) == ["acme"]
    store.delete(["acme/pieces/ab/one", "acme/never"])
    with pytest.raises(ObjectMissing):
        store.get("acme/pieces/ab/one", most=3000)
    assert [one.key for one in beside.list("acme/")] == ["acme/other"]
    beside.close()


def test_what_is_too_large_or_no_key(store: S3Store) -> None:
    store.put("a/one", b"12345")
    with pytest.raises(ObjectDamaged):
        store.get("a/one", most=4)
    for key in ("../x", "/x", "a//b"):
        with pytest.raises(InvalidRequest):
            store.get(key, most=4)


def test_conditions_hold_where_the_server_holds_them(seaweed_url: str) -> None:
    store = S3Store(parse_location(f"s3://{BUCKET}/conditions"), options(seaweed_url))
    tag = store.put("a/head", b"1", absent=True)
    with pytest.raises(ObjectChanged):
        store.put("a/head", b"2", absent=True)
    store.put("a/head", b"2", replaces=tag)
    with pytest.raises(ObjectChanged):
        store.put("a/head", b"3", replaces=tag)
    assert store.get("a/head", most=10)[0] == b"2"
    store.close()


@pytest.mark.parametrize(("code", "says"), [(501, "NotImplemented"), (400, "MissingContentMD5")])
def test_a_server_that_removes_one_object_at_a_time(seaweed_url: str, code: int, says: str) -> None:
    with FaultyProxy(seaweed_url) as proxy:
        store = S3Store(parse_location(f"s3://{BUCKET}/each-{code}"), options(proxy.url))
        for name in "abc":
            store.put(f"a/{name}", b"1")
        proxy.before += status(code, method="POST", says=says, times=2)
        store.delete(["a/a", "a/b", "a/none"])
        store.delete(["a/c"])
        assert list(store.list("a/")) == []
        assert len(proxy.before) == 1, "it is found out once"
        store.close()


def letter_by_letter(exchange: Exchange) -> bool:
    """As Ceph's does: a condition is compared with the tag without its quotes."""
    if not exchange.headers.get("If-Match", "").startswith('"'):
        return False
    exchange.status = 412
    exchange.answer = b"<Error><Code>PreconditionFailed</Code></Error>"
    return True


def test_conditions_hold_on_a_server_that_knows_tags_without_their_quotes_alone(seaweed_url: str) -> None:
    with FaultyProxy(seaweed_url) as proxy:
        store = S3Store(parse_location(f"s3://{BUCKET}/letter"), options(proxy.url))
        proxy.before += [letter_by_letter] * 5
        tag = store.put("a/head", b"1", absent=True)
        newer = store.put("a/head", b"2", replaces=tag)
        with pytest.raises(ObjectChanged):
            store.put("a/head", b"3", replaces=tag)
        newest = store.put("a/head", b"3", replaces=newer)
        assert store.get("a/head", most=10) == (b"3", newest)
        assert len(proxy.before) == 4, "it is found out once"
        store.close()


def test_a_server_that_denies_what_holds_is_told_and_not_asked_for_ever(seaweed_url: str) -> None:
    with FaultyProxy(seaweed_url) as proxy:
        store = S3Store(parse_location(f"s3://{BUCKET}/denies"), options(proxy.url))
        tag = store.put("a/head", b"1", absent=True)
        proxy.before += status(412, method="PUT", says="PreconditionFailed", times=2)
        with pytest.raises(StoreRefused, match="whose condition holds"):
            store.put("a/head", b"2", replaces=tag)
        assert proxy.before == []
        store.close()


def test_a_bucket_or_a_server_that_is_not_there(url: str, tmp_path: Path) -> None:
    with pytest.raises((StoreRefused, ObjectMissing)):
        S3Store(parse_location("s3://another-bucket"), options(url)).put("a/b", b"")
    with pytest.raises(StoreUnavailable):
        S3Store(parse_location(f"s3://{BUCKET}"), options("http://127.0.0.1:1")).put("a/b", b"")


def test_a_key_that_is_not_the_right_one(rclone_url: str) -> None:
    wrong = S3Store(parse_location(f"s3://{BUCKET}"), options(rclone_url, secret="secret-canary-of-this-test"))
    with pytest.raises(StoreRefused) as caught:
        wrong.put("a/b", b"")
    assert "secret key" in caught.value.message
    assert "canary" not in caught.value.message
    assert "canary" not in repr(S3Options(secret_key=Secret("canary")))


@pytest.mark.parametrize(
    ("says", "code", "word"),
    [
        ("RequestTimeTooSkewed", 403, "clock"), ("ExpiredToken", 400, "expired"), ("AccessDenied", 403, "may not"),
        ("InvalidAccessKeyId", 403, "access key"), ("Strange", 418, "Strange"),
    ],
)  # fmt: skip
def test_what_is_refused_says_what_to_mend(url: str, says: str, code: int, word: str) -> None:
    with FaultyProxy(url) as proxy:
        proxy.before += status(code, says=says)
        store = PatientStore(S3Store(parse_location(f"s3://{BUCKET}"), options(proxy.url)), pace=Pace(), patience=QUICK)
        with pytest.raises(StoreRefused) as caught:
            store.put("a/b", b"")
        store.close()
        assert word in caught.value.message
        assert len(proxy.seen) == 1


def test_a_clock_that_is_wrong_is_told_by_a_server_that_looks(rclone_url: str) -> None:
    from botocore import auth  # noqa: PLC0415 - as where it is used

    store = S3Store(parse_location(f"s3://{BUCKET}"), options(rclone_url))
    store.put("a/b", b"")
    wrong = dt.datetime(2001, 1, 1)  # noqa: DTZ001 - as the library has it
    with patch.object(auth, "get_current_datetime", lambda **_: wrong), pytest.raises(StoreRefused):
        store.put("a/b", b"")
    store.close()


def test_faults_on_the_way_are_outlived(url: str) -> None:
    with FaultyProxy(url) as proxy:
        location = parse_location(f"s3://{BUCKET}/faults")
        store = PatientStore(S3Store(location, options(proxy.url, read_seconds=2.0)), pace=Pace(), patience=QUICK)
        proxy.before += status(500) + status(503, says="SlowDown")
        store.put("a/one", b"content of it" * 100)
        proxy.after += [cut_after(20)]
        assert store.get("a/one", most=2000)[0] == b"content of it" * 100
        proxy.after += [hanging(method="GET")]
        assert store.get("a/one", most=2000)[0] == b"content of it" * 100
        proxy.after += [answer_lost(method="PUT")]
        store.put("a/one", b"newer")
        proxy.before += status(502, method="GET")
        assert [one.key for one in store.list("a/")] == ["a/one"]
        # What says itself that it is whole is for who knows what it should be.
        proxy.after += [truncated(2, name="a/one"), flipped(name="a/one")]
        assert store.get("a/one", most=2000)[0] == b"ne"
        assert store.get("a/one", most=2000)[0] != b"newer"
        store.close()


@pytest.mark.parametrize("taken", [False, True])
def test_what_was_changed_on_its_way_there_is_not_left_there(url: str, taken: bool) -> None:
    """By a server that verifies digests, and by one that takes what it gets."""
    with FaultyProxy(url) as proxy:
        inner = S3Store(parse_location(f"s3://{BUCKET}/wrong-{taken}"), options(proxy.url))
        store = PatientStore(inner, pace=Pace(), patience=QUICK, proven={""})
        proxy.before += [flipped(upwards=True, taken=taken)]
        tag = store.put("a/one", b"content of it", absent=True)
        assert store.get("a/one", most=2000) == (b"content of it", tag)
        assert [method for method, _ in proxy.seen].count("PUT") == 2
        proxy.before += [flipped(upwards=True, taken=taken), flipped(upwards=True, taken=taken)]
        newer = store.put("a/one", b"newer", replaces=tag)
        assert store.get("a/one", most=2000) == (b"newer", newer)
        store.close()


def test_what_a_server_never_keeps_as_it_was_sent_is_told(seaweed_url: str) -> None:
    with FaultyProxy(seaweed_url) as proxy:
        store = S3Store(parse_location(f"s3://{BUCKET}/never"), options(proxy.url))
        proxy.before += [flipped(upwards=True, taken=True)] * 3
        with pytest.raises(ObjectNotKept, match="does not keep the object a/one as it was sent"):
            store.put("a/one", b"content of it")
        store.close()


def test_tags_that_are_no_digests_are_found_out_once(seaweed_url: str) -> None:
    """As those of stores that encrypt with a key of their own."""
    with FaultyProxy(seaweed_url) as proxy:

        def tagged(exchange: Exchange) -> bool:
            headers = [(name, '"0123"' if name.lower() == "etag" else value) for name, value in exchange.answer_headers]
            exchange.answer_headers = headers
            return False

        proxy.after += [tagged]
        store = S3Store(parse_location(f"s3://{BUCKET}/tags"), options(proxy.url))
        for number in range(3):
            assert store.put(f"a/{number}", b"content of it") == '"0123"'
        assert [method for method, _ in proxy.seen].count("GET") == 1
        store.close()


@pytest.mark.parametrize("theirs", [b"longer, and another host's", b"short"])
def test_what_another_host_wrote_in_between_is_theirs(seaweed_url: str, theirs: bytes) -> None:
    """By a store whose tags are no digests: what is read back is not what was sent, and nothing is wrong with it."""
    with FaultyProxy(seaweed_url) as proxy:
        location = parse_location(f"s3://{BUCKET}/between-{len(theirs)}")
        store, other = S3Store(location, options(proxy.url)), S3Store(location, options(seaweed_url))

        def overwritten(exchange: Exchange) -> bool:
            headers = [(name, '"0123"' if name.lower() == "etag" else value) for name, value in exchange.answer_headers]
            exchange.answer_headers = headers
            other.put("a/one", theirs)
            return True

        proxy.after += [overwritten]
        assert store.put("a/one", b"content of it") == '"0123"'
        assert [method for method, _ in proxy.seen] == ["PUT", "GET"]
        assert other.get("a/one", most=100)[0] == theirs
        for one in (store, other):
            one.close()


def test_a_longer_object_under_our_own_tag_is_wrong(seaweed_url: str) -> None:
    with FaultyProxy(seaweed_url) as proxy:

        def longer(exchange: Exchange) -> bool:
            headers = [(name, '"0123"' if name.lower() == "etag" else value) for name, value in exchange.answer_headers]
            exchange.answer_headers = headers
            exchange.answer += b"and more" if exchange.method == "GET" else b""
            return False

        proxy.after += [longer]
        # Without conditions: the tag is the proxy's own, which the server does not know.
        store = S3Store(parse_location(f"s3://{BUCKET}/longer"), options(proxy.url, conditional=False))
        with pytest.raises(ObjectNotKept):
            store.put("a/one", b"content of it")
        store.close()


def test_a_conditional_write_whose_answer_is_lost_is_known_as_ours(seaweed_url: str) -> None:
    with FaultyProxy(seaweed_url) as proxy:
        inner = S3Store(parse_location(f"s3://{BUCKET}/lost"), options(proxy.url))
        store = PatientStore(inner, pace=Pace(), patience=QUICK, proven={""})
        proxy.after += [answer_lost(method="PUT")]
        tag = store.put("a/head", b"mine", absent=True)
        assert store.get("a/head", most=10) == (b"mine", tag)
        store.close()
