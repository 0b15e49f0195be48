"""`carrel restore` composed: the lock, the declarations, the keys, the store."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.backup.progress import Progress
from carrel.backup.run import back_up
from carrel.cli.restore_options import RestoreOptions
from carrel.errors import CarrelError, NotFound
from carrel.main import restore
from carrel.main.restore import run_restore
from carrel.main.statedir import StateDir, StateInUse
from tests.fakes.backups import full_tenant, means, subject
from tests.fakes.declarations import declare

KEY = "1 " + "MTEx" * 10 + "MTE=\n"
"""That of `tests.fakes.backups`."""


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RestoreOptions:
    monkeypatch.setattr(restore, "drop_root", lambda places: 0)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    tenant = full_tenant(tmp_path / "old", large=0)
    back_up(subject(tenant), means(tmp_path), Progress())
    tenant.root.close()
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o700)
    (secrets / "carrel-master-key").write_text(KEY)
    (secrets / "carrel-master-key").chmod(0o600)
    declared = declare(tmp_path / "tenants.d", acme="", beta="")
    return RestoreOptions(
        tmp_path / "state", declared, secrets, f"file://{tmp_path}/store", "empty", (), dry_run=False, json=True
    )


def test_all_that_are_declared(options: RestoreOptions, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_restore(options) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(one["tenant"], one["outcome"]) for one in told["tenants"]] == [("acme", "restored"), ("beta", "none")]
    assert (options.state_dir / "tenants/acme/sandbox/main.py").exists()
    assert run_restore(replace(options, json=False, when="always", tenants=("acme",))) == 0
    assert "acme is back: " in capsys.readouterr().out
    assert run_restore(replace(options, json=False)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "acme stays as it is: it has data.", "beta begins anew: there is no backup of it."
    ]  # fmt: skip


def test_what_fails_is_told(options: RestoreOptions, capsys: pytest.CaptureFixture[str]) -> None:
    assert options.secrets_dir is not None
    (options.secrets_dir / "carrel-master-key").unlink()
    assert run_restore(replace(options, json=False, dry_run=True)) == 1
    assert "acme: There is no master key" in capsys.readouterr().err
    with pytest.raises(NotFound):
        run_restore(replace(options, tenants=("zeta",)))
    (options.tenants_dir / "_gateway.yaml").write_text("nonsense: true\n")
    with pytest.raises(CarrelError, match="not right"):
        run_restore(options)


def test_no_gateway_may_run_there(options: RestoreOptions) -> None:
    with StateDir(options.state_dir), pytest.raises(StateInUse):
        run_restore(options)
