"""Google's dialect, against a server that speaks it by its documentation."""

import datetime as dt
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from carrel.objects.conditions import KEY, try_out
from carrel.objects.location import parse_location
from carrel.objects.open import open_store
from carrel.objects.pace import Pace
from carrel.objects.protocol import ObjectChanged, ObjectMissing, ObjectNotKept, StoreRefused, StoreUnavailable
from carrel.objects.retry import Patience, PatientStore
from carrel.objects.s3 import S3Options, S3Store
from carrel.objects.s3_files import S3Files
from carrel.secrets import Secret
from tests.fakes.gcs_server import ACCESS, BUCKET, SECRET, Asked, GoogleStorage, Upload, options, signature_of
from tests.fakes.s3_servers import FaultyProxy, answer_lost, cut_after, flipped, status

PLACE = parse_location(f"s3://{BUCKET}/carrel")
PART = 5 << 20
QUICK = Patience(attempts=3, first=0.0, most=0.0)


@pytest.fixture
def google() -> Iterator[GoogleStorage]:
    with GoogleStorage() as server:
        yield server


@pytest.fixture
def store(google: GoogleStorage) -> Iterator[S3Store]:
    made = S3Store(PLACE, options(google.url))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("endpoint", "dialect", "spoken"),
    [
        ("https://storage.googleapis.com", None, True), ("https://storage.us-east1.rep.googleapis.com", None, True),
        ("https://STORAGE.googleapis.com:443/", None, True), ("https://storage.googleapis.com", "s3", False),
        ("https://proxy.example", "gcs", True), ("https://proxy.example", None, False), (None, None, False),
        ("https://storage.googleapis.com.example", None, False), ("https://evilgoogleapis.com", None, False),
    ],
)  # fmt: skip
def test_to_whom_it_is_spoken(endpoint: str | None, dialect: str | None, spoken: bool) -> None:
    assert S3Options(endpoint=endpoint, dialect=dialect).google is spoken  # type: ignore[arg-type] # one of the two


def test_written_read_listed_and_removed(store: S3Store, google: GoogleStorage) -> None:
    tag = store.put("acme/pieces/ab/one", b"one" * 1000)
    assert tag.endswith(f':{google.objects["carrel/acme/pieces/ab/one"].generation}"')
    assert store.get("acme/pieces/ab/one", most=3000) == (b"one" * 1000, tag)
    store.put("acme/head", b"head")
    google.objects["carrel-evil/acme/x"] = google.objects["carrel/acme/head"]
    assert [(one.key, one.size) for one in store.list("acme/")] == [("acme/head", 4), ("acme/pieces/ab/one", 3000)]
    assert list(store.folders()) == ["acme"]
    store.delete(["acme/pieces/ab/one", "acme/never"])
    with pytest.raises(ObjectMissing):
        store.get("acme/pieces/ab/one", most=3000)
    assert [one.key for one in store.list("")] == ["acme/head"]
    for asked in google.asked:
        assert not [name for name in asked.headers if name.startswith("x-amz-")]
        assert asked.headers["authorization"].startswith("GOOG4-HMAC-SHA256 ")


def test_a_listing_of_many_pages(store: S3Store, google: GoogleStorage) -> None:
    google.page = 3
    for number in range(10):
        store.put(f"acme/pieces/{number}", b"")
    assert [one.key for one in store.list("acme/")] == [f"acme/pieces/{number}" for number in range(10)]


def test_removing_where_many_cannot_be_removed_together(store: S3Store, google: GoogleStorage) -> None:
    google.together = False
    for name in "abc":
        store.put(f"a/{name}", b"1")
    store.delete(["a/a", "a/b", "a/none"])
    store.delete(["a/c"])
    assert list(store.list("a/")) == []
    assert [asked.method for asked in google.asked].count("POST") == 1


def test_writes_go_by_generations(store: S3Store, google: GoogleStorage) -> None:
    tag = store.put("a/head", b"1", absent=True)
    with pytest.raises(ObjectChanged):
        store.put("a/head", b"2", absent=True)
    newer = store.put("a/head", b"2", replaces=tag)
    with pytest.raises(ObjectChanged):
        store.put("a/head", b"3", replaces=tag)
    # The same content again is another generation: a tag never comes back.
    again = store.put("a/head", b"1", replaces=newer)
    assert again != tag
    with pytest.raises(ObjectChanged):
        store.put("a/head", b"3", replaces=tag)
    store.delete(["a/head"])
    for wanted in (again, '"a-tag-of-another-store"'):
        with pytest.raises(ObjectChanged):
            store.put("a/head", b"3", replaces=wanted)
    assert not any("if-match" in asked.headers or "if-none-match" in asked.headers for asked in google.asked)
    try_out(store)


