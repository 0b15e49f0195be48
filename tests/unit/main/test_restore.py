"""`carrel restore` composed: the lock, the declarations, the keys, the store."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.backup.progress import Progress
from carrel.backup.run import back_up
from carrel.cli.restore_options import RestoreOptions
from carrel.errors import CarrelError, NotFound
from carrel.main import restore
from carrel.main.first_restore import BEGUN, begun
from carrel.main.restore import NobodyHasPushed, run_restore
from carrel.main.statedir import StateDir, StateInUse
from tests.fakes.backups import full_tenant, means, subject
from tests.fakes.declarations import declare
from tests.fakes.records import held
from tests.fakes.repositories import Clone

KEY = "1 " + "MTEx" * 10 + "MTE=\n"
"""That of `tests.fakes.backups`."""


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RestoreOptions:
    monkeypatch.setattr(restore, "drop_root", lambda places: 0)
    monkeypatch.setenv("SUDO_UID", "1007")
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
    [line] = lines(options)
    assert (line["action"], line["tenant"], line["after"]) == ("tenants.restore", "acme", "before a start")
    assert line["actor"] == "uid:1007", "who ran it, and not what root became"
    assert line["target"] == f"acme/{told['tenants'][0]['backup']}"
    run_restore(replace(options, dry_run=True, when="always"))
    assert lines(options) == [line]
    capsys.readouterr()
    assert run_restore(replace(options, json=False, when="always", tenants=("acme",))) == 0
    assert "acme is back: " in capsys.readouterr().out
    assert run_restore(replace(options, json=False)) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "acme stays as it is: it has data.", "beta begins anew: there is no backup of it."
    ]  # fmt: skip


def lines(options: RestoreOptions) -> list[dict[str, object]]:
    """What the audit log says of restores; it is whole."""
    held_whole = held(options.state_dir)
    assert held_whole == []
    days = sorted((options.state_dir / "audit").glob("20*.jsonl"))
    read = [json.loads(line) for day in days for line in day.read_bytes().splitlines()]
    return [line for line in read if line["action"] == "tenants.restore"]


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


def outcomes(options: RestoreOptions, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    """What became of each tenant."""
    run_restore(options)
    return [(one["tenant"], one["outcome"]) for one in json.loads(capsys.readouterr().out)["tenants"]]


def test_a_first_restore_is_once_and_goes_on_where_it_broke_off(
    options: RestoreOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    first = replace(options, when="first")
    key = options.secrets_dir / "carrel-master-key" if options.secrets_dir is not None else Path()
    key.rename(key.with_name("away"))
    assert outcomes(replace(first, tenants=("acme",)), capsys) == [("acme", "failed")]
    assert (options.state_dir / BEGUN).exists()
    # Somebody whose directory is there already, as one that came back before it broke off.
    (options.state_dir / "tenants/beta/sessions").mkdir(parents=True)
    (options.state_dir / "tenants/beta/sessions/s_1.jsonl").write_text("{}\n")
    key.with_name("away").rename(key)
    assert outcomes(replace(first, dry_run=True), capsys) == [("acme", "would restore"), ("beta", "kept")]
    assert outcomes(first, capsys) == [("acme", "restored"), ("beta", "kept")]
    assert not (options.state_dir / BEGUN).exists()
    for path in sorted((options.state_dir / "tenants/acme").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert outcomes(first, capsys) == []
    assert run_restore(replace(first, json=False)) == 0
    assert "nothing is brought back" in capsys.readouterr().out


def test_only_those_whom_this_gateway_serves(options: RestoreOptions, capsys: pytest.CaptureFixture[str]) -> None:
    shards = {"a": {"url": "http://10.0.0.1:1", "tenants": ["beta"]}, "b": {"url": "http://10.0.0.2:1"}}
    placement = json.dumps({"shard": "a", "rest": "b", "shards": shards})
    assert outcomes(replace(options, placement=placement), capsys) == [("beta", "none")]


def test_what_is_pulled_is_looked_for_first(
    options: RestoreOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clone = Clone(tmp_path / "upstream")
    git = tmp_path / "git.yaml"
    git.write_text(f"pull: {{url: 'file://{clone.path}', unsigned: true}}\n")
    pulled = replace(options, git=git, tenants_dir=tmp_path / "not-read")
    with pytest.raises(CarrelError, match="Nobody is declared, so nobody can be brought back"):
        run_restore(pulled)
    capsys.readouterr()
    shutil.copytree(options.tenants_dir, clone.path, dirs_exist_ok=True)
    clone.commit({})
    assert outcomes(pulled, capsys) == [("acme", "restored"), ("beta", "none")]


def test_where_nobody_has_pushed_the_order_stays(
    options: RestoreOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git = tmp_path / "git.yaml"
    git.write_text("push: {}\n")
    pushed = replace(options, git=git, when="first", json=False)
    assert run_restore(replace(pushed, dry_run=True)) == 0
    assert begun(options.state_dir) is None or options.state_dir.joinpath(BEGUN).exists() is False
    for when in ("first", "first", "empty"):
        assert run_restore(replace(pushed, when=when)) == 0
        assert "Nobody has pushed here yet, so nobody is declared. Who is pushed first" in capsys.readouterr().out
        order = begun(options.state_dir)
        assert order is not None
        assert order.place == options.place
    with pytest.raises(NobodyHasPushed):
        run_restore(replace(pushed, when="always"))
    (options.state_dir / "tenants/acme").mkdir()
    with pytest.raises(NobodyHasPushed):
        run_restore(replace(pushed, when="empty"))
