"""Agent programs and SDKs of others, unmodified, in a real sandbox on a real closure: they work, are metered and held.

They find their vendors at the usual hosts and hold a placeholder for a key; who answers is a fake vendor that asks for
one command, which the program runs in the sandbox.
"""

import asyncio
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import programs
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.vendor import FakeVendor
from tests.fakes.vendor.agent import MODEL
from tests.system.test_egress import run
from tests.system.test_money import report

SECRET = "sk-canary-0815-of-the-operator"
GPT, CLAUDE = "gpt-5-codex", "claude-sonnet-4-5"
CODEX = (
    "export CODEX_HOME=/workspace/.codex; mkdir -p $CODEX_HOME; "
    "printenv OPENAI_API_KEY | ./codex login --with-api-key 2>&1; "
    f"./codex exec --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox -m {GPT} 'Make the file.' 2>&1"
)
LIBRARIES = 'LIBS=$(ls -d /nix/store/*/lib/*-linux-gnu | tr "\\n" ":")'
"""Wheels are made for any Linux; here its libraries are at no usual place."""
PI = (
    f"{LIBRARIES}; $(ls /nix/store/*-libc/lib/*/ld-linux-*.so.2) --library-path $LIBS ./node "
    "pi/node_modules/@mariozechner/pi-coding-agent/dist/cli.js "
    f"-p --provider anthropic --model {CLAUDE} 'Make the file.' 2>&1"
)
SDKS = f"""{LIBRARIES}; LD_LIBRARY_PATH=$LIBS PYTHONPATH=sdks python3 - <<'END' 2>&1
import anthropic, openai
try:
    gpt, claude = openai.OpenAI(max_retries=0), anthropic.Anthropic(max_retries=0)
    print("responses", gpt.responses.create(model="{GPT}", input="hello").output_text)
    ask = [{{"role": "user", "content": "hello"}}]
    print("chat", gpt.chat.completions.create(model="{GPT}", messages=ask).choices[0].message.content)
    with claude.messages.stream(model="{CLAUDE}", max_tokens=99, messages=ask) as stream:
        print("messages", "".join(stream.text_stream))
    print("counted", claude.messages.count_tokens(model="{CLAUDE}", messages=ask).input_tokens)
    print("models", [m.id for m in gpt.models.list()], [m.id for m in claude.models.list()])
    gpt.files.list()
except openai.APIStatusError as error:
    print(type(error).__name__, error.status_code, error.code)
END"""


