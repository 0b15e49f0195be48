"""What is declared is made so and told: one request sees one revision, removals wait, drift is put right."""

import json
import re
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fakes.gateway_process import GatewayProcess, Reply
from tests.fakes.patience import PATIENCE
from tests.system.conftest import StartGateway


def eventually(check: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come true in time")


def status(gateway: GatewayProcess, *words: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(gateway.cli("status", *words, "--json").stdout)
    return told


def states(gateway: GatewayProcess) -> dict[str, str]:
    return {tenant["id"]: tenant["state"] for tenant in status(gateway)["tenants"]}


def rewrite(path: Path, pattern: str, text: str) -> None:
    """One write in place of the file, so that no half of it is seen."""
    before = path.read_text()
    after = re.sub(pattern, text, before, count=1, flags=re.MULTILINE)
    assert after != before
    other = path.with_name(f".{path.name}.new")
    other.write_text(after)
    other.replace(path)


def ask(gateway: GatewayProcess, content: str) -> Reply:
    """A streamed turn of the agent, read to its end."""
    body = {"model": "agent:main", "stream": True, "messages": [{"role": "user", "content": content}]}
    return gateway.request("POST", "/v1/chat/completions", body, token=gateway.token)


def test_one_request_sees_one_revision(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()
    answers: list[Reply] = []
    wait = "run: touch begun; while [ ! -e go ]; do sleep 0.05; done; echo through"
    streaming = threading.Thread(target=lambda: answers.append(ask(gateway, wait)))
    streaming.start()
    workspace = gateway.state_dir / "tenants" / "demo" / "sandbox"
    eventually((workspace / "begun").exists)

    rewrite(gateway.tenants_dir / "_rate-card.yaml", r"^    input: 1\.00$", "    input: 700.00")
    rewrite(gateway.tenants_dir / "_plans.yaml", r"^      cost_per_day_usd: 5\.00$", "      cost_per_day_usd: 4999.00")
    rewrite(
        gateway.tenants_dir / "demo.yaml", r"^agents:$", "quotas:\n  requests_per_minute: 77\nagents:"
    )  # fmt: skip
    assert gateway.cli("reconcile").returncode == 0
    quota = json.loads(gateway.cli("tenants", "quota", "show", "demo", "--json").stdout)
    assert "77" in {line["hard"] for line in quota["quotas"]}
    (workspace / "go").touch()
    streaming.join(PATIENCE)
    assert answers[0].status == 200
    told = [json.loads(line[6:]) for line in answers[0].body.splitlines() if line.startswith(b"data: {")]
    assert "through" in "".join(one["choices"][0]["delta"].get("content") or "" for one in told if one["choices"])
    assert ask(gateway, "hello").status == 200
    gateway.stop()

    ledger = sqlite3.connect(gateway.state_dir / "tenants" / "demo" / "usage" / "ledger.sqlite")
    try:
        rows = list(
            ledger.execute("SELECT rate_card_hash, rate_snapshot, plan, plan_hash FROM ledger ORDER BY timestamp")
        )
    finally:
        ledger.close()
    # The turn made two calls, one before and one after the edit: both at the old prices. The next message has the new.
    assert len(rows) == 3
    assert rows[0] == rows[1]
    assert [("700" in snapshot, plan) for _, snapshot, plan, _ in rows[1:]] == [(False, "starter"), (True, "starter")]
    assert rows[1][0] != rows[2][0]
    assert rows[1][3] != rows[2][3]


def test_many_gone_at_once_wait_over_a_kill_and_then_go(new_gateway: StartGateway) -> None:
    gateway = new_gateway()
    for name in ("acme", "t0", "t1", "t2"):
        (gateway.tenants_dir / f"{name}.yaml").write_text("")
    gateway.start()
    token = gateway.token
    kept = gateway.home / "aside"
    kept.mkdir()
    for file in gateway.tenants_dir.glob("[a-z]*.yaml"):
        shutil.move(file, kept)
    refused = gateway.cli("reconcile")
    assert refused.returncode == 1
    found = re.search(r"carrel reconcile --confirm ([0-9a-f]{12})", refused.stdout)
    assert found
    assert gateway.rpc("health", token=token)["ok"] is True
    gateway.kill()
    gateway.start()
    assert gateway.rpc("health", token=token)["ok"] is True
    assert set(states(gateway).values()) == {"Stalled"}
    assert gateway.cli("reconcile", "--confirm", "0" * 12).returncode == 1
    assert "- demo" not in gateway.cli("plan").stdout

    done = gateway.cli("reconcile", "--confirm", found[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(states(gateway).values()) == {"Removed"}
    assert gateway.request("POST", "/rpc", {"jsonrpc": "2.0", "id": 1, "method": "health"}, token=token).status == 403
    for file in kept.iterdir():
        shutil.copy(file, gateway.tenants_dir)
    assert gateway.cli("reconcile").returncode == 0
    assert gateway.rpc("health", token=token)["ok"] is True


def test_a_removed_tenant_goes_with_a_final_backup_and_a_new_one_has_nothing_of_it(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()
    token = gateway.token
    assert gateway.cli("suspend", "demo").returncode == 0
    assert status(gateway, "demo")["conditions"][3]["status"] == "True"
    assert gateway.cli("resume", "demo").returncode == 0
    shown = gateway.cli("tenants", "remove", "demo", "--purge")
    assert shown.returncode == 0, shown.stderr
    assert "its data is gone" in shown.stdout
    assert not (gateway.state_dir / "tenants" / "demo").exists()
    (deleted,) = status(gateway)["deleted"]
    assert (gateway.state_dir / deleted["backup"]).is_file()
    assert "tenants.delete" in gateway.cli("audit", "tail").stdout
    (gateway.tenants_dir / "demo.yaml").write_text("")
    assert gateway.cli("reconcile", "demo").returncode == 0
    assert gateway.request("POST", "/rpc", {"jsonrpc": "2.0", "id": 1, "method": "health"}, token=token).status == 401


def test_drift_is_put_right_and_all_of_it_is_told(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()
    token = gateway.token
    home = gateway.state_dir / "tenants" / "demo"
    home.chmod(0o777)
    eventually(lambda: stat.S_IMODE(home.stat().st_mode) == 0o700)
    # A token that somebody takes out of the file by hand ends.
    (home / "credentials" / "tokens.json").write_text('{"version": 1, "tokens": []}\n')
    body = {"jsonrpc": "2.0", "id": 1, "method": "health"}
    eventually(lambda: gateway.request("POST", "/rpc", body, token=token).status == 401)
    outcomes = eventually(lambda: [r["outcome"] for r in status(gateway, "demo")["results"]])
    assert outcomes.count("corrected") == 2
    metrics = gateway.request("GET", "/metrics").body.decode()
    assert 'carrel_tenant_conditions{condition="Ready",status="True"} 2.0' in metrics
    before = status(gateway, "demo")
    gateway.stop()
    told = json.loads((gateway.state_dir / "status.json").read_text())
    assert {tenant["id"]: tenant["state"] for tenant in told["tenants"]} == {"acme": "Ready", "demo": "Ready"}
    gateway.start()
    again = status(gateway, "demo")
    assert again["results"] == before["results"]
    # `Reconciling` may have come and gone: at a start environments are looked for.
    kept = [[c for c in one["conditions"] if c["type"] in ("Ready", "Suspended")] for one in (before, again)]
    assert kept[0] == kept[1]
