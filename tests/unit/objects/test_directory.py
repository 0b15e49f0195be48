"""Objects as files."""

import errno
import os
from pathlib import Path

import pytest

from carrel.errors import CarrelError, InvalidRequest, StorageFailed, StorageFull, Unavailable
from carrel.objects.directory import DirectoryStore
from carrel.objects.protocol import ObjectChanged, ObjectDamaged, ObjectMissing, StoreRefused


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "deep" / "store")


def test_written_read_listed_and_removed(store: DirectoryStore, tmp_path: Path) -> None:
    tag = store.put("acme/pieces/ab/one", b"one")
    store.put("acme-evil/two", b"two")
    assert store.get("acme/pieces/ab/one", most=3) == (b"one", tag)
    assert [(one.key, one.size) for one in store.list("acme/")] == [("acme/pieces/ab/one", 3)]
    assert list(store.folders()) == ["acme", "acme-evil"]
    store.delete(["acme/pieces/ab/one", "acme/never"])
    with pytest.raises(ObjectMissing):
        store.get("acme/pieces/ab/one", most=3)
    store.close()
    assert not list(tmp_path.rglob(".carrel-new-*"))


def test_conditions_hold(store: DirectoryStore) -> None:
    tag = store.put("a/head", b"1", absent=True)
    with pytest.raises(ObjectChanged):
        store.put("a/head", b"2", absent=True)
    newer = store.put("a/head", b"2", replaces=tag)
    with pytest.raises(ObjectChanged):
        store.put("a/head", b"3", replaces=tag)
    with pytest.raises(ObjectChanged):
        store.put("a/other", b"3", replaces=newer)
    assert store.get("a/head", most=10)[0] == b"2"


def test_what_is_too_large_or_out_of_place(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("a/one", b"12345")
    with pytest.raises(ObjectDamaged):
        store.get("a/one", most=4)
    for key in ("../x", "/etc/passwd", "a//b"):
        with pytest.raises(InvalidRequest):
            store.put(key, b"")
    (tmp_path / "deep/store/a/link").symlink_to("/etc/passwd")
    with pytest.raises(StoreRefused):
        store.get("a/link", most=1 << 20)


def test_a_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreRefused):
        DirectoryStore(tmp_path / "file").put("a/b", b"")
    assert list(DirectoryStore(tmp_path / "none").folders()) == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EIO, StorageFailed), (errno.EROFS, StorageFailed), (errno.ESTALE, StorageFailed),
     (errno.ENOSPC, StorageFull), (errno.EMFILE, Unavailable), (errno.EACCES, StoreRefused)],
)  # fmt: skip
def test_a_disk_that_fails_is_told_as_one(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[CarrelError]
) -> None:
    store.put("acme/head", b"1")

    def refuses(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuses)
        for work in (lambda: store.put("acme/head", b"2"), lambda: store.get("acme/head", most=10)):
            with pytest.raises(kind) as told:
                work()
            assert type(told.value) is kind
    monkeypatch.setattr(os, "scandir", refuses)
    # Half of a listing would look like all of it.
    for listing in (store.list("acme/"), store.folders()):
        with pytest.raises(kind):
            list(listing)
