"""Which backup, and what a restore prepares."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.backup.keyfile import NoRepository
from carrel.backup.progress import Progress
from carrel.backup.repository import Repository
from carrel.backup.restore import chosen, fetch_one, look, own_id, prepare
from carrel.backup.run import back_up
from carrel.backup.swap import staged, swap_in
from carrel.errors import Conflict, InvalidRequest
from carrel.ids import TenantId
from carrel.objects.directory import DirectoryStore
from tests.fakes.backups import KEYS, full_tenant, means, subject, tree

ACME, ZETA = TenantId("acme"), TenantId("zeta")


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    tenant = full_tenant(tmp_path)
    for _ in range(2):
        back_up(subject(tenant), means(tmp_path), Progress())
    yield Repository.at(DirectoryStore(tmp_path / "store"), ACME, KEYS)
    tenant.root.close()


def test_S9_01_a_key_of_another_tenants_is_refused() -> None:
    assert own_id(ACME, "20260101T000000Z-00000000") == "20260101T000000Z-00000000"
    assert own_id(ACME, "acme/manifests/x") == "x"
    for key in ("zeta/manifests/x", "acme-evil/manifests/x", "acme/manifests/../../zeta/x", "acme/pieces/x", "/x"):
        with pytest.raises(InvalidRequest):
            own_id(ACME, key)


def test_the_newest_or_the_named_one(repository: Repository) -> None:
    head, _ = repository.head()
    assert chosen(repository, None) == head.backups[-1]
    assert chosen(repository, f"acme/manifests/{head.backups[0].id}") == head.backups[0]
    with pytest.raises(NoRepository):
        chosen(repository, "20260101T000000Z-00000000")


def test_prepared_for_another_tenant_and_swapped_in(repository: Repository, tmp_path: Path) -> None:
    home = tmp_path / "tenants"
    seen = look(repository, ZETA, None)
    assert (seen.dry_run, seen.tokens_left_out, seen.sessions) == (True, True, 2)
    assert not staged(home, ZETA).exists()
    done = prepare(repository, home, ZETA, None, means=means(tmp_path), progress=Progress())
    assert (done.tenant, done.source, done.files, done.tokens_left_out) == (ZETA, ACME, seen.files, True)
    swap_in(home, ZETA)
    before, after = tree(home / "acme"), tree(home / "zeta")
    assert after["sandbox/data.bin"] == before["sandbox/data.bin"]
    assert "credentials/tokens.json" not in after
    prepare(repository, home, ACME, None, means=means(tmp_path), progress=Progress())
    swap_in(home, ACME)
    with pytest.raises(Conflict):
        prepare(repository, home, ACME, None, means=means(tmp_path), progress=Progress())


def test_one_file_of_it(repository: Repository, tmp_path: Path) -> None:
    found = fetch_one(
        repository, lambda path: path == "sessions/s_1.jsonl", None, means=means(tmp_path), progress=Progress()
    )
    assert found is not None
    assert found[1:] == ("sessions/s_1.jsonl", b'{"a":1}\n{"b":2}\n')
    assert fetch_one(repository, lambda path: False, None, means=means(tmp_path), progress=Progress()) is None
