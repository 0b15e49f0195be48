"""`carrel doctor` as a process, on a machine and an installation with many faults at once, and beside a gateway."""

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

from tests.fakes.gateway_process import CARREL, GatewayProcess

FUTURE = 4_000_000_000


def asked(*words: str, path: str | None = None, before: str = "") -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit code, and the findings by what they are of."""
    env = {**os.environ, **({} if path is None else {"PATH": path})}
    shell = ["/bin/sh", "-c", f'{before}exec "$@"', "sh", str(CARREL), "doctor", *words, "--json"]
    done = subprocess.run(shell, capture_output=True, text=True, check=False, env=env)
    assert done.stdout.startswith("{"), done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(done.stdout)["findings"]:
        found.setdefault(one["what"], []).append(one)
    return done.returncode, found


def test_many_faults_at_once_are_each_found_with_a_reason_and_a_mend(tmp_path: Path) -> None:
    declared, state, secrets = (tmp_path / name for name in ("tenants.d", "state", "secrets"))
    for directory in (declared, state / "audit", secrets, state / "tenants" / "acme" / "usage"):
        directory.mkdir(parents=True)
    state.chmod(0o755)
    secrets.chmod(0o755)
    (secrets / "PKEY").write_text("k")
    (secrets / "PKEY").chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        (declared / "_gateway.yaml").write_text(
            "models: {demo: {provider: demo}}\ndefault_model: demo\nproviders:\n  demo: {kind: demo}\n"
            f"  away: {{kind: openai, base_url: 'http://127.0.0.1:{closed.getsockname()[1]}/v1'}}\n"
            "  lost: {kind: anthropic, base_url: 'http://nowhere.invalid', api_key: {secret: PKEY}}\n"
            "  bare: {kind: openai, base_url: 'http://nowhere.invalid', api_key: {secret: NOKEY}}\n"
            f"backup: {{to: 'file://{tmp_path}/unmounted', every_seconds: 3600}}\n"
            f"admin_keys: [{{name: old, sha256: {'0' * 64}, expires: 2026-01-01T00:00:00Z}}]\n"
        )
        (declared / "_rate-card.yaml").write_text("otherwise: {input: 1, output: 2}\nmodels: {}\n")
        (declared / "acme.yaml").write_text(f"tokens: [{{name: ci, sha256: {'1' * 64}}}]\n")
        (declared / "bad.yaml").write_text("agents: 7\n")
        (state / "tenants" / "acme" / "usage" / "ledger.sqlite").write_bytes(b"no database at all, " * 10)
        (state / "audit" / "2026-01-01.jsonl").write_text('{"n":1}\n')
        os.utime(state / "audit" / "2026-01-01.jsonl", (FUTURE, FUTURE))
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "bwrap").write_text("#!/bin/sh\necho bubblewrap 0.4.0\nexit 1\n")
        (tmp_path / "bin" / "bwrap").chmod(0o755)
        code, found = asked(
            str(declared), "--state-dir", str(state), "--secrets-dir", str(secrets),
            "--listen", f"127.0.0.1:{taken.getsockname()[1]}",
            path=f"{tmp_path}/bin:{os.environ['PATH']}", before="ulimit -n 512; ",
        )  # fmt: skip
    assert code == 1
    wrong = {
        "bubblewrap", "sandbox", "file limit", "state", "clock", "declarations", "git", "secrets", "provider away",
        "provider lost", "provider bare", "admin key old", "token", "price", "backups", "record", "ledger", "gateway",
    }  # fmt: skip
    states = {what: {one["state"] for one in found[what]} for what in wrong}
    assert {what for what, state_of in states.items() if state_of == {"ok"}} == set()
    for what in sorted(found):
        for one in found[what]:
            assert one["state"] == "ok" or (one["why"] and one["mend"]), one
    assert "is taken" in found["gateway"][0]["text"]


def test_beside_a_gateway_nothing_is_at_fault(gateway: GatewayProcess) -> None:
    _, found = asked("--state-dir", str(gateway.state_dir), "--listen", f"127.0.0.1:{gateway.port}", "--offline")
    faults = [one for some in found.values() for one in some if one["state"] == "fault"]
    assert faults == []
    assert {"gateway", "record", "state", "declarations", "vault"} <= set(found)
    assert "version" not in found, "the command and the gateway are one version"