def test_what_arrived_is_told_also_where_tags_are_no_digests(store: S3Store, google: GoogleStorage) -> None:
    """As with an encryption key of the bucket's own."""
    google.own_keys = True
    tag = store.put("a/head", b"1", absent=True)
    store.put("a/head", b"1", replaces=tag)
    assert [asked.method for asked in google.asked] == ["PUT", "PUT"], "it is not read back"
    assert tag.startswith(f'"{hashlib.md5(b"1", usedforsecurity=False).hexdigest()}:')


def test_in_amazons_words_its_conditions_are_ignored_which_is_found_out(google: GoogleStorage) -> None:
    """The library signs these by itself, so that the server verifies signatures as others make them."""
    store = S3Store(PLACE, options(google.url, dialect="s3"))
    tag = store.put("a/head", b"1", absent=True)
    store.put("a/head", b"2", absent=True)
    store.put("a/head", b"3", replaces=tag)
    assert store.get("a/head", most=10)[0] == b"3"
    assert [one.key for one in store.list("a/")] == ["a/head"]
    store.close()
    assert all(asked.headers["authorization"].startswith("AWS4-HMAC-SHA256 ") for asked in google.asked)
    patient = open_store(PLACE, options(google.url, dialect="s3"), patience=QUICK)
    with pytest.raises(StoreRefused, match="ignores conditional writes"):
        patient.put("acme/head", b"1", absent=True)
    assert {*google.objects} == {"carrel/a/head", f"carrel/{KEY}"}
    patient.close()
    native = open_store(PLACE, options(google.url), patience=QUICK)
    native.put("acme/head", b"1", absent=True)
    native.close()


def test_many_hosts_add_to_one_object_and_none_is_lost(google: GoogleStorage) -> None:
    def add(number: int) -> int:
        store, tries = open_store(PLACE, options(google.url)), 0
        try:
            while True:
                tries += 1
                try:
                    data, tag = store.get("acme/head", most=1000)
                    store.put("acme/head", data + bytes([number]), replaces=tag)
                except ObjectChanged:
                    continue
                return tries
        finally:
            store.close()

    first = open_store(PLACE, options(google.url))
    first.put("acme/head", b"", absent=True)
    first.close()
    with ThreadPoolExecutor(8) as pool:
        tries = sum(pool.map(add, range(24)))
    assert sorted(google.objects["carrel/acme/head"].data) == list(range(24))
    assert tries >= 24


def test_faults_on_the_way_are_outlived(google: GoogleStorage) -> None:
    with FaultyProxy(google.url) as proxy:
        store = PatientStore(S3Store(PLACE, options(proxy.url)), pace=Pace(), patience=QUICK, proven={""})
        proxy.after += [answer_lost(method="PUT")]
        tag = store.put("a/head", b"mine", absent=True)
        assert store.get("a/head", most=10) == (b"mine", tag)
        # More than a write a second to one object is asked to wait.
        proxy.before += [*status(429, method="PUT", says="SlowDown"), flipped(upwards=True)]
        newer = store.put("a/head", b"newer", replaces=tag)
        assert store.get("a/head", most=10) == (b"newer", newer)
        store.close()


@pytest.mark.parametrize(("keys", "word"), [({"secret": "wrong"}, "secret key"), ({}, "clock")])
def test_what_is_refused_says_what_to_mend(google: GoogleStorage, keys: dict[str, str], word: str) -> None:
    if not keys:
        google.now = lambda: dt.datetime(2001, 1, 1, tzinfo=dt.UTC)
    store = S3Store(PLACE, options(google.url, **keys))  # type: ignore[arg-type] # names that it has
    with pytest.raises(StoreRefused, match=word):
        store.put("a/b", b"")
    store.close()


def test_keys_that_are_none_of_googles(google: GoogleStorage) -> None:
    key, none = Secret("GOOG"), S3Options(dialect="gcs", endpoint=google.url)
    other = replace(none, access_key=key, secret_key=key)
    for wrong, word in (
        (none, "no credentials"), (replace(none, access_key=key), "no credentials"), (other, "access key"),
        (replace(other, session_token=key), "leave it out"),
    ):  # fmt: skip
        store = S3Store(PLACE, wrong)
        with pytest.raises(StoreRefused, match=word):
            store.put("a/b", b"")
        store.close()


def test_a_server_that_is_away() -> None:
    with pytest.raises(StoreUnavailable):
        S3Store(PLACE, options("http://127.0.0.1:1")).put("a/b", b"")