@contextmanager
def vendor_beside() -> Iterator[FakeVendor]:
    """The fake vendor on a loop of its own, to look into while others wait for it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    vendor = FakeVendor()
    try:
        asyncio.run_coroutine_threadsafe(vendor.__aenter__(), loop).result(30)
        yield vendor
    finally:
        asyncio.run_coroutine_threadsafe(vendor.__aexit__(None, None, None), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def declare(gateway: GatewayProcess, vendor: FakeVendor) -> None:
    size: dict[str, Any] = {"context_window": 200_000, "max_output": 1000, "upstream": MODEL}
    key = {"secret": "FAKE"}
    operator = {
        "providers": {"demo": {"kind": "demo"},
                      "gpt": {"kind": "openai", "base_url": vendor.openai_url, "api_key": key},
                      "claude": {"kind": "anthropic", "base_url": vendor.url, "api_key": key}},
        "models": {"demo": {"provider": "demo", "context_window": 32768, "max_output": 4096},
                   GPT: {"provider": "gpt", **size}, CLAUDE: {"provider": "claude", **size}},
        "default_model": "demo", "packages": {"source": "test-set"},
    }  # fmt: skip
    # What moves the sandbox costs nothing, so that a quota of dollars holds the programs alone.
    rates = {name: {"input": cost, "output": cost} for name, cost in (("demo", "0"), (GPT, "1"), (CLAUDE, "1"))}
    (gateway.tenants_dir / "_gateway.yaml").write_text(json.dumps(operator))
    card = {"currency": "USD", "markup": "1.0", "models": rates}
    (gateway.tenants_dir / "_rate-card.yaml").write_text(json.dumps(card))
    gateway.env["CARREL_SECRET_FAKE"] = SECRET


@dataclass
class House:
    """A gateway whose demo tenant has the programs in its workspace."""

    gateway: GatewayProcess
    vendor: FakeVendor
    workspace: Path

    def run(self, command: str) -> str:
        for name in ("made.txt", "seen.txt"):
            (self.workspace / name).unlink(missing_ok=True)
        return run(self.gateway, command)

    def spent(self, model: str) -> tuple[int, Decimal]:
        """Tokens in and out, and dollars."""
        rows = [row for row in report(self.gateway) if row["model"] == model]
        tokens = sum(int(row["tokens_in"]) + int(row["tokens_out"]) for row in rows)
        return tokens, sum((Decimal(row["cost_usd"]) for row in rows), Decimal(0))


def fetched() -> tuple[Path, Path, Path]:
    """Node, codex and pi as they are published."""
    wheel = programs.node()
    with ThreadPoolExecutor() as pool:
        codex, pi = pool.map(programs.npm_program, ("codex", "pi"))
    return wheel, codex, pi


def lay(workspace: Path, wheel: Path, codex: Path, pi: Path) -> None:
    """Put the programs into ``workspace``."""
    (binary,) = codex.glob("node_modules/@openai/codex-linux-*/vendor/*/bin/codex")
    shutil.copy(binary, workspace / "codex")
    shutil.copy(wheel / "bin" / "node", workspace / "node")
    shutil.copytree(pi / "node_modules", workspace / "pi" / "node_modules", symlinks=True)
    programs.lay_sdks(workspace / "sdks")
    subprocess.run(["chown", "-R", f"--reference={workspace}", str(workspace)], check=True, timeout=120)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("programs")
    with vendor_beside() as vendor, ThreadPoolExecutor() as pool:
        fetching = pool.submit(fetched)
        gateway = GatewayProcess(home=home / "home", closure=True).prepare()
        declare(gateway, vendor)
        gateway.start()
        try:
            run(gateway, "true")
            workspace = gateway.state_dir / "tenants" / "demo" / "sandbox"
            lay(workspace, *fetching.result())
            yield House(gateway, vendor, workspace)
        finally:
            assert gateway.stop() == 0, gateway.text
    assert SECRET not in gateway.text
    for name in ("codex", "node"):
        (workspace / name).unlink()


def assert_worked(house: House, told: str, model: str, path: str, since: int) -> None:
    """The program ran the model's command, told its result, was metered, and never had the key."""
    assert "The tool said" in told, told
    assert (house.workspace / "made.txt").read_text() == "written by the program\n"
    seen = (house.workspace / "seen.txt").read_text(errors="replace")
    assert "carrel_secret_" in seen, "what the program's environment holds for a key"
    assert SECRET not in seen
    assert SECRET not in told
    calls = house.vendor.received[since:]
    assert [call.path for call in calls] == [path, path]
    for call in calls:
        assert call.headers["authorization"] == f"Bearer {SECRET}"
        everything = json.dumps(call.headers).encode() + call.raw
        for hidden in (house.gateway.token, "carrel_secret_", "tk_demo", '"demo"'):
            assert hidden.encode() not in everything
    tokens, cost = house.spent(model)
    assert tokens >= 240
    assert cost >= Decimal("0.00024")


def test_S5_01_codex_works_for_its_tenant_and_never_has_the_key(house: House) -> None:
    since = len(house.vendor.received)
    told = house.run(CODEX)
    assert_worked(house, told, GPT, "/v1/responses", since)
    assert house.vendor.last.body["store"] is False
    assert "web_search" not in json.dumps(house.vendor.last.body["tools"])


def test_S5_01_pi_works_for_its_tenant_and_never_has_the_key(house: House) -> None:
    since = len(house.vendor.received)
    assert_worked(house, house.run(PI), CLAUDE, "/v1/messages", since)
    assert house.vendor.last.headers["anthropic-version"]


def test_S5_01_both_vendors_sdks_work_and_what_would_be_shared_is_not_there(house: House) -> None:
    before = house.spent(GPT)[0], house.spent(CLAUDE)[0]
    told = house.run(SDKS)
    for line in ("responses No shell", "chat No shell", "messages No shell", "counted ", "NotFoundError 404 not_found"):
        assert line in told, told
    assert f"['{GPT}'] ['{CLAUDE}']" in told
    assert (house.spent(GPT)[0] - before[0], house.spent(CLAUDE)[0] - before[1]) == (240, 120)


def test_a_quota_holds_programs_as_it_holds_everybody(house: House) -> None:
    tenant = house.gateway.tenants_dir / "demo.yaml"
    before = tenant.read_text()
    tenant.write_text(f"{before}\nquotas: {{cost_per_day_usd: 0.0015}}\n")
    assert house.gateway.cli("reconcile").returncode == 0
    try:
        since = len(house.vendor.received)
        # Codex would wait for as long as Retry-After says, which is until midnight.
        assert "429" in house.run(PI)
        assert not (house.workspace / "made.txt").exists()
        assert "RateLimitError 429 quota_exceeded" in house.run(SDKS)
        assert house.vendor.received[since:] == []
    finally:
        tenant.write_text(before)
        assert house.gateway.cli("reconcile").returncode == 0
    assert "responses No shell" in house.run(SDKS)


def test_S5_03_the_key_is_nowhere_on_the_tenants_disk(house: House) -> None:
    found = subprocess.run(
        ["grep", "-r", "-l", "-F", SECRET, str(house.gateway.state_dir)], capture_output=True, text=True, check=False,
        timeout=300, env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    assert found.stdout == ""
