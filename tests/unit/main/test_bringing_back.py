from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from carrel.backup.progress import Progress
from carrel.backup.run import back_up
from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.main.bringing_back import Backups, declared_in
from carrel.objects.directory import DirectoryStore
from carrel.objects.protocol import StoreUnavailable
from carrel.secrets import SecretStore
from tests.fakes.backups import KEYS, full_tenant, means, subject
from tests.fakes.declarations import declare

SECRETS = SecretStore(credentials_dir=None, secrets_dir=None, environ={})


def test_who_is_declared_comes_back_and_others_are_named(tmp_path: Path) -> None:
    for name in ("acme", "gone"):
        tenant = full_tenant(tmp_path / "old", name, large=0)
        back_up(subject(tenant), means(tmp_path), Progress())
        tenant.root.close()
    operators, known = declared_in(declare(tmp_path / "tenants.d", acme="", beta=""))
    assert known == ["acme", "beta"]
    told: list[str] = []
    noted: list[tuple[TenantId, str]] = []

    @contextmanager
    def note(tenant: TenantId, backup: str) -> Iterator[None]:
        assert not (tmp_path / "state/tenants/acme").exists()
        yield
        noted.append((tenant, backup))

    done, others = Backups(tmp_path / "state", SECRETS, KEYS, f"file://{tmp_path}/store").bring(
        operators, known, told=lambda one: told.append(one.outcome), known=known,
        noted=note,
    )  # fmt: skip
    assert [one.outcome for one in done] == ["restored", "none"]
    assert sorted(told) == ["none", "restored"]
    assert noted == [("acme", done[0].backup)]
    assert others == ["gone"]
    assert (tmp_path / "state/tenants/acme/sandbox/main.py").exists()


def test_where_all_have_data_the_store_may_be_away(tmp_path: Path) -> None:
    operators, known = declared_in(declare(tmp_path / "tenants.d", acme=""))
    full_tenant(tmp_path / "state", large=0).root.close()
    # No directory can be beneath that: whoever asks it fails.
    (tmp_path / "store").write_text("")
    work = Backups(tmp_path / "state", SECRETS, KEYS, f"file://{tmp_path}/store")
    done, others = work.bring(operators, known, told=lambda _: None, known=known, noted=unnoted)
    assert ([one.outcome for one in done], others) == (["kept"], [])
    with pytest.raises(CarrelError):
        work.bring(operators, [], told=lambda _: None, known=known, noted=unnoted)


def test_that_others_cannot_be_told_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = full_tenant(tmp_path / "old", large=0)
    back_up(subject(tenant), means(tmp_path), Progress())
    tenant.root.close()
    operators, known = declared_in(declare(tmp_path / "tenants.d", acme=""))

    def refused(_: object) -> Iterator[str]:
        raise StoreUnavailable("not now")

    monkeypatch.setattr(DirectoryStore, "folders", refused)
    done, others = Backups(tmp_path / "state", SECRETS, KEYS, f"file://{tmp_path}/store").bring(
        operators, known, told=lambda _: None, known=known, noted=unnoted,
    )  # fmt: skip
    assert ([one.outcome for one in done], others) == (["restored"], [])


@contextmanager
def unnoted(tenant: TenantId, backup: str) -> Iterator[None]:
    yield


def test_what_is_declared_wrongly_brings_nobody_back(tmp_path: Path) -> None:
    (tmp_path / "_gateway.yaml").write_text("nonsense: true\n")
    with pytest.raises(CarrelError, match=r"not right: _gateway\.yaml:1:1"):
        declared_in(tmp_path)
