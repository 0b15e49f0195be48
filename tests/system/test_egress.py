"""The way out of a real sandbox, through the whole gateway: what is open, what is not, and keys that stay outside."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gateway_process import REPOSITORY, GatewayProcess
from tests.fakes.patience import until
from tests.system.conftest import StartGateway
from tests.system.test_money import report
from tests.system.test_vendor import declare as declare_vendor
from tests.system.test_vendor import vendor as vendor_fixture

vendor = vendor_fixture
ADDRESS = "127.0.0.2"
"""Loopback, and not among what programs go to without a proxy."""
VALUE = "real-token-8f14e45f"


@dataclass
class Host:
    """The host, and what it was asked."""

    port: int
    root: Path
    requests: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://{ADDRESS}:{self.port}"


def running_host() -> Iterator[Host]:
    """A host with a root certificate of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.tls_host", ADDRESS], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'python'}"},
    )  # fmt: skip
    assert process.stdout is not None
    port, root = process.stdout.readline().split()
    made = Host(int(port), Path(root))
    lines = process.stdout

    def read() -> None:
        made.requests.extend(json.loads(line) for line in lines)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    yield made
    process.terminate()
    process.wait(10)
    reader.join(10)
    process.stdout.close()


host = pytest.fixture(running_host)


def roots(gateway: GatewayProcess, host: Host) -> None:
    """Let the gateway trust the host beside all others."""
    # Where the gateway finds it too when it is root no more.
    bundle = host.root.parent / "roots.pem"
    public = Path("/etc/ssl/certs/ca-certificates.crt")
    bundle.write_bytes((public.read_bytes() if public.exists() else b"") + host.root.read_bytes())
    gateway.env["SSL_CERT_FILE"] = str(bundle)


def declare(gateway: GatewayProcess, egress: dict[str, Any]) -> None:
    file = gateway.tenants_dir / "demo.yaml"
    kept = file.read_text().partition("\negress: ")[0]
    file.write_text(f"{kept}\negress: {json.dumps(egress)}\n")
    if gateway.process is not None:
        assert gateway.cli("reconcile").returncode == 0


def run(gateway: GatewayProcess, command: str, session: str = "one") -> str:
    """What a command in the demo tenant's sandbox prints."""
    gateway.rpc("sessions.create", {"sessionId": session})
    answer = gateway.rpc("sessions.send", {"sessionId": session, "message": f"run: {command}"})
    assert "code" not in answer, answer
    return json.dumps(answer)


@pytest.fixture
def served(new_gateway: StartGateway, host: Host) -> GatewayProcess:
    gateway = new_gateway()
    roots(gateway, host)
    gateway.env["CARREL_SECRET_TOKEN"] = VALUE
    return gateway.start()


ASK = "curl -sS --max-time 30"
PYTHON = (
    "python3 - <<'END'\nimport urllib.request, urllib.error\ntry:\n"
    "    print(urllib.request.urlopen('{url}', timeout=30).read().decode())\n"
    "except urllib.error.HTTPError as error:\n    print(error.code, error.read().decode())\n"
    "except Exception as error:\n    print('failed', error)\nEND"
)


def test_nothing_is_reached_that_no_rule_allows_and_the_refusal_says_how_to_ask(
    served: GatewayProcess, host: Host
) -> None:
    assert "response 403" in run(served, f"{ASK} {host.url}/x")
    assert "request_access" in run(served, f"{ASK} http://{ADDRESS}:{host.port}/x")
    for direct in (f"https://{ADDRESS}:{host.port}", f"http://127.0.0.1:{served.port}/healthz", "https://1.1.1.1"):
        told = run(served, f"{ASK} --noproxy '*' {direct}; echo code $?")
        assert "code 7" in told, told
    assert host.requests == []
    told = served.cli("audit", "tail", "--json").stdout
    assert "egress.refused" in told
    assert f"{ADDRESS}:{host.port}" in told


def test_what_a_rule_allows_is_reached_by_unmodified_programs_and_nobody_looks_in(
    served: GatewayProcess, host: Host
) -> None:
    declare(served, {"allow": [f"{ADDRESS}:{host.port}"]})
    told = run(served, f"{ASK} -v {host.url}/x 2>&1")
    assert "headers" in told
    assert "issuer: CN=Carrel sandbox of a public root" in told, (
        "the host's own certificate, and not one of the gateway's"
    )
    assert "headers" in run(served, f"{ASK} -x socks5h://${{HTTPS_PROXY#http://}} {host.url}/s")
    assert "headers" in run(served, PYTHON.replace("{url}", f"{host.url}/python"))
    declare(served, {"allow": []})
    assert "response 403" in run(served, f"{ASK} {host.url}/x")


def test_S5_01_a_secret_is_used_and_never_had(served: GatewayProcess, host: Host) -> None:
    where = f"{ADDRESS}:{host.port}"
    declare(served, {"allow": [where], "inject": [
        {"secret": "TOKEN", "env": "API_TOKEN", "hosts": [where], "header": "Authorization", "template": "Bearer {}"}
    ]})  # fmt: skip
    told = run(served, f'{ASK} -H "Authorization: Bearer $API_TOKEN" {host.url}/curl; echo; env; cat /proc/*/environ')
    assert VALUE not in told
    assert "carrel_secret_" in told
    assert host.requests[-1]["headers"]["Authorization"] == f"Bearer {VALUE}"
    told = run(served, f'{ASK} -H "X-Other: $API_TOKEN" {host.url}/other')
    assert "placeholder_misplaced" in told
    assert "headers" in run(served, PYTHON.replace("{url}", f"{host.url}/python"))
    everything = subprocess.run(
        ["grep", "-r", "-l", VALUE, str(served.state_dir)], capture_output=True, text=True, check=False
    )
    assert everything.stdout == ""
    assert VALUE not in served.text


