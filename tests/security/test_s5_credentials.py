"""Security 5: secrets through the whole gateway, as an operator keeps them and a sandbox never has them."""

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.fakes.gateway_process import CARREL, GatewayProcess
from tests.system.conftest import StartGateway
from tests.system.conftest import new_gateway as new_gateway_fixture

new_gateway = new_gateway_fixture
VALUE = "canary-value-9f86d081884c7d65"


def everywhere(directory: Path) -> list[str]:
    """The files beneath ``directory`` that have the value in them."""
    found = subprocess.run(["grep", "-r", "-l", VALUE, str(directory)], capture_output=True, text=True, check=False)
    return found.stdout.split()


def keep(gateway: GatewayProcess, name: str = "TOKEN", verb: str = "set") -> "subprocess.CompletedProcess[str]":
    return gateway.cli("secrets", verb, "demo", name, stdin=VALUE + "\n")


@pytest.fixture
def gateway(new_gateway: StartGateway) -> GatewayProcess:
    return new_gateway().start()


def test_S5_03_a_value_is_in_no_log_answer_file_or_environment(gateway: GatewayProcess) -> None:
    file = gateway.tenants_dir / "demo.yaml"
    inject = {"secret": "TOKEN", "env": "TOKEN", "hosts": ["api.example.com"], "header": "Authorization"}
    file.write_text(file.read_text() + f"\negress: {json.dumps({'allow': ['api.example.com'], 'inject': [inject]})}\n")
    assert gateway.cli("reconcile").returncode == 0
    told = [keep(gateway), keep(gateway, verb="rotate"), gateway.cli("secrets", "list", "demo", "--json")]
    wrong = gateway.request("PUT", "/v1/tenants/demo/secrets/TOKEN", {"value": [VALUE]})
    gateway.rpc("sessions.create", {"sessionId": "one"})
    look = (
        "run: env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; "
        "grep -rs canary /etc /tmp /workspace"
    )
    answer = gateway.rpc("sessions.send", {"sessionId": "one", "message": look})
    assert "carrel_secret_" in json.dumps(answer)
    assert VALUE not in json.dumps(answer) + wrong.body.decode()
    assert [one.returncode for one in told] == [0, 0, 0]
    assert VALUE not in "".join(one.stdout + one.stderr for one in told)
    assert VALUE not in gateway.text
    assert VALUE not in gateway.request("GET", "/metrics").body.decode()
    assert everywhere(gateway.home) == []
    assert gateway.process is not None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            assert VALUE.encode() not in (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue


def test_S5_04_kept_over_a_kill_and_bound_to_its_tenant(gateway: GatewayProcess) -> None:
    assert keep(gateway).returncode == 0
    gateway.kill()
    vault = gateway.state_dir / "tenants/demo/credentials/vault"
    assert [path.name for path in vault.iterdir()] == ["TOKEN.sealed"]
    other = gateway.state_dir / "tenants/acme/credentials/vault"
    owner = vault.stat()
    other.mkdir(parents=True, mode=0o700)
    for path in (other.parent, other):
        os.chown(path, owner.st_uid, owner.st_gid)
    (other / "TOKEN.sealed").write_bytes((vault / "TOKEN.sealed").read_bytes())
    (other / "TOKEN.sealed").chmod(0o600)
    os.chown(other / "TOKEN.sealed", owner.st_uid, owner.st_gid)
    gateway.start()
    assert json.loads(gateway.cli("secrets", "list", "demo", "--json").stdout)["secrets"][0]["name"] == "TOKEN"
    refused = gateway.cli("secrets", "list", "acme")
    assert refused.returncode == 1
    assert "does not open" in refused.stderr


def test_S5_04_another_master_key_opens_nothing_and_loses_nothing(gateway: GatewayProcess) -> None:
    assert keep(gateway).returncode == 0
    assert gateway.stop() == 0
    key = gateway.state_dir / "master.key"
    kept = key.read_bytes()
    owner = key.stat()
    assert owner.st_mode & 0o777 == 0o600
    key.unlink()
    gateway.start()
    for order in (("list", "demo"), ("set", "demo", "OTHER")):
        refused = gateway.cli("secrets", *order, stdin="value\n")
        assert refused.returncode == 1
        assert "is gone" in refused.stderr
    assert gateway.stop() == 0
    _put(key, b"1 " + base64.b64encode(b"x" * 32) + b"\n", owner)
    gateway.start()
    refused = gateway.cli("secrets", "list", "demo")
    assert refused.returncode == 1
    assert "another key" in refused.stderr
    # The right one counts as soon as it is back, without a restart.
    _put(key, kept, owner)
    assert "TOKEN" in gateway.cli("secrets", "list", "demo").stdout


def _put(path: Path, content: bytes, like: os.stat_result) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    os.chown(path, like.st_uid, like.st_gid)


def test_S5_04_two_at_once_are_both_kept(gateway: GatewayProcess) -> None:
    started = [
        subprocess.Popen(
            ["sh", "-c", f"printf {VALUE} | {CARREL} secrets set demo S{number}"],
            env={**os.environ, "CARREL_STATE_DIR": str(gateway.state_dir)}, stdout=subprocess.DEVNULL,
        )
        for number in range(6)
    ]  # fmt: skip
    assert [process.wait(120) for process in started] == [0] * 6
    listed = json.loads(gateway.cli("secrets", "list", "demo", "--json").stdout)["secrets"]
    assert [one["name"] for one in listed] == [f"S{number}" for number in range(6)]
