"""A user of the other system moves in, and out again: real directories, a real gateway, one command each."""

import json
import os
from pathlib import Path
from typing import Any

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.openclaw import API_KEY, BOT_TOKEN, MAIN, OLD, many, single
from tests.system.conftest import StartGateway


def told(gateway: GatewayProcess, *words: str, fails: bool = False) -> Any:
    done = gateway.cli(*words, "--json")
    assert (done.returncode != 0) == fails, done.stderr + done.stdout
    return json.loads(done.stdout or done.stderr)


def rpc(gateway: GatewayProcess, tenant: str, method: str, params: object = None) -> Any:
    kept = gateway.home / f"{tenant}.token"
    if not kept.exists():
        issued = gateway.cli("tenants", "token", "issue", tenant, "--name", "tests")
        kept.write_text(issued.stdout.strip().splitlines()[-1])
    answer = gateway.rpc(method, params, token=kept.read_text())
    assert "code" not in answer, answer
    return answer


def test_a_user_moves_in_goes_on_and_moves_out(gateway: GatewayProcess, tmp_path: Path) -> None:
    source = single(tmp_path / "openclaw")
    words = ("tenants", "import", "--from-openclaw", str(source), "--as", "default")
    looked = told(gateway, *words, "--dry-run")
    assert looked["report"]["counts"]["session"]["taken"] == 2
    assert "default" not in gateway.cli("tenants", "list").stdout

    done = told(gateway, *words)
    assert (done["sessions"], done["unchanged"], done["kept_before"]) == (3, False, False)
    assert done["report"]["counts"] == looked["report"]["counts"]
    listed = {one["sessionId"]: one for one in rpc(gateway, "default", "sessions.list")["sessions"]}
    assert {MAIN, OLD} <= set(listed)
    shown = rpc(gateway, "default", "sessions.preview", {"keys": [MAIN]})["previews"][0]["items"]
    assert shown[-1]["text"] == "A picture of a lobster."
    assert {job["name"] for job in rpc(gateway, "default", "cron.list", {"includeDisabled": True})["jobs"]} == {
        "Morning", "Water", "Old spelling",
    }  # fmt: skip
    assert rpc(gateway, "default", "memory.search", {"query": "marmalade"})["hits"]
    assert rpc(gateway, "default", "skills.status")["skills"][0]["name"] == "rhyme"
    assert "molty" in rpc(gateway, "default", "voicewake.get")["triggers"]
    files = rpc(gateway, "default", "agents.files.get", {"agentId": "main", "name": "SOUL.md"})
    assert files["file"]["content"] == "You are Molty.\n"
    agents = {one["name"]: one for one in rpc(gateway, "default", "agents.list")["agents"]}
    assert set(agents) == {"main", "work_bot"}
    secrets = told(gateway, "secrets", "list", "default")["secrets"]
    assert {"ANTHROPIC_API_KEY", "CHANNELS_TELEGRAM_BOT_TOKEN"} <= {secret["name"] for secret in secrets}
    assert "notes.txt" in gateway.cli("chat", "default", "run: ls", "--session", MAIN).stdout

    for place in (gateway.tenants_dir, gateway.state_dir):
        for path in place.rglob("*"):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                assert API_KEY.encode() not in data, path
                assert BOT_TOKEN.encode() not in data, path

    again = told(gateway, *words)
    assert again["unchanged"] is True
    assert len(rpc(gateway, "default", "sessions.list")["sessions"]) == 3
    (source / f"agents/main/sessions/{OLD}.jsonl").unlink()
    refused = gateway.cli(*words)
    assert (refused.returncode, "--replace" in refused.stderr) == (1, True)

    archive, out = tmp_path / "default.tar.gz", tmp_path / "out"
    told(gateway, "tenants", "export", "default", "--to", str(archive))
    assert told(gateway, "tenants", "create", "moved")["tenant"]["id"] == "moved"
    moved = told(gateway, "tenants", "import", str(archive), "--as", "moved")
    assert (moved["sessions"], moved["tokens_left_out"]) == (3, True)
    assert moved["secrets_lost"] == []
    assert {one["sessionId"] for one in rpc(gateway, "moved", "sessions.list")["sessions"]} == set(listed)

    report = told(gateway, "tenants", "export", "default", "--as-openclaw", str(out))["report"]
    assert report["counts"]["session"] == {"taken": 3}
    back = told(gateway, "tenants", "import", "--from-openclaw", str(out), "--as", "back")
    assert back["sessions"] == 3
    assert back["report"]["counts"]["job"] == {"taken": 3}
    found = gateway.cli("audit", "search", "--action", "tenants.*", "--json").stdout.splitlines()
    actions = [(line["action"], line["tenant"]) for line in map(json.loads, found)]
    assert ("tenants.import", "default") in actions
    assert ("tenants.export", "default") in actions
    assert gateway.cli("audit", "verify").returncode == 0


def test_all_tenants_of_the_fork_move_in_at_once(gateway: GatewayProcess, tmp_path: Path) -> None:
    source = many(tmp_path / "many")
    for unchanged in ("is here", "nothing was changed"):
        done = gateway.cli("tenants", "import", "--from-openclaw", str(source))
        assert done.returncode == 0, done.stderr
        assert [line.split()[0] for line in done.stdout.splitlines() if unchanged in line] == ["alpha", "beta"]
    assert "Alpha Inc" in gateway.cli("tenants", "list").stdout
    assert [one["sessionId"] for one in rpc(gateway, "beta", "sessions.list")["sessions"]] == ["beta-1"]


def test_one_that_is_killed_half_way_starts_over(new_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = new_gateway(args=("--trial",)).start()
    source = single(tmp_path / "openclaw")
    told(gateway, "tenants", "create", "default")
    left = gateway.state_dir / "tenants" / ".default.restore"
    left.mkdir()
    (left / "half").write_text("half of an import")
    owner, words = gateway.state_dir.stat(), ("tenants", "import", "--from-openclaw", str(source), "--as", "default")
    if owner.st_uid != os.geteuid():
        # What is not the gateway's to remove is told, and in the way of nothing else.
        left.chmod(0o700)
        gateway.kill()
        gateway.start()
        assert (left.exists(), "Remove it by hand" in gateway.text) == (True, True)
        refused = gateway.cli(*words)
        assert (refused.returncode, "another user" in refused.stderr) == (1, True)
    for path in (left, left / "half"):
        os.chown(path, owner.st_uid, owner.st_gid)
    gateway.kill()
    gateway.start()
    assert not left.exists()
    assert told(gateway, *words)["sessions"] == 3
    gateway.kill()
    gateway.start()
    assert told(gateway, *words)["unchanged"] is True
