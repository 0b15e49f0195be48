"""Item 5: files in tenants.d take effect in the running gateway; a broken one hurts nobody."""

import json
import shutil
from collections.abc import Callable

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.patience import until
from tests.system.conftest import StartGateway

HEAD = "display_name: {name}\n"


def eventually(check: Callable[[], bool]) -> None:
    assert until(check)


def state_of(gateway: GatewayProcess, tenant: str) -> dict[str, object]:
    shown = json.loads(gateway.cli("status", "--json").stdout)
    return next((t for t in shown["tenants"] if t["id"] == tenant), {})


def test_a_file_is_added_changed_broken_mended_and_removed(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()
    path = gateway.tenants_dir / "newco.yaml"
    path.write_text(HEAD.format(name="Newco"))
    eventually(lambda: state_of(gateway, "newco").get("state") == "Ready")

    issued = gateway.cli("tenants", "token", "issue", "newco", "--json")
    assert issued.returncode == 0, issued.stderr
    token = json.loads(issued.stdout)["token"]
    assert gateway.rpc("tenants.get", token=token)["displayName"] == "Newco"

    path.write_text(HEAD.format(name="Newco the Second"))
    eventually(lambda: gateway.rpc("tenants.get", token=token)["displayName"] == "Newco the Second")

    path.write_text("display_name: [not, a, name]\n")
    eventually(lambda: state_of(gateway, "newco").get("state") == "Stalled")
    assert gateway.rpc("tenants.get", token=token)["displayName"] == "Newco the Second"
    assert "newco.yaml:1" in str(state_of(gateway, "newco"))
    assert gateway.rpc("health")["ok"] is True

    path.write_text(HEAD.format(name="Mended"))
    eventually(lambda: gateway.rpc("tenants.get", token=token)["displayName"] == "Mended")

    path.unlink()
    eventually(lambda: state_of(gateway, "newco").get("state") in ("Suspended", "Removed"))
    refused = gateway.request("POST", "/rpc", {"jsonrpc": "2.0", "id": 1, "method": "health"}, token=token)
    assert refused.status == 403
    assert b"tenant_suspended" in refused.body
    assert (gateway.state_dir / "tenants" / "newco").is_dir()

    path.write_text(HEAD.format(name="Back"))
    eventually(lambda: gateway.rpc("tenants.get", token=token).get("displayName") == "Back")


def test_the_last_good_version_outlives_a_restart(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()
    token = gateway.token
    (gateway.tenants_dir / "demo.yaml").write_text("agents: 7\n")
    eventually(lambda: state_of(gateway, "demo").get("state") == "Stalled")
    gateway.stop()
    gateway.start()
    assert gateway.rpc("health", token=token)["ok"] is True
    assert state_of(gateway, "demo")["state"] == "Stalled"


def test_check_and_plan_say_what_is_wrong_and_what_would_change(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()
    assert gateway.cli("check", str(gateway.tenants_dir)).returncode == 0
    other = gateway.home / "other.d"
    shutil.copytree(gateway.tenants_dir, other)
    (other / "demo.yaml").write_text("quotas:\n  tokens_per_dya: 5\n")
    (other / "extra.yaml").write_text("display_name: Extra\n")
    wrong = gateway.cli("check", str(other))
    assert wrong.returncode == 1
    assert "demo.yaml:2:3" in wrong.stdout + wrong.stderr
    assert "tokens_per_day" in wrong.stdout + wrong.stderr
    (other / "demo.yaml").write_text("quotas:\n  tokens_per_day: 5\n")
    planned = gateway.cli("plan", str(other))
    assert planned.returncode == 0, planned.stderr
    assert "extra" in planned.stdout
    assert "tokens_per_day" in planned.stdout


def test_a_declared_job_runs_and_goes_with_its_lines(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()

    def told(*words: str) -> dict[str, list[dict[str, object]]]:
        shown: dict[str, list[dict[str, object]]] = json.loads(
            gateway.cli("cron", *words, "--tenant", "demo", "--json").stdout
        )
        return shown

    path = gateway.tenants_dir / "demo.yaml"
    before = path.read_text()
    path.write_text(f"{before}\ncron:\n  hello:\n    message: hello there\n    every_seconds: 10\n")
    eventually(lambda: any(run["status"] == "ok" for run in told("runs")["runs"]))
    (job,) = told("list")["jobs"]
    assert (job["jobId"], job["declared"]) == ("declared-hello", True)
    refused = gateway.cli("cron", "remove", "declared-hello", "--tenant", "demo")
    assert (refused.returncode, "demo.yaml" in refused.stderr) == (1, True)
    path.write_text(before)
    eventually(lambda: told("list")["jobs"] == [])
