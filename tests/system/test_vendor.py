"""Items 3 and 4, and what goes wrong on the way to a vendor: through the whole gateway, over real sockets."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.fakes.gateway_process import REPOSITORY, GatewayProcess
from tests.fakes.patience import PATIENCE, until
from tests.system.conftest import StartGateway
from tests.system.test_money import report

MODELS = (
    "fake-ok", "fake-slow", "fake-endless", "fake-stalled", "fake-stalled-later", "fake-cut", "fake-flaky", "fake-down",
    "fake-big", "fake-refused", "fake-tools",
)  # fmt: skip
SECRET = "sk-canary-4711-of-the-operator"


@pytest.fixture(scope="module")
def vendor() -> Iterator[str]:
    """The fake vendor as a process of its own; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.vendor"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'python'}"},
    )  # fmt: skip
    assert process.stdout is not None
    yield process.stdout.readline().split()[-1]
    process.terminate()
    process.wait(PATIENCE)
    process.stdout.close()


def declare(gateway: GatewayProcess, vendor: str) -> None:
    """Name the vendor as two providers, of both dialects, with prices for its models."""
    providers = {
        "demo": {"kind": "demo"},
        "fake": {"kind": "openai", "base_url": f"{vendor}/v1", "api_key": {"secret": "FAKE"}, "max_retries": 1},
        "hasty": {"kind": "openai", "base_url": f"{vendor}/v1", "api_key": {"secret": "FAKE"}, "first_byte_seconds": 2,
                  "timeout_seconds": 4, "max_retries": 1},
        "claude": {"kind": "anthropic", "base_url": vendor, "api_key": {"secret": "FAKE"}},
    }  # fmt: skip
    models: dict[str, Any] = {"demo": {"provider": "demo", "context_window": 32768, "max_output": 4096}}
    models |= {
        name: {"provider": "hasty" if "stalled" in name else "fake", "context_window": 32768, "max_output": 4096}
        for name in MODELS
    }
    models["fake-thinking"] = {"provider": "claude", "context_window": 32768, "max_output": 4096}
    models["fake-hourly"] = models["fake-thinking"]
    operator = {"providers": providers, "models": models, "default_model": "demo"}
    rates = {name: {"input": "1.00", "output": "2.00"} for name in models}
    rates["fake-hourly"] |= {"cache_write": "1.25", "cache_write_1h": "2"}
    (gateway.tenants_dir / "_gateway.yaml").write_text(json.dumps(operator))
    (gateway.tenants_dir / "_rate-card.yaml").write_text(
        json.dumps({"currency": "USD", "markup": "1.0", "models": rates})
    )
    gateway.env["CARREL_SECRET_FAKE"] = SECRET


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, vendor: str) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(home=tmp_path_factory.mktemp("vendor") / "home").prepare()
    declare(gateway, vendor)
    gateway.start()
    yield gateway
    assert gateway.stop() == 0, gateway.text


def client(gateway: GatewayProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.token, max_retries=0, timeout=PATIENCE)


@pytest.fixture(scope="module")
def gpt(served: GatewayProcess) -> Iterator[openai.OpenAI]:
    with client(served) as made:
        yield made


def ask(gpt: openai.OpenAI, model: str, **more: Any) -> Any:
    return gpt.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=100, **more
    )


def calls(gateway: GatewayProcess, model: str) -> int:
    """How many rows the ledger has of ``model``, by the tokens that each of the fake's answers counts."""
    return sum(int(row["tokens_in"]) for row in report(gateway) if row["model"] == model) // 100


def test_a_call_passes_through_and_is_priced_by_what_the_vendor_says(
    served: GatewayProcess, gpt: openai.OpenAI
) -> None:
    answer = ask(gpt, "fake-ok")
    assert answer.choices[0].message.content == "Hello from the fake vendor."
    row = next(row for row in report(served) if row["model"] == "fake-ok")
    assert (row["tokens_in"], row["tokens_out"]) == ("100", "20")
    assert float(row["cost_usd"]) == pytest.approx(0.00014)


