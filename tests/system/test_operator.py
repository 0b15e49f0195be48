"""An operator's day at the command line, against a gateway that really runs."""

import json
from typing import Any

from tests.fakes.gateway_process import GatewayProcess
from tests.system.conftest import StartGateway
from tests.system.test_live_edit import eventually, state_of


def told(gateway: GatewayProcess, *words: str) -> Any:
    done = gateway.cli(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_doctor_finds_no_fault_in_what_was_just_started(gateway: GatewayProcess) -> None:
    done = gateway.cli("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert {what: finding for what, finding in findings.items() if finding["state"] == "fault"} == {}
    assert done.returncode == 0
    assert (findings["sandbox"]["state"], findings["sandbox"]["text"]) == ("ok", "The gateway says: bwrap.")
    assert str(gateway.tenants_dir.resolve()) in findings["declarations"]["text"]


def test_the_status_says_what_tools_run_on_and_what_holds_each_limit(gateway: GatewayProcess) -> None:
    shown = gateway.cli("status").stdout
    document = told(gateway, "status")
    assert document["userland"].split(":")[0].split(",")[0].split(" ")[0] in ("closure", "host")
    assert f"userland      {document['userland'].split(',')[0].split(' (')[0]}" in shown
    assert {held["limit"] for held in document["limits"]} >= {"memory", "cpu", "pids", "wall_clock"}
    for held in document["limits"]:
        assert any(held["limit"] in line and held["by"] in line for line in shown.splitlines()), held


def test_a_tenant_from_its_first_command_to_its_last(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()
    made = told(gateway, "tenants", "create", "newco", "--plan", "starter", "--package", "jq")
    assert gateway.rpc("tenants.get", token=made["token"])["plan"] == "starter"
    assert "packages:" in (gateway.tenants_dir / "newco.yaml").read_text()

    refused = gateway.cli("tenants", "create", "other", "--package", "no-such-package")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "no-such-package" in refused.stderr
    assert not (gateway.tenants_dir / "other.yaml").exists()

    limited = gateway.cli("tenants", "quota", "update", "newco", "--requests-per-hour", "7", "--disk-bytes", "1GiB")
    assert limited.returncode == 0, limited.stderr
    assert "requests_per_hour" in limited.stdout
    [disk] = [line.split() for line in limited.stdout.splitlines() if line.startswith("disk_bytes")]
    assert disk[4] == str(1 << 30)
    assert f"disk_bytes: {1 << 30}" in (gateway.tenants_dir / "newco.yaml").read_text()
    assert "did you mean newco?" in gateway.cli("tenants", "show", "newc").stderr

    assert told(gateway, "tenants", "suspend", "newco")["state"] == "suspended"
    assert "resume it first" in gateway.cli("chat", "newco", "hello").stderr
    assert told(gateway, "tenants", "resume", "newco")["state"] == "active"
    assert gateway.cli("chat", "newco", "hello").returncode == 0

    assert told(gateway, "tenants", "remove", "newco")["data_kept"] is True
    assert "no longer declared" in gateway.cli("chat", "newco", "hello").stderr
    assert "no longer declared" in told(gateway, "tenants", "show", "newco")["problem"]

    actions = [line["action"] for line in map(json.loads, gateway.cli("audit", "tail", "--json").stdout.splitlines())]
    assert [action for action in actions if action.startswith("tenants.")] == [
        "tenants.create", "tenants.create", "tenants.quota", "tenants.suspend", "tenants.resume",
        "tenants.remove",
    ]  # fmt: skip
    assert gateway.cli("audit", "verify").returncode == 0


def test_a_tenant_that_never_was_good_is_not_ready_and_says_why_to_its_operator_alone(
    new_gateway: StartGateway,
) -> None:
    gateway = new_gateway().start()
    (gateway.tenants_dir / "newco.yaml").write_text("agnets: {}\n")
    eventually(lambda: state_of(gateway, "newco").get("reason") == "NeverGood")
    token = told(gateway, "tenants", "token", "issue", "newco")["token"]

    chat = gateway.cli("chat", "newco", "hello")
    assert chat.returncode == 1
    assert "newco.yaml:1:1: agnets: unknown key; did you mean agents?" in chat.stderr
    reply = gateway.request("GET", "/v1/models", token=token)
    assert (reply.status, reply.json()["error"]["code"]) == (503, "tenant_not_ready")
    assert "agnets" not in reply.body.decode()

    assert "newco (NeverGood)" in gateway.cli("doctor").stdout
    assert gateway.cli("doctor").returncode == 1
    (gateway.tenants_dir / "newco.yaml").write_text("agents: {}\n")
    eventually(lambda: gateway.request("GET", "/v1/models", token=token).status == 200)
