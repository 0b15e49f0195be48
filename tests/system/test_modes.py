"""Modes of the sandbox, as an operator declares them: the shell in a container, and nothing where that cannot be."""

import json

from tests.fakes.gateway_process import GatewayProcess
from tests.system.conftest import StartGateway

FIRST = "run: tr '\\0' ' ' < /proc/1/cmdline; id -u; ulimit -n"


def declare(gateway: GatewayProcess, runtime_class: str, more: str = "", rest: str = "") -> None:
    file = gateway.tenants_dir / "demo.yaml"
    kept = file.read_text().partition("\nsandbox:")[0]
    mode = f"{{runtime: oci, runtime_class: {runtime_class}, open_files: 77{more}}}"
    file.write_text(f"{kept}\nsandbox:\n  modes:\n    untrusted_code: {mode}\n{rest}")


def say(gateway: GatewayProcess, session: str) -> str:
    gateway.rpc("sessions.create", {"sessionId": session})
    return json.dumps(gateway.rpc("sessions.send", {"sessionId": session, "message": FIRST}))


def test_the_shell_is_in_a_container_and_in_nothing_else(new_gateway: StartGateway) -> None:
    gateway = new_gateway()
    declare(gateway, "crun")
    gateway.start()
    status = json.loads(gateway.cli("status", "--json").stdout)
    assert status["runtimes"] == [{"name": "crun", "problem": None}]
    told = say(gateway, "one")
    assert "exec 3>&2" in told, told
    assert "--args" not in told
    assert "1000\\n77\\n" in told

    profile = "  keep: true\n  profiles:\n    calm: {deny_calls: [symlink, symlinkat], answer: absent}\n"
    declare(gateway, "crun", more=", engine: podman, seccomp: calm", rest=profile)
    gateway.cli("reconcile")
    by_podman = say(gateway, "podman")
    assert "read -r n <&6" in by_podman, by_podman
    assert "1000\\n77\\n" in by_podman
    gateway.rpc("sessions.create", {"sessionId": "again"})
    link = {"sessionId": "again", "message": "run: ln -s a b || cat /proc/1/cmdline"}
    narrowed = json.dumps(gateway.rpc("sessions.send", link))
    assert "Function not implemented" in narrowed, narrowed
    (kept,) = json.loads(gateway.cli("sandboxes", "list", "--json").stdout)["sandboxes"]
    assert kept["commands"] == 2

    declare(gateway, "no-such-runtime")
    gateway.cli("reconcile")
    refused = say(gateway, "two")
    assert "'no-such-runtime' is not installed, and nothing is run by another" in refused
    assert "cmdline" not in refused.replace("/proc/1/cmdline; id", "")

    doctor = gateway.cli("doctor", str(gateway.tenants_dir))
    assert "FAULT    runtime no-such-runtime" in doctor.stdout
    assert "ok       runtime crun" in doctor.stdout