def test_no_upload_in_parts_is_completed_on_a_condition_that_would_be_ignored(google: GoogleStorage) -> None:
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415 - as where it is used
    from botocore.credentials import Credentials  # noqa: PLC0415 - as above

    from carrel.objects.gcs import GoogleAuth  # noqa: PLC0415 - it loads the library

    auth = GoogleAuth(Credentials(ACCESS, SECRET), "storage", "auto")
    for headers in ({"If-None-Match": "*"}, {"If-Match": '"a:1"'}):
        request = AWSRequest("POST", f"{google.url}/{BUCKET}/a?uploadId=1", headers=headers, data=b"<x/>")
        with pytest.raises(StoreRefused, match="in parts"):
            auth.add_auth(request)
    request = AWSRequest("POST", f"{google.url}/{BUCKET}/a?uploadId=1", data=b"<x/>")
    auth.add_auth(request)
    assert request.headers["Content-MD5"]


def test_a_large_file_goes_up_in_parts_and_comes_back(google: GoogleStorage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(2 * PART + 12345))
    with FaultyProxy(google.url) as proxy:
        files = S3Files(S3Store(PLACE, options(proxy.url)), pace=Pace(), patience=QUICK, part=PART)
        told: list[int] = []
        proxy.before += [*status(503, method="PUT", name="partNumber=1"), flipped(name="partNumber=3", upwards=True)]
        proxy.after += [answer_lost(method="POST", name="uploadId"), cut_after(PART, name="one.tar.gz")]
        files.send("one.tar.gz", source, replaces=False, counts=told.append)
        stream, size = files.read("one.tar.gz", counts=told.append)
        with stream:
            assert (stream.read(), size) == (source.read_bytes(), source.stat().st_size)
        assert (proxy.before, proxy.after) == ([], [])
        # Google has no condition for its end: it is looked for what is there.
        with pytest.raises(ObjectChanged, match="already"):
            files.send("one.tar.gz", source, replaces=False, counts=told.append)
        google.uploads["left"] = Upload("carrel/one.tar.gz", dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        google.uploads["others"] = Upload("carrel-other/one.tar.gz", dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        files.send("one.tar.gz", source, replaces=True, counts=told.append)
        assert {*google.uploads} == {"others"}
        google.uploads["old"] = Upload("carrel/two.tar.gz", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), {1: ('"a"', b"")})
        assert files.end_left(dt.datetime(2026, 1, 2, tzinfo=dt.UTC)) == 1
        small = tmp_path / "small"
        small.write_bytes(b"small")
        with pytest.raises(ObjectChanged, match="already"):
            files.send("one.tar.gz", small, replaces=False, counts=told.append)
        files.close()


def test_a_large_file_that_is_not_as_it_was_sent_is_not_left_there(google: GoogleStorage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(PART + 1))
    files = S3Files(S3Store(PLACE, options(google.url)), pace=Pace(), patience=QUICK, part=PART)
    google.assembled = lambda data: data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(ObjectNotKept):
        files.send("one.tar.gz", source, replaces=False, counts=lambda _: None)
    assert {*google.objects} == {f"carrel/{KEY}"}
    files.close()


def test_a_signature_is_as_others_make_it() -> None:
    """To read the object of an example of Google's documentation; the value is what another implementation gives."""
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415 - as where it is used
    from botocore.credentials import Credentials  # noqa: PLC0415 - as above

    from carrel.objects import gcs  # noqa: PLC0415 - it loads the library

    known = "f3a63605da392b4fabe0b746170b83facf06afdc935abbff04fa37db0a1cac1e"
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    at, scope = "20190301T190859Z", "20190301/auto/storage/goog4_request"
    empty = hashlib.sha256(b"").hexdigest()
    headers = {"host": "storage.googleapis.com", "x-goog-content-sha256": empty, "x-goog-date": at}
    asked = Asked("GET", "/example-bucket/tabby.jpeg", "", headers, b"")
    found = signature_of(
        asked, secret, algorithm="GOOG4-HMAC-SHA256", scope=scope, at=at, names=sorted(headers)
    )  # fmt: skip
    assert found == known
    request = AWSRequest("GET", "https://storage.googleapis.com/example-bucket/tabby.jpeg")
    moment = dt.datetime(2019, 3, 1, 19, 8, 59)  # noqa: DTZ001 - as the library has it
    with patch.object(gcs, "get_current_datetime", lambda: moment):
        gcs.GoogleAuth(Credentials("GOOG1EXAMPLE", secret), "storage", "auto").add_auth(request)
    assert request.headers["Authorization"] == (
        f"GOOG4-HMAC-SHA256 Credential=GOOG1EXAMPLE/{scope}, SignedHeaders=host;x-goog-content-sha256;x-goog-date, "
        f"Signature={known}"
    )
