"""From what is declared to a store."""

from pathlib import Path

import pytest

from carrel.backup.retention import Keep
from carrel.backup.target import NoTarget, interval_of, keep_of, location_of, options_of
from carrel.declare.backup import BackupConfig, KeepBackups, TenantBackup
from carrel.declare.base import SecretRef
from carrel.errors import InvalidRequest
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
