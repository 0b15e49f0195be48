"""Backups of a gateway that runs, from outside: made, listed, read back, brought back, confirmed and undone."""

import json
import subprocess
from collections.abc import Callable

import pytest

from tests.fakes.gateway_process import CARREL, GatewayProcess
from tests.fakes.patience import until

StartGateway = Callable[..., GatewayProcess]


DAMAGE = b"no database, and no SQLite will say that it is one" * 100


def carrel(gateway: GatewayProcess, *words: str, fails: int = 0) -> str:
    done = subprocess.run(
        [str(CARREL), *words, "--state-dir", str(gateway.state_dir)], capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == fails, done.stdout + done.stderr
    return done.stdout if not fails else done.stderr


@pytest.fixture
def home(new_gateway: StartGateway) -> GatewayProcess:
    gateway = new_gateway()
    # Of what is here, a gateway that root starts and that gives root up is shown its state alone.
    store = gateway.state_dir / "backups"
    operator = gateway.tenants_dir / "_gateway.yaml"
    operator.write_text(f"{operator.read_text()}\nbackup:\n  to: file://{store}\n")
    return gateway


def test_a_tenant_is_backed_up_and_brought_back(home: GatewayProcess) -> None:
    gateway = home.start()
    token = gateway.token
    carrel(gateway, "chat", "demo", "hello there", "--session", "s_one")
    made = json.loads(carrel(gateway, "tenants", "backup", "demo", "--json"))
    assert made["files"] > 0
    listed = json.loads(carrel(gateway, "tenants", "backups", "demo", "--json"))
    assert [one["id"] for one in listed["backups"]] == [made["id"]]
    assert "whole" in carrel(gateway, "backup", "verify", "demo")

    carrel(gateway, "chat", "demo", "said after the backup", "--session", "s_two")
    assert "Would bring" in carrel(gateway, "tenants", "restore", "demo", "--dry-run")
    assert sessions(gateway, token) == {"s_one", "s_two"}
    carrel(gateway, "tenants", "restore", "demo")
    # The token is of the backup too, and the tenant works at once.
    assert sessions(gateway, token) == {"s_one"}
    carrel(gateway, "chat", "demo", "and on", "--session", "s_one")
    assert "still kept" in carrel(gateway, "tenants", "restore", "demo", fails=1)
    carrel(gateway, "tenants", "restore", "demo", "--undo")
    assert sessions(gateway, token) == {"s_one", "s_two"}

    carrel(gateway, "tenants", "restore", "demo", "--session", "s_one", "--as-session", "s_copy")
    assert sessions(gateway, token) == {"s_one", "s_two", "s_copy"}
    carrel(gateway, "tenants", "restore", "demo")
    carrel(gateway, "tenants", "restore", "demo", "--confirm")
    assert sessions(gateway, token) == {"s_one"}
    assert not [path.name for path in (gateway.state_dir / "tenants").iterdir() if path.name.startswith(".")]
    assert gateway.stop() == 0, gateway.text


def test_a_tenant_whose_ledger_is_damaged_is_brought_back_with_what_was_charged_since(home: GatewayProcess) -> None:
    gateway = home.start()
    carrel(gateway, "chat", "demo", "hello there", "--session", "s_one")
    carrel(gateway, "tenants", "backup", "demo")
    carrel(gateway, "chat", "demo", "said after the backup", "--session", "s_one")
    # So the journal has rows that no ledger takes.
    gateway.kill()
    damage(gateway)
    gateway.start()
    waiting = gateway.state_dir / "metering/waiting/demo.jsonl"
    assert until(waiting.exists), gateway.text
    assert "damaged" in carrel(gateway, "chat", "demo", "refused", "--session", "s_one", fails=1)
    # A backup of it has all else, and the damaged file, and is loud.
    assert "usage/ledger.sqlite" in carrel(gateway, "tenants", "backup", "demo", fails=1)
    whole = json.loads(carrel(gateway, "tenants", "backups", "demo", "--json"))["backups"][-1]
    assert whole["damaged"] == []
    carrel(gateway, "tenants", "restore", "demo", "--backup", whole["id"])
    assert calls(gateway) == 2
    assert not waiting.exists()
    carrel(gateway, "chat", "demo", "and on", "--session", "s_one")
    assert calls(gateway) == 3
    # What was there can be had again, what was charged since is charged, and the damaged file is as it was.
    carrel(gateway, "tenants", "restore", "demo", "--undo")
    assert calls(gateway) == 3
    [kept] = (gateway.state_dir / "tenants/demo/usage/damaged").iterdir()
    assert kept.read_bytes() == DAMAGE
    carrel(gateway, "chat", "demo", "and on", "--session", "s_two")
    assert calls(gateway) == 4
    carrel(gateway, "tenants", "backup", "demo")
    # Nor does it stand in the way of its end; without a place for backups the last one is an archive of what is there.
    gateway.kill()
    operator = gateway.tenants_dir / "_gateway.yaml"
    operator.write_text(operator.read_text().partition("\nbackup:")[0])
    damage(gateway)
    gateway.start()
    assert until(waiting.exists), gateway.text
    carrel(gateway, "tenants", "remove", "demo", "--purge")
    assert not (gateway.state_dir / "tenants/demo").exists()
    assert until(lambda: not waiting.exists()), gateway.text
    assert '"tenant": "demo"' in (gateway.state_dir / "metering/orphans.jsonl").read_text()
    assert gateway.stop() == 0, gateway.text


def damage(gateway: GatewayProcess) -> None:
    usage = gateway.state_dir / "tenants/demo/usage"
    for path in usage.glob("ledger.sqlite-*"):
        path.unlink()
    (usage / "ledger.sqlite").write_bytes(DAMAGE)


def calls(gateway: GatewayProcess) -> int:
    return int(json.loads(carrel(gateway, "billing", "verify", "demo", "--json"))["calls"])


def test_a_tenant_asks_for_its_own(home: GatewayProcess) -> None:
    gateway = home.start()
    carrel(gateway, "chat", "demo", "hello there", "--session", "s_one")
    made = rpc(gateway, "tenants.backup")["result"]
    assert made["key"].startswith("demo/manifests/")
    listed = rpc(gateway, "tenants.backups.list")["result"]["backups"]
    assert [one["key"] for one in listed] == [made["key"]]
    refused = rpc(gateway, "tenants.restore", {"key": made["key"].replace("demo/", "acme/")})
    assert refused["error"]["data"]["code"] == "invalid_request"
    assert "error" in rpc(gateway, "tenants.backup", {"bucket": "elsewhere"})
    carrel(gateway, "chat", "demo", "later", "--session", "s_two")
    done = rpc(gateway, "tenants.restore", {"key": made["key"]})["result"]
    assert done["sourceKey"] == made["key"]
    while carrel(gateway, "tenants", "backups", "demo", "--json") and running(gateway):
        pass
    assert sessions(gateway, gateway.token) == {"s_one"}
    assert gateway.stop() == 0, gateway.text


def sessions(gateway: GatewayProcess, token: str) -> set[str]:
    found = rpc(gateway, "sessions.list", token=token)["result"]["sessions"]
    return {one["sessionId"] for one in found}


def running(gateway: GatewayProcess) -> bool:
    socket = gateway.state_dir / "run/control.sock"
    done = subprocess.run(
        ["curl", "-s", "--unix-socket", str(socket), "http://localhost/v1/tenants/demo/backups/running"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return bool(json.loads(done.stdout)["running"])


def rpc(gateway: GatewayProcess, method: str, params: object = None, *, token: str | None = None):  # type: ignore[no-untyped-def] # JSON
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    return gateway.request("POST", "/rpc", body, token=token or gateway.token).json()
