"""Stores that hold conditions, and ones that only say so, servers that are not ours among them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from carrel.objects.conditions import KEY, try_out
from carrel.objects.directory import DirectoryStore
from carrel.objects.location import parse_location
from carrel.objects.open import open_store
from carrel.objects.pace import Pace
from carrel.objects.protocol import ObjectChanged, StoreRefused, StoreUnavailable
from carrel.objects.retry import Patience, PatientStore
from carrel.objects.s3 import S3Store
from tests.fakes.s3_servers import BUCKET, FaultyProxy, answer_lost, options, rclone, seaweed, status

QUICK = Patience(attempts=3, first=0.0, most=0.0)


class NeverRemoves(DirectoryStore):
    """As with keys that may write and not remove."""

    def delete(self, keys: Sequence[str]) -> None:
        raise StoreRefused("no")


def test_one_that_holds_them_again_and_again(tmp_path: Path) -> None:
    for _ in range(3):
        try_out(NeverRemoves(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [KEY, ".carrel-lock"]


def test_one_that_takes_them_and_writes_all_the_same(tmp_path: Path) -> None:
    class Ignoring(DirectoryStore):
        def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
            return super().put(key, data)

    class Half(DirectoryStore):
        """Holds `If-None-Match` alone, as some do: the list could be overwritten."""

        def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
            return super().put(key, data, absent=absent)

    class OtherHalf(DirectoryStore):
        def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
            return super().put(key, data, replaces=replaces)

    for number, kind in enumerate((Ignoring, Half, OtherHalf)):
        for _ in range(2):
            with pytest.raises(StoreRefused, match="conditional_writes: false"):
                try_out(kind(tmp_path / str(number)))


def test_one_that_denies_what_holds(tmp_path: Path) -> None:
    class Denying(DirectoryStore):
        def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
            raise ObjectChanged("no")

    with pytest.raises(StoreRefused, match="where there is none"):
        try_out(Denying(tmp_path))


def test_many_hosts_at_once(tmp_path: Path) -> None:
    with seaweed(tmp_path) as url:
        for number in range(5):
            stores = [S3Store(parse_location(f"s3://{BUCKET}/at-once-{number}"), options(url)) for _ in range(6)]
            with ThreadPoolExecutor(len(stores)) as pool:
                assert list(pool.map(try_out, stores)) == [None] * len(stores)
            for store in stores:
                store.close()


def test_lost_answers_and_faults_prove_nothing_wrong(tmp_path: Path) -> None:
    with seaweed(tmp_path) as url, FaultyProxy(url) as proxy:
        for lost in range(1, 5):
            place = parse_location(f"s3://{BUCKET}/lost-{lost}")
            proxy.after += [*[lambda exchange: exchange.method == "PUT"] * (lost - 1), answer_lost(method="PUT")]
            proxy.before += status(503, method="PUT")
            store = PatientStore(S3Store(place, options(proxy.url)), pace=Pace(), patience=QUICK)
            store.require_conditions()
            assert (proxy.before, proxy.after) == ([], [])
            store.close()


def test_a_server_that_ignores_them_is_never_written_to_on_condition(tmp_path: Path) -> None:
    """This one really does."""
    place = parse_location(f"s3://{BUCKET}/ignores")
    with rclone(tmp_path) as url:
        store = open_store(place, options(url), patience=QUICK)
        for _ in range(2):
            with pytest.raises(StoreRefused, match="conditional_writes: false"):
                store.put("acme/head", b"1", absent=True)
        with pytest.raises(StoreRefused, match="conditional_writes: false"):
            store.put("acme/head", b"1", replaces="any")
        assert [one.key for one in store.list("acme/")] == []
        assert list(store.folders()) == []
        store.close()
        known = open_store(place, options(url, conditional=False))
        known.put("acme/head", b"1", absent=True)
        assert [one.key for one in known.list("acme/")] == ["acme/head"]
        known.close()


def test_one_that_knows_none_is_told_at_once(tmp_path: Path) -> None:
    with seaweed(tmp_path) as url, FaultyProxy(url) as proxy:
        proxy.before += status(501, method="PUT", says="NotImplemented")
        store = open_store(parse_location(f"s3://{BUCKET}/none"), options(proxy.url), patience=QUICK)
        with pytest.raises(StoreRefused, match="conditional_writes: false"):
            store.put("acme/head", b"1", absent=True)
        assert len(proxy.seen) == 1
        store.close()


def test_a_store_that_is_away_is_tried_again_and_nothing_is_known_of_it() -> None:
    store = open_store(parse_location(f"s3://{BUCKET}"), options("http://127.0.0.1:1"), patience=QUICK, proven=set())
    with pytest.raises(StoreUnavailable):
        store.put("acme/head", b"1", absent=True)
    store.close()