def test_rules_for_requests_hold_for_what_is_said_inside_of_tls(served: GatewayProcess, host: Host) -> None:
    rule = {"host": ADDRESS, "ports": [host.port], "methods": ["GET"], "paths": ["/open/"]}
    declare(served, {"allow": [rule]})
    told = run(served, f"{ASK} {host.url}/open/x")
    assert "headers" in told, told
    assert "egress_denied" in run(served, f"{ASK} {host.url}/closed")
    assert "egress_denied" in run(served, f"{ASK} -X DELETE {host.url}/open/x")
    assert [request["path"] for request in host.requests] == ["/open/x"]


def test_a_worker_keeps_its_gate_and_rules_change_under_it(served: GatewayProcess, host: Host) -> None:
    file = served.tenants_dir / "demo.yaml"
    file.write_text(file.read_text() + "sandbox: {keep: true}\n")
    rule = {"host": ADDRESS, "ports": [host.port], "paths": ["/"]}
    declare(served, {"allow": [rule]})
    assert "/one" in run(served, f"{ASK} {host.url}/one")
    assert "/two" in run(served, f"{ASK} {host.url}/two")
    declare(served, {"allow": []})
    assert "403" in run(served, f"{ASK} {host.url}/three")


def test_S5_01_a_program_at_its_vendors_usual_host_is_metered_and_never_has_the_key(
    new_gateway: StartGateway, vendor: str
) -> None:
    gateway = new_gateway()
    declare_vendor(gateway, vendor)
    gateway.start()
    ask = (
        f"{ASK} https://api.openai.com/v1/chat/completions -H 'Content-Type: application/json' "
        '-H "Authorization: Bearer $OPENAI_API_KEY" -d '
        '\'{"model": "fake-ok", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}\''
    )
    told = run(gateway, f"{ask}; echo; env")
    assert "chat.completion" in told, told
    assert "sk-carrel_secret_" in told
    assert "sk-canary" not in told
    rows = [row for row in report(gateway) if row["model"] == "fake-ok"]
    assert len(rows) == 1
    assert int(rows[0]["tokens_in"]) > 0
    told = run(gateway, ask.replace("$OPENAI_API_KEY", "sk-somebody-elses"))
    assert "unauthorized" in told


def test_an_agent_asks_and_what_is_decided_holds_for_its_session_alone(served: GatewayProcess, host: Host) -> None:
    rule = {"host": ADDRESS, "ports": [host.port], "addresses": ["127.0.0.0/8"]}
    declare(served, {"allow": [], "deny": [{**rule, "paths": ["/closed"]}]})
    wanted = json.dumps({"kind": "host", "what": f"{ADDRESS}:{host.port}", "reason": "to read the docs"})
    answers: list[str] = []
    served.rpc("sessions.create", {"sessionId": "one"})

    def ask() -> None:
        told = served.rpc("sessions.send", {"sessionId": "one", "message": f"tool: request_access {wanted}"})
        answers.append(json.dumps(told))

    asking = threading.Thread(target=ask)
    asking.start()
    grant = None
    for _ in range(600):
        listed = json.loads(served.cli("grants", "list", "demo", "--json").stdout)["grants"]
        if listed:
            grant = listed[0]
            break
    assert grant is not None
    assert (grant["state"], grant["sessionId"]) == ("waiting", "one")
    decided = served.rpc("grants.decide", {"grant": grant["id"], "decision": "1h"})
    assert "operator" in decided["message"], "the allowlists do not offer it to the tenant's own people"
    assert served.cli("grants", "decide", "demo", grant["id"], "1h").returncode == 0
    asking.join(120)
    assert "Granted for an hour" in answers[0], answers
    assert "headers" in run(served, f"{ASK} -k {host.url}/x", "one")
    assert "403" in run(served, f"{ASK} -k {host.url}/x", "two")
    # In a kept sandbox that both share it is open while nothing of the other's runs there.
    file = served.tenants_dir / "demo.yaml"
    file.write_text("sandbox: {keep: true}\n" + file.read_text())
    assert served.cli("reconcile").returncode == 0
    assert "headers" in run(served, f"{ASK} -k {host.url}/x", "one")
    run(served, f"(while :; do {ASK} -k {host.url}/stolen >> loot 2>&1; sleep 0.1; done) & echo $! > pid", "two")
    assert "response 403" in run(served, f"{ASK} -k {host.url}/x", "one")
    told = run(served, f"{ASK} {host.url.replace('https', 'http')}/x", "one")
    assert "programs of other sessions run in this kept sandbox" in told, told
    run(served, "kill $(cat pid); while kill -0 $(cat pid) 2>/dev/null; do sleep 0.05; done", "two")
    # What the killed one was just running may outlive it for a moment.
    assert until(lambda: "headers" in run(served, f"{ASK} -k {host.url}/x", "one"))
    assert "headers" not in run(served, "cat loot", "two")
    assert not any(seen["path"] == "/stolen" for seen in host.requests)
    assert served.cli("grants", "decide", "demo", grant["id"], "deny").returncode == 0
    assert "403" in run(served, f"{ASK} -k {host.url}/x", "one")
    assert "grants.decide" in served.cli("audit", "tail", "--json").stdout
