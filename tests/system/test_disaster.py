"""An empty machine, the declarations and the bucket: every tenant is back, tokens, sessions, bill and secrets too."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.fakes import gcs_server
from tests.fakes.backups import tree
from tests.fakes.gateway_process import CARREL, GatewayProcess
from tests.fakes.repositories import Clone
from tests.fakes.s3_servers import ACCESS, BUCKET, SECRET, FaultyProxy, seaweed, status

StartGateway = Callable[..., GatewayProcess]
ENV = {"CARREL_SECRET_BACKUP_ACCESS": ACCESS, "CARREL_SECRET_BACKUP_SECRET": SECRET}
CANARY = "canary-value-of-the-disaster"


def carrel(gateway: GatewayProcess, *words: str, given: str | None = None) -> str:
    done = subprocess.run(
        [str(CARREL), *words, "--state-dir", str(gateway.state_dir)], capture_output=True, text=True, timeout=240,
        input=given, env={**os.environ, **ENV}, cwd=gateway.home, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def master_key(secrets: Path) -> Path:
    secrets.mkdir(mode=0o700)
    (secrets / "carrel-master-key").write_text("1 " + "QUFB" * 10 + "QUE=\n")
    (secrets / "carrel-master-key").chmod(0o600)
    return secrets


def backed_up_to(gateway: GatewayProcess, url: str, more: str = "") -> None:
    operator = gateway.tenants_dir / "_gateway.yaml"
    operator.write_text(
        f"{operator.read_text()}\nbackup:\n  to: s3://{BUCKET}/carrel\n  endpoint: {url}\n"
        f"  access_key: {{secret: BACKUP_ACCESS}}\n  secret_key: {{secret: BACKUP_SECRET}}\n  {more}\n"
    )


def test_all_is_back(new_gateway: StartGateway, tmp_path: Path) -> None:
    args = ("--secrets-dir", str(master_key(tmp_path / "secrets")))
    with seaweed(tmp_path / "s3") as url, FaultyProxy(url) as proxy:
        old = new_gateway("old", args=args, env=ENV)
        backed_up_to(old, proxy.url)
        old.start()
        token = old.token
        carrel(old, "chat", "demo", "hello there", "--session", "s_one")
        carrel(old, "secrets", "set", "demo", "API_KEY", given=CANARY)
        proxy.before += status(500) + status(503, says="SlowDown")
        for tenant in ("demo", "acme"):
            carrel(old, "tenants", "backup", tenant)
        bill = carrel(old, "billing", "report", "demo", "--period", "today", "--csv")
        assert old.stop() == 0, old.text
        assert CANARY not in old.text + carrel_text(proxy)
        assert SECRET not in old.text
        before = tree(old.state_dir / "tenants/demo")

        new = new_gateway("new", args=args, env=ENV)
        shutil.copytree(old.tenants_dir, new.tenants_dir, dirs_exist_ok=True)
        shutil.rmtree(old.state_dir)
        restore = ("restore", "--tenants-dir", str(new.tenants_dir), "--json", *args)
        told = {one["tenant"]: one["outcome"] for one in json.loads(carrel(new, *restore))["tenants"]}
        assert told == {"demo": "restored", "acme": "restored"}
        after = tree(new.state_dir / "tenants/demo")
        assert {path for path in after if after[path] != before[path]} <= {"usage/ledger.sqlite"}
        new.start()
        assert sessions(new, token) == {"s_one"}
        assert carrel(new, "billing", "report", "demo", "--period", "today", "--csv") == bill
        assert "API_KEY" in carrel(new, "secrets", "list", "demo")
        carrel(new, "chat", "demo", "and on", "--session", "s_one")
        assert new.stop() == 0, new.text
        told = {one["tenant"]: one["outcome"] for one in json.loads(carrel(new, *restore))["tenants"]}
        assert told["demo"] == "kept"


def test_two_gateways_back_up_to_one_bucket_of_googles(new_gateway: StartGateway, tmp_path: Path) -> None:
    """A fake of Google's, by its documentation: in S3's words it ignores conditions, in its own it holds them."""
    args = ("--secrets-dir", str(master_key(tmp_path / "secrets")))
    env = {"CARREL_SECRET_BACKUP_ACCESS": gcs_server.ACCESS, "CARREL_SECRET_BACKUP_SECRET": gcs_server.SECRET}
    with gcs_server.GoogleStorage() as google:
        one, other = new_gateway("one", args=args, env=env), new_gateway("other", args=args, env=env)
        backed_up_to(one, google.url, "dialect: s3")
        backed_up_to(other, google.url, "dialect: gcs")
        one.start()
        other.start()
        refused = one.cli("tenants", "backup", "demo")
        assert (refused.returncode, "ignores conditional writes" in refused.stderr) == (1, True), refused.stderr
        assert {name.partition("/")[2] for name in google.objects} == {".carrel-conditions"}
        operator = one.tenants_dir / "_gateway.yaml"
        operator.write_text(operator.read_text().replace("dialect: s3", "dialect: gcs"))
        assert one.cli("reconcile").returncode == 0
        for gateway in (one, other, one):
            done = gateway.cli("tenants", "backup", "demo")
            assert done.returncode == 0, done.stderr
        for gateway in (one, other):
            listed = json.loads(gateway.cli("tenants", "backups", "demo", "--json").stdout)
            assert len(listed["backups"]) == 3, listed
            assert gateway.cli("backup", "verify", "demo").returncode == 0
            assert gateway.stop() == 0, gateway.text
            assert gcs_server.SECRET not in gateway.text


def test_where_declarations_are_pushed_the_first_push_brings_all_back(
    new_gateway: StartGateway, tmp_path: Path
) -> None:
    args = ("--secrets-dir", str(master_key(tmp_path / "secrets")))
    with seaweed(tmp_path / "s3") as url:
        old = new_gateway("old", args=args, env=ENV)
        backed_up_to(old, url)
        old.start()
        token = old.token
        carrel(old, "chat", "demo", "hello there", "--session", "s_one")
        for tenant in ("demo", "acme"):
            carrel(old, "tenants", "backup", tenant)
        assert old.stop() == 0, old.text

        new = new_gateway("new", args=args, env=ENV, git=tmp_path / "new/state/git/settings.yaml")
        carrel(new, "git", "init")
        begun = carrel(new, "restore", "--git", str(new.git), "--when", "first", *args)
        assert begun.startswith("Nobody has pushed here yet, so nobody is declared."), begun
        new.start(wait=60)
        clone = Clone(tmp_path / "clone", ssh=str(serving(tmp_path / "ssh", new)))
        shutil.copytree(old.tenants_dir, clone.path, dirs_exist_ok=True)
        clone.commit({})
        pushed = clone.run("push", "ssh://gateway/tenants.git", "main")
        assert pushed.returncode == 0, pushed.stderr
        assert "demo: Ready" in pushed.stderr
        assert sessions(new, token) == {"s_one"}, "by the token of before"
        assert not (new.state_dir / ".restoring").exists()
        assert carrel(new, "audit", "search", "--action", "tenants.restore", "--json").count("tenants.restore") == 2
        assert new.stop() == 0, new.text


def serving(path: Path, gateway: GatewayProcess) -> Path:
    """What stands for ssh to the gateway's machine: it starts what sshd would, for the key that it would know."""
    path.write_text(
        f'#!/bin/sh\nSSH_ORIGINAL_COMMAND="$2" exec {CARREL} git serve alice --state-dir {gateway.state_dir}\n'
    )
    path.chmod(0o755)
    return path


def carrel_text(proxy: FaultyProxy) -> str:
    return " ".join(path for _, path in proxy.seen)


def sessions(gateway: GatewayProcess, token: str) -> set[str]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "sessions.list"}
    found = gateway.request("POST", "/rpc", body, token=token).json()
    return {one["sessionId"] for one in found["result"]["sessions"]}
