"""Kept sandboxes, as a user and an operator have them: a server that answers the next message, and its end."""

import json

import pytest

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.launcher import running
from tests.fakes.patience import until
from tests.system.conftest import StartGateway

SERVE = "run: mkdir -p www && echo hello from the worker > www/index.html\ncd www && python3 -m http.server 8000 &"
FETCH = (
    "run: for i in $(seq 600); do exec 3<>/dev/tcp/127.0.0.1/8000 && break; sleep 0.1; done 2>/dev/null\n"
    "printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; tail -1 <&3"
)


@pytest.fixture
def keeping(new_gateway: StartGateway) -> GatewayProcess:
    gateway = new_gateway()
    declare(gateway, "sandbox: {keep: true}\n")
    return gateway.start()


def declare(gateway: GatewayProcess, more: str) -> None:
    file = gateway.tenants_dir / "demo.yaml"
    file.write_text(file.read_text().replace(more, "") + more)


def say(gateway: GatewayProcess, message: str, session: str = "one") -> str:
    gateway.rpc("sessions.create", {"sessionId": session})
    answer = gateway.rpc("sessions.send", {"sessionId": session, "message": message})
    assert "code" not in answer, answer
    return json.dumps(answer)


def kept(gateway: GatewayProcess) -> list[dict[str, object]]:
    done = gateway.cli("sandboxes", "list", "--json")
    assert done.returncode == 0, done.stderr
    told: list[dict[str, object]] = json.loads(done.stdout)["sandboxes"]
    return told


def test_a_server_answers_the_next_message_and_an_operator_looks_in(keeping: GatewayProcess) -> None:
    assert kept(keeping) == []
    assert "exit code 0" in say(keeping, SERVE)
    assert "hello from the worker" in say(keeping, FETCH)
    (one,) = kept(keeping)
    assert (one["tenant"], one["agent"], one["workspace"], one["commands"]) == ("demo", "main", "sandbox", 2)
    done = keeping.cli("sandboxes", "exec", "demo", str(one["id"]), "--", "sh", "-c", "ls; exit 3")
    assert (done.returncode, done.stdout) == (1, "www\n")
    assert until(lambda: "GET / HTTP/1.0" in keeping.cli("sandboxes", "logs", "demo", str(one["id"])).stdout)
    assert running("http.server")
    done = keeping.cli("sandboxes", "stop", "demo", str(one["id"]))
    assert (done.returncode, kept(keeping)) == (0, [])
    assert not running("http.server")
    assert "hello from the worker" in say(keeping, "run: cat www/index.html")
    told = keeping.cli("audit", "tail", "--json").stdout
    assert "sandboxes.exec" in told
    assert "sandboxes.stop" in told


def test_one_unused_is_stopped_and_one_of_a_suspended_tenant_at_once(keeping: GatewayProcess) -> None:
    say(keeping, "run: sleep 8123 &")
    assert running("8123")
    assert keeping.cli("tenants", "suspend", "demo").returncode == 0
    assert until(lambda: not running("8123"))
    assert kept(keeping) == []
    assert keeping.cli("tenants", "resume", "demo").returncode == 0
    file = keeping.tenants_dir / "demo.yaml"
    file.write_text(file.read_text().replace("{keep: true}", "{keep: true, keep_idle_seconds: 0.5}"))
    assert keeping.cli("reconcile").returncode == 0
    say(keeping, "run: sleep 8124 &")
    assert until(lambda: not running("8124"))
    assert kept(keeping) == []


def test_sessions_with_workspaces_of_their_own_have_workers_of_their_own(new_gateway: StartGateway) -> None:
    gateway = new_gateway()
    declare(gateway, "sandbox: {keep: true, scope: session}\n")
    gateway.start()
    say(gateway, "run: touch /tmp/mine; sleep 8125 &", "one")
    assert "mine" not in say(gateway, "run: ls /tmp; ps -ef | grep -c '[8]125'", "two").replace("run: ", "")
    assert "mine" in say(gateway, "run: ls /tmp", "one")
    assert len(kept(gateway)) == 2


def test_an_agent_that_bricks_its_environment_is_back_by_one_command(keeping: GatewayProcess) -> None:
    say(keeping, "run: mkdir -p src && echo precious > src/main.py && (sleep 8128 &)")
    assert "main.py" in say(keeping, "run: ls src", "two")
    assert "exit code 0" in say(keeping, "run: rm -rf /workspace/* && sleep 8129 & rm -rf /workspace/*", "two")
    assert "precious" not in say(keeping, 'tool: file_read {"path": "src/main.py"}', "three")
    assert running("8128")
    told = keeping.cli("tenants", "snapshots", "demo").stdout
    assert "before_turn" in told
    assert "session two" in told
    done = keeping.cli("tenants", "rollback", "demo")
    assert done.returncode == 0, done.stderr
    assert kept(keeping) == []
    assert not running("8128")
    assert "precious" in say(keeping, "run: cat src/main.py", "two")
    assert "tenants.rollback" in keeping.cli("audit", "tail", "--json").stdout
    told = keeping.cli("tenants", "snapshots", "demo").stdout
    assert "before going back to" in told
    assert keeping.cli("tenants", "rollback", "demo", "--session", "x").returncode == 1
    assert keeping.cli("tenants", "rollback", "demo", "--session", "x", "--member", "y").returncode == 2


def test_without_keep_nothing_lives_on(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()
    say(gateway, "run: sleep 8126 >/dev/null 2>&1 &")
    assert not running("8126")
    assert kept(gateway) == []


def test_a_gateway_that_is_killed_leaves_no_worker(keeping: GatewayProcess) -> None:
    say(keeping, "run: sleep 8127 &")
    assert running("8127")
    assert keeping.process is not None
    keeping.process.kill()
    keeping.process.wait()
    assert until(lambda: not running("8127"))
    keeping.start()
    assert kept(keeping) == []
    assert "exit code 0" in say(keeping, "run: true")
