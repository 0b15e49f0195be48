import os
import stat
from pathlib import Path

import pytest

from carrel.errors import Conflict
from carrel.ids import TenantId
from carrel.plan.drift import drift_of
from carrel.reconcile.places import Places
from carrel.tenancy.paths import open_tenant_directory
from carrel.tenancy.removal import remove_tree

ACME = TenantId("acme")


def test_a_directory_is_made_once_and_a_file_in_its_way_is_told(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.make(ACME)
    places.make(ACME)
    assert stat.S_IMODE((tmp_path / "acme").stat().st_mode) == 0o700
    (tmp_path / "other").write_text("")
    with pytest.raises(Conflict, match="tenants/other"):
        places.make(TenantId("other"))


def test_what_was_changed_is_seen_and_put_right(tmp_path: Path) -> None:
    places = Places(tmp_path)
    assert places.look(ACME).mode is None
    os.close(open_tenant_directory(tmp_path / "acme"))
    assert drift_of(ACME, places.look(ACME), uid=os.geteuid()) == ()
    (tmp_path / "acme").chmod(0o755)
    (tmp_path / "acme" / "sandbox").rmdir()
    found = drift_of(ACME, places.look(ACME), uid=os.geteuid())
    assert [one.kind for one in found] == ["directory_mode", "part_missing"]
    for one in found:
        places.mend(ACME, one)
    assert drift_of(ACME, places.look(ACME), uid=os.geteuid()) == ()


def test_a_directory_that_was_never_used_lacks_nothing(tmp_path: Path) -> None:
    Places(tmp_path).make(ACME)
    assert Places(tmp_path).look(ACME).missing == ()


def test_it_is_taken_away_in_one_step_and_what_is_left_is_found(tmp_path: Path) -> None:
    places = Places(tmp_path)
    assert places.take(ACME) is None
    (tmp_path / "acme" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "acme" / "deep" / "er" / "file").write_text("x")
    (tmp_path / "acme" / "link").symlink_to("/etc")
    (tmp_path / "acme" / "deep").chmod(0)
    path = places.take(ACME)
    assert path is not None
    assert places.left() == [path]
    assert [name for name, _ in places.stats()] == [path.name]
    remove_tree(path)
    remove_tree(path)
    assert places.left() == []
    assert Path("/etc").is_dir()