def test_what_a_cache_keeps_for_an_hour_has_its_own_price(served: GatewayProcess) -> None:
    body = {"model": "fake-hourly", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
    answer = served.request("POST", "/v1/messages", body, token=served.token)
    assert answer.status == 200, answer.body
    row = next(row for row in report(served) if row["model"] == "fake-hourly")
    # 50 at 1, 10 at 1.25, 40 at 2, and 20 of the answer at 2 dollars a million.
    assert (row["tokens_in"], row["tokens_out"], row["cost_usd"]) == ("100", "20", "0.0001825")


def test_usage_that_was_not_asked_for_is_counted_and_kept_back(served: GatewayProcess, gpt: openai.OpenAI) -> None:
    before = calls(served, "fake-slow")
    chunks = list(ask(gpt, "fake-slow", stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello from the fake vendor."
    assert calls(served, "fake-slow") == before + 1


def test_an_agent_on_the_other_vendors_dialect(served: GatewayProcess, gpt: openai.OpenAI) -> None:
    acme = served.tenants_dir / "demo.yaml"
    acme.write_text("agents: {main: {model: fake-thinking}}\n")
    assert served.cli("reconcile").returncode == 0
    answer = ask(gpt, "agent:main")
    assert "fake vendor" in (answer.choices[0].message.content or "")
    assert any(row["model"] == "fake-thinking" for row in report(served))


def test_a_vendor_that_fails_once_is_asked_again(gpt: openai.OpenAI) -> None:
    assert ask(gpt, "fake-flaky").choices[0].message.content == "Hello from the fake vendor."


def test_a_vendor_that_stalls_is_given_up_within_its_time(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as refused:
        ask(gpt, "fake-stalled", stream=True)
    assert refused.value.status_code == 504
    assert "fake-stalled" not in refused.value.message or "did not" in refused.value.message


@pytest.mark.parametrize("model", ["fake-stalled-later", "fake-cut"])
def test_a_stream_that_breaks_ends_with_an_error_and_one_row(
    served: GatewayProcess, gpt: openai.OpenAI, model: str
) -> None:
    rows = len([row for row in report(served) if row["model"] == model])
    with pytest.raises((openai.APIError, openai.APIConnectionError)):
        for _ in ask(gpt, model, stream=True):
            pass
    after = [row for row in report(served) if row["model"] == model]
    assert len(after) == max(rows, 1)
    assert served.rpc("health")["ok"] is True


def test_a_vendor_that_is_down_is_a_502_without_its_words(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        ask(gpt, "fake-down")
    assert refused.value.status_code in (502, 503)


def test_S5_03_the_operators_key_is_seen_by_the_vendor_alone(served: GatewayProcess, gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        ask(gpt, "fake-refused")
    assert refused.value.status_code == 502, "the caller's own token is not what was wrong"
    assert "sk-wrong" not in str(refused.value.body)
    assert SECRET not in served.text
    for file in served.state_dir.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


def test_kill_9_during_a_stream_leaves_one_row_for_the_call(new_gateway: StartGateway, vendor: str) -> None:
    gateway = new_gateway()
    declare(gateway, vendor)
    gateway.start()
    token = gateway.token
    assert report(gateway) == []
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
    body = {
        "model": "fake-endless",
        "stream": True,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "hello"}],
    }
    connection.request(
        "POST", "/v1/chat/completions", json.dumps(body),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )  # fmt: skip
    answer = connection.getresponse()
    assert answer.read(40).startswith(b"data:")
    gateway.kill()
    connection.close()
    gateway.start()
    (row,) = report(gateway)
    assert row["model"] == "fake-endless"
    assert (int(row["tokens_in"]) > 0, row["tokens_out"]) == (True, "0"), "its prompt is billed, and no more"
    gateway.kill()
    gateway.start()
    assert report(gateway) == [row]


def test_a_caller_that_goes_away_stops_the_vendors_answer(served: GatewayProcess) -> None:
    body = json.dumps({"model": "fake-big", "stream": True, "messages": [{"role": "user", "content": "x"}]}).encode()
    with socket.create_connection(("127.0.0.1", served.port), PATIENCE) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {served.token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert until(lambda: any(row["model"] == "fake-big" for row in report(served)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small disk")
def test_a_full_disk_stops_calls_keeps_reads_and_passes(new_gateway: StartGateway) -> None:
    gateway = new_gateway()
    gateway.state_dir.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(gateway.state_dir)], check=True)
    try:
        gateway.start()
        gateway.rpc("sessions.send", {"message": "hello"})
        before = report(gateway)
        filler = gateway.state_dir / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass
        answers = [gateway.rpc("sessions.send", {"message": "hello again"}) for _ in range(3)]
        refused = [answer for answer in answers if answer.get("data", {}).get("code") == "storage_full"]
        assert refused, answers
        assert gateway.rpc("sessions.list")["sessions"]
        assert len(report(gateway)) == len(before)
        filler.unlink()
        assert until(lambda: "sessionId" in gateway.rpc("sessions.send", {"message": "and again"}), pause=1)
        assert gateway.stop() == 0
    finally:
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.kill()
        subprocess.run(["umount", "--lazy", str(gateway.state_dir)], check=True)


def test_a_state_directory_holds_no_leftovers_of_a_start(served: GatewayProcess) -> None:
    names = {path.name for path in Path(served.state_dir).iterdir()}
    assert names <= {
        "tenants", "audit", "envs", "run", "metering", "reconcile", "cache", ".gitconfig", "nix", "nix-home",
        "last-good", "parse-cache", "declared", "placeholder.key", "status.json", "audit-mark.json",
        "audit-signing-key", "audit-signing-key.pub", "declared-seen.json",
    }  # fmt: skip
