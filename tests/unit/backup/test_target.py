"""From what is declared to a store."""

from pathlib import Path

import pytest

from carrel.backup.retention import Keep
from carrel.backup.target import NoTarget, Reach, archive_of, interval_of, keep_of, location_of, options_of
from carrel.declare.backup import BackupConfig, KeepBackups, TenantBackup
from carrel.declare.base import SecretRef
from carrel.errors import InvalidRequest
from carrel.ids import TenantId
from carrel.secrets import SecretMissing, SecretStore

DECLARED = BackupConfig(to="s3://bucket/a", every_seconds=3600.0)


def test_who_may_name_which_place() -> None:
    assert str(location_of(DECLARED, None, anywhere=False)) == "s3://bucket/a"
    assert str(location_of(DECLARED, "s3://bucket/a/b", anywhere=False)) == "s3://bucket/a/b"
    assert str(location_of(DECLARED, "file:///x", anywhere=True)) == "file:///x"
    for place in ("s3://bucket/a-evil", "s3://other/a", "file:///x", "s3://bucket"):
        with pytest.raises(InvalidRequest):
            location_of(DECLARED, place, anywhere=False)
    with pytest.raises(NoTarget):
        location_of(BackupConfig(), None, anywhere=True)
    with pytest.raises(InvalidRequest):
        location_of(BackupConfig(), "s3://bucket/a", anywhere=False)


@pytest.mark.parametrize(
    "folder", ["acme/pieces", "acme/manifests", "pieces/ab", "head", "acme/repository.json", ".carrel-lock"]
)
def test_no_place_is_where_backups_have_their_own(folder: str) -> None:
    """Another tenant's sweep would remove what is there, or what is there would keep it from its first backup."""
    near, far = BackupConfig(to="file:///a"), BackupConfig(to="file:///b")
    for anywhere in (True, False):
        with pytest.raises(InvalidRequest, match="of backups themselves"):
            location_of(near, f"file:///a/{folder}", anywhere=anywhere)
    assert str(location_of(far, f"file:///a/{folder}", anywhere=True)) == f"file:///a/{folder}"
    own = BackupConfig(to=f"file:///a/{folder}")
    assert str(location_of(own, f"file:///a/{folder}/b", anywhere=False)) == f"file:///a/{folder}/b"


def test_where_an_archive_is() -> None:
    far, near = Reach(anywhere=True), Reach()
    assert str(archive_of(DECLARED, "s3://bucket/a/b/x.tar.gz", near)) == "s3://bucket/a/b/x.tar.gz"
    assert str(archive_of(DECLARED, "s3://bucket/a/", near, name="n.tar.gz")) == "s3://bucket/a/n.tar.gz"
    assert str(archive_of(DECLARED, "s3://other/x.tar.gz", far)) == "s3://other/x.tar.gz"
    assert str(archive_of(BackupConfig(), "file:///mnt/usb/x.tar.gz", far)) == "file:///mnt/usb/x.tar.gz"
    for place in ("s3://bucket/a-evil/x.tar.gz", "s3://bucket/x.tar.gz", "s3://other/a/x.tar.gz", "file:///x/y.tar.gz"):
        with pytest.raises(InvalidRequest, match="not beneath"):
            archive_of(DECLARED, place, near)


@pytest.mark.parametrize(
    "place",
    [
        "s3://bucket/a/", "s3://bucket/a/acme/head", "s3://bucket/a/.tar.gz", "s3://x.tar.gz", "file:///x.tar.gz",
        "x.tar.gz", "s3://bucket/a/x y.tar.gz", "s3://bucket/a/../x.tar.gz", "file:///a/../x.tar.gz",
        "s3://bucket/a/acme/pieces/x.tar.gz", "file:///mnt/acme/manifests/x.tar.gz", "s3://bucket/a/é.tar.gz", "",
    ],
)  # fmt: skip
def test_what_is_no_archives_place(place: str) -> None:
    """Nothing else may be taken for one, or put in the place of one: a backup's list, or what a sweep goes through."""
    with pytest.raises(InvalidRequest):
        archive_of(DECLARED, place, Reach(anywhere=True))


def test_who_sees_some_tenants_reaches_into_their_folders_alone() -> None:
    limited = Reach(anywhere=True, only=lambda tenant: tenant == "acme")
    assert str(archive_of(DECLARED, "s3://bucket/a/acme/x.tar.gz", limited)) == "s3://bucket/a/acme/x.tar.gz"
    assert str(archive_of(DECLARED, "s3://bucket/a/acme/deep/x.tar.gz", limited)).endswith("deep/x.tar.gz")
    for place in ("a/x", "a/zeta/x", "a/acme-2/x", "a/Not_An_Id!/x", "acme/x"):
        with pytest.raises(InvalidRequest):
            archive_of(DECLARED, f"s3://bucket/{place}.tar.gz", limited)
    with pytest.raises(InvalidRequest, match="limited"):
        archive_of(DECLARED, "s3://bucket/a/zeta/x.tar.gz", limited)
    with pytest.raises(InvalidRequest):
        archive_of(BackupConfig(), "file:///mnt/acme/x.tar.gz", limited)
    whole = BackupConfig(to="s3://bucket")
    assert str(archive_of(whole, "s3://bucket/acme/x.tar.gz", limited)) == "s3://bucket/acme/x.tar.gz"
    assert (limited.sees(TenantId("acme")), limited.sees(TenantId("zeta")), Reach().sees(TenantId("zeta"))) == (
        True, False, True,
    )  # fmt: skip


def test_keys_are_looked_up_by_name(tmp_path: Path) -> None:
    (tmp_path / "BACKUP_KEY").write_text("id\n")
    secrets = SecretStore(credentials_dir=None, secrets_dir=tmp_path, environ={})
    declared = BackupConfig(access_key=SecretRef(secret="BACKUP_KEY"), endpoint="http://127.0.0.1:1", path_style=False)
    options = options_of(declared, secrets)
    assert options.access_key is not None
    assert (options.access_key.reveal(), options.secret_key, options.path_style) == ("id", None, False)
    with pytest.raises(SecretMissing):
        options_of(BackupConfig(secret_key=SecretRef(secret="NONE")), secrets)


def test_what_is_the_tenants_own() -> None:
    assert keep_of(DECLARED, TenantBackup()) == Keep()
    own = TenantBackup(keep=KeepBackups(last=1, daily=0))
    assert keep_of(DECLARED, own) == Keep(1, 0, 4, 12)
    asked = KeepBackups(last=5)
    assert keep_of(DECLARED, TenantBackup(), asked) == Keep(5, 7, 4, 12)
    assert keep_of(DECLARED, own, asked) == Keep(1, 0, 4, 12)
    assert interval_of(DECLARED, TenantBackup()) == 3600
    assert interval_of(DECLARED, TenantBackup(every_seconds=60.0)) == 60
    assert interval_of(DECLARED, TenantBackup(enabled=False)) is None
    assert interval_of(BackupConfig(every_seconds=60.0), TenantBackup()) is None
