"""`carrel restore`, as it is told on."""

import json
from pathlib import Path

import pytest

from carrel.cli.app import build_app, execute
from carrel.cli.restore_options import RestoreOptions


def test_what_it_was_told_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[RestoreOptions] = []

    def run(options: RestoreOptions) -> int:
        told.append(options)
        return 7

    monkeypatch.chdir(tmp_path)
    app = build_app(lambda _: 0, run_restore=run)
    assert execute(app, ["restore", "--state-dir", "state", "--json"]) == 7
    assert execute(
        app, ["restore", "--from", "s3://b-b/x", "--when", "always", "--tenant", "acme", "--tenant", "zeta",
              "--dry-run", "--skip-damaged", "--secrets-dir", "secrets"],
    ) == 7  # fmt: skip
    assert told[0] == RestoreOptions(
        tmp_path / "state", tmp_path / "tenants.d", None, None, "empty", (), dry_run=False, json=True
    )
    assert (told[1].place, told[1].when, told[1].tenants, told[1].dry_run) == (
        "s3://b-b/x", "always", ("acme", "zeta"), True
    )  # fmt: skip
    assert (told[0].skip_damaged, told[1].skip_damaged) == (False, True)
    assert told[1].secrets_dir == tmp_path / "secrets"
    assert execute(app, ["restore", "--when", "sometimes"]) == 2


def test_a_machines_settings_say_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[RestoreOptions] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CARREL_STATE_DIR", raising=False)

    def run(options: RestoreOptions) -> int:
        told.append(options)
        return 0

    app = build_app(lambda _: 0, run_restore=run)
    shards = {"a": {"url": "http://10.0.0.1:1"}}
    host = {"tenants_dir": "/t", "state_dir": "/s", "placement": {"shard": "a", "rest": "a", "shards": shards}}
    (tmp_path / "host.json").write_text(json.dumps(host))
    assert execute(app, ["restore", "--host", "host.json", "--when", "first"]) == 0
    (tmp_path / "host.json").write_text(json.dumps({**host, "git": "/git.json"}))
    assert execute(app, ["restore", "--host", "host.json", "--state-dir", "elsewhere"]) == 0
    plain, git = told
    assert (plain.state_dir, plain.tenants_dir, plain.git, plain.when) == (Path("/s"), Path("/t"), None, "first")
    assert plain.placement is not None
    elsewhere = tmp_path / "elsewhere"
    assert (git.state_dir, git.tenants_dir, git.git) == (elsewhere, elsewhere / "git/current", Path("/git.json"))
    assert execute(app, ["restore", "--host", "host.json", "--tenants-dir", "t"]) == 2
