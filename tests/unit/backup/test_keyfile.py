"""A repository's key is in its store twice: whichever of the two is lost, nothing else is."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from carrel.backup.catalogue import OfLaterVersion
from carrel.backup.keyfile import COPY, FIRST, NoRepository, find
from carrel.backup.progress import Progress
from carrel.backup.repository import Repository
from carrel.backup.run import back_up
from carrel.ids import TenantId
from carrel.objects.directory import DirectoryStore
from carrel.objects.protocol import ObjectDamaged, StoreRefused
from carrel.vault.box import SealBroken
from carrel.vault.keys import MasterKeys, MasterKeyUnusable
from tests.fakes.backups import KEYS, full_tenant, means, subject, tree
from tests.fakes.clock import FakeClock

ACME = TenantId("acme")
NOW = FakeClock().now()
BOTH = MasterKeys({1: b"1" * 32, 2: b"2" * 32}, source="test")
NEW = MasterKeys({2: b"2" * 32}, source="test")
Spoil = Callable[[Path], object]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def both(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "acme" / FIRST, tmp_path / "acme" / COPY


def changed(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def flipped(path: Path) -> None:
    key = json.loads(path.read_text())["key"]
    sealed = bytearray(base64.b64decode(key["sealed"]))
    sealed[-1] ^= 1
    changed(path, key={**key, "sealed": base64.b64encode(sealed).decode()})


SPOILS: dict[str, Spoil] = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "huge": lambda path: path.write_bytes(bytes(1 << 20)),
    "deep": lambda path: path.write_bytes(b"[" * 60_000),
    "no object": lambda path: path.write_bytes(b"7"),
    "flipped": flipped,
    "no base64": lambda path: changed(path, key={"version": 1, "sealed": "Q1Y=*"}),
    "two versions": lambda path: changed(path, key={**json.loads(path.read_text())["key"], "version": 2}),
    "another's": lambda path: changed(path, tenant="zeta"),
    "another id": lambda path: changed(path, id="0" * 32),
}


def test_both_are_alike_from_the_first_backup_on(store: DirectoryStore, tmp_path: Path) -> None:
    Repository.make(store, ACME, KEYS, NOW)
    first, copy = both(tmp_path)
    assert first.read_bytes() == copy.read_bytes()
    assert Repository.at(store, ACME, KEYS).wrong == ""


@pytest.mark.parametrize("how", list(SPOILS))
@pytest.mark.parametrize("which", [FIRST, COPY])
def test_one_that_is_lost_or_damaged_is_made_good_from_the_other(
    store: DirectoryStore, tmp_path: Path, which: str, how: str
) -> None:
    made = Repository.make(store, ACME, KEYS, NOW)
    whole = (tmp_path / "acme" / FIRST).read_bytes()
    SPOILS[how](tmp_path / "acme" / which)
    before = tree(tmp_path)
    looked = Repository.at(store, ACME, KEYS)
    assert looked.id == made.id
    # A copy that is not there is one that an older version did not write.
    assert (which in looked.wrong) == ((which, how) != (COPY, "gone"))
    assert tree(tmp_path) == before
    assert Repository.make(store, ACME, KEYS, NOW).id == made.id
    assert [path.read_bytes() for path in both(tmp_path)] == [whole, whole]
    assert Repository.at(store, ACME, KEYS).wrong == ""


def test_where_both_are_lost_nothing_is_begun_anew_and_nobody_is_told_of_no_backups(tmp_path: Path) -> None:
    tenant = full_tenant(tmp_path, large=0)
    work = means(tmp_path)
    back_up(subject(tenant), work, Progress())
    for name in (FIRST, COPY):
        (tmp_path / "store/acme" / name).unlink()
    for ask in (lambda: Repository.at(work.store, ACME, KEYS), lambda: back_up(subject(tenant), work, Progress())):
        with pytest.raises(ObjectDamaged, match="is gone"):
            ask()
    for name in (FIRST, COPY):
        (tmp_path / "store/acme" / name).write_bytes(b"{}")
    with pytest.raises(ObjectDamaged, match=FIRST):
        back_up(subject(tenant), work, Progress())
    tenant.root.close()
    with pytest.raises(NoRepository):
        Repository.at(work.store, TenantId("zeta"), KEYS)


def test_a_backup_opens_by_the_copy_alone(tmp_path: Path) -> None:
    tenant = full_tenant(tmp_path, large=0)
    work = means(tmp_path)
    made = [back_up(subject(tenant), work, Progress())]
    (tmp_path / "store/acme" / FIRST).unlink()
    made.append(back_up(subject(tenant), work, Progress()))
    tenant.root.close()
    head, _ = Repository.at(work.store, ACME, KEYS).head()
    assert list(head.backups) == made


def test_S5_04_only_a_backup_seals_the_key_anew(store: DirectoryStore, tmp_path: Path) -> None:
    """A look by a host with a newer key of its own would shut out the one that backs up there."""
    Repository.make(store, ACME, KEYS, NOW)
    before = tree(tmp_path)
    Repository.at(store, ACME, BOTH)
    assert tree(tmp_path) == before
    Repository.make(store, ACME, BOTH, NOW)
    first, copy = both(tmp_path)
    assert first.read_bytes() == copy.read_bytes()
    with pytest.raises(MasterKeyUnusable, match="the key of acme's backups, is sealed by version 2"):
        Repository.at(store, ACME, KEYS)
    Repository.at(store, ACME, NEW)


def test_S5_04_a_copy_under_an_older_master_key_is_sealed_anew_too(store: DirectoryStore, tmp_path: Path) -> None:
    Repository.make(store, ACME, KEYS, NOW)
    first, copy = both(tmp_path)
    old = copy.read_bytes()
    Repository.make(store, ACME, BOTH, NOW)
    copy.write_bytes(old)
    Repository.make(store, ACME, BOTH, NOW)
    assert first.read_bytes() == copy.read_bytes() != old


def test_what_only_another_master_key_or_a_later_version_opens_stays(store: DirectoryStore, tmp_path: Path) -> None:
    Repository.make(store, ACME, KEYS, NOW)
    first, copy = both(tmp_path)
    old = first.read_bytes()
    Repository.make(store, ACME, BOTH, NOW)
    copy.write_bytes(old)
    with pytest.raises(MasterKeyUnusable):
        Repository.make(store, ACME, KEYS, NOW)
    first.write_bytes(old)
    for fields in ({"format": 2}, {"of_a_later_version": 1}):
        copy.write_bytes(old)
        changed(copy, **fields)
        before = tree(tmp_path)
        assert COPY in Repository.make(store, ACME, KEYS, NOW).wrong
        first_was = first.read_bytes()
        first.write_bytes(copy.read_bytes())
        with pytest.raises(OfLaterVersion):
            Repository.make(store, ACME, KEYS, NOW)
        first.write_bytes(first_was)
        assert tree(tmp_path) == before
    with pytest.raises(SealBroken, match="test is another master key"):
        Repository.at(store, ACME, MasterKeys({1: b"x" * 32}, source="test"))


@pytest.mark.parametrize("with_list", [True, False])
def test_of_two_keys_the_one_is_taken_that_opens_what_is_there_and_both_stay(tmp_path: Path, with_list: bool) -> None:
    tenant = full_tenant(tmp_path, large=0)
    work, other = means(tmp_path), means(tmp_path / "other")
    made = [back_up(subject(tenant), work, Progress())]
    back_up(subject(tenant), other, Progress())
    strange = (tmp_path / "other/store/acme" / FIRST).read_bytes()
    for name in (FIRST, COPY):
        path = tmp_path / "store/acme" / name
        own = path.read_bytes()
        path.write_bytes(strange)
        if not with_list:
            (tmp_path / "store/acme/head").unlink()
        assert f"acme/{name}" in Repository.at(work.store, ACME, KEYS).wrong.split(" is ")[0]
        made.append(back_up(subject(tenant), work, Progress()))
        assert path.read_bytes() == strange
        path.write_bytes(own)
    tenant.root.close()
    assert {one.id for one in Repository.at(work.store, ACME, KEYS).head()[0].backups} == {one.id for one in made}


def test_two_keys_and_nothing_there(store: DirectoryStore, tmp_path: Path) -> None:
    made = Repository.make(store, ACME, KEYS, NOW)
    Repository.make(DirectoryStore(tmp_path / "other"), ACME, KEYS, NOW)
    (tmp_path / "acme" / COPY).write_bytes((tmp_path / "other/acme" / FIRST).read_bytes())
    assert Repository.make(store, ACME, KEYS, NOW).id == made.id


def test_the_other_one_is_not_touched_before_the_one_that_was_written_opens(tmp_path: Path) -> None:
    class Losing(DirectoryStore):
        """Says that it has the key, and has nothing."""

        def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
            return super().put(key, b"" if key.endswith((FIRST, COPY)) else data, replaces=replaces, absent=absent)

    made = Repository.make(DirectoryStore(tmp_path), ACME, KEYS, NOW)
    Repository.make(Losing(tmp_path), ACME, BOTH, NOW)
    first, copy = both(tmp_path)
    assert first.read_bytes() == b""
    assert copy.read_bytes() != b""
    assert Repository.make(DirectoryStore(tmp_path), ACME, BOTH, NOW).id == made.id
    assert first.read_bytes() == copy.read_bytes()


def test_another_host_that_writes_it_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    made = Repository.make(store, ACME, KEYS, NOW)
    first, copy = both(tmp_path)
    copy.unlink()

    class Meanwhile(DirectoryStore):
        """Another host, with the newer master key, is faster."""

        def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
            Repository.make(store, ACME, BOTH, NOW)
            return super().put(key, data, replaces=replaces, absent=absent)

    assert Repository.make(Meanwhile(tmp_path), ACME, KEYS, NOW).id == made.id
    assert find(store, ACME, NEW).first.data == find(store, ACME, NEW).copy.data
    assert first.read_bytes() == copy.read_bytes()


def test_a_store_that_takes_no_copy_now_takes_it_the_next_time(tmp_path: Path) -> None:
    class Refusing(DirectoryStore):
        def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
            if key.endswith(COPY):
                raise StoreRefused("not that one")
            return super().put(key, data, replaces=replaces, absent=absent)

    made = Repository.make(Refusing(tmp_path), ACME, KEYS, NOW)
    first, copy = both(tmp_path)
    assert not copy.exists()
    assert Repository.make(DirectoryStore(tmp_path), ACME, KEYS, NOW).id == made.id
    assert first.read_bytes() == copy.read_bytes()


def test_bytes_that_change_on_their_way_are_read_again(tmp_path: Path) -> None:
    class Noisy(DirectoryStore):
        reads = 0

        def get(self, key: str, *, most: int) -> tuple[bytes, str]:
            data, tag = super().get(key, most=most)
            self.reads += 1
            return (data[:50], "other") if self.reads == 1 else (data, tag)

    Repository.make(DirectoryStore(tmp_path), ACME, KEYS, NOW)
    assert Repository.at(Noisy(tmp_path), ACME, KEYS).wrong == ""
