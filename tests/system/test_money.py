"""Item 8: every model call leaves one exact row, the report has the contract's columns, quotas stop hard."""

import concurrent.futures
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.patience import until
from tests.system.conftest import StartGateway

COLUMNS = "date,tenant,model,tokens_in,tokens_out,tokens_cached,reasoning_tokens,tool_calls,cost_usd"


def report(gateway: GatewayProcess, tenant: str = "demo") -> list[dict[str, str]]:
    """All that a gateway of this test's has to report, also where midnight comes in the middle of it."""
    today = datetime.now(UTC).date()
    period = f"{today - timedelta(days=1)}..{today}"
    shown = gateway.cli("billing", "report", tenant, "--period", period, "--csv")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[0] == COLUMNS
    return list(csv.DictReader(io.StringIO(shown.stdout)))


def test_a_turn_with_a_tool_is_two_calls_in_the_report(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()
    assert report(gateway) == []
    gateway.rpc("sessions.send", {"message": "run: echo hi"})
    rows = report(gateway)
    assert len(rows) == 1
    assert rows[0]["tenant"] == "demo"
    assert rows[0]["model"] == "demo"
    assert int(rows[0]["tool_calls"]) == 1
    assert int(rows[0]["tokens_in"]) > 0
    assert Decimal(rows[0]["cost_usd"]) > 0
    usage = gateway.request("GET", "/v1/tenants/demo/usage?period=today", token=gateway.token)
    assert usage.status == 200
    assert Decimal(usage.json()["rows"][0]["cost_usd"]) == Decimal(rows[0]["cost_usd"])
    assert gateway.request("GET", "/v1/tenants/acme/usage?period=today", token=gateway.token).status == 404


def test_the_report_outlives_kill_9(new_gateway: StartGateway) -> None:
    gateway = new_gateway().start()
    gateway.rpc("sessions.send", {"message": "hello"})
    before = report(gateway)
    gateway.kill()
    gateway.start()
    assert report(gateway) == before


def test_a_daily_quota_stops_hard_with_the_reset_time(new_gateway: StartGateway) -> None:
    gateway = new_gateway()
    (gateway.tenants_dir / "demo.yaml").write_text("quotas:\n  tokens_per_day: 100000\n")
    gateway.start()
    body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4000}

    def ask() -> int:
        return gateway.request("POST", "/v1/chat/completions", body, token=gateway.token).status

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: ask(), range(64)))
    assert set(statuses) <= {200, 429}
    used = sum(int(r["tokens_in"]) + int(r["tokens_out"]) for r in report(gateway))
    assert used <= 100_000
    (gateway.tenants_dir / "demo.yaml").write_text("quotas:\n  tokens_per_day: 10\n")
    refused = None
    for _ in range(50):
        refused = gateway.request("POST", "/v1/chat/completions", body, token=gateway.token)
        if refused.status == 429:
            break
    assert refused is not None
    assert refused.status == 429
    assert int(refused.headers["Retry-After"]) > 0
    error = refused.json()["error"]
    assert error["code"] == "quota_exceeded"
    assert "reset_at" in json.dumps(error)


def test_requests_a_minute_stop_hard(new_gateway: StartGateway) -> None:
    gateway = new_gateway()
    (gateway.tenants_dir / "demo.yaml").write_text("quotas:\n  requests_per_minute: 3\n")
    gateway.start()
    statuses = [
        gateway.request(
            "POST", "/v1/chat/completions", {"model": "demo", "messages": [{"role": "user", "content": "x"}]},
            token=gateway.token,
        ).status
        for _ in range(5)
    ]  # fmt: skip
    assert statuses == [200, 200, 200, 429, 429]


def test_soft_quotas_of_sandboxes_are_told_and_sessions_stop_hard(new_gateway: StartGateway) -> None:
    gateway = new_gateway()
    (gateway.tenants_dir / "demo.yaml").write_text(
        "quotas:\n  sandbox_cpu_seconds: {soft: 0}\n  sandbox_memory_bytes: {soft: 1024}\n  disk_files: {soft: 3}\n"
        "  concurrent_sessions: 1\n"
    )
    gateway.start()
    loop = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; touch a b c d e f"
    gateway.rpc("sessions.send", {"message": f"run: {loop}"})

    def used(quota: str) -> int:
        lines = gateway.rpc("tenants.quota.status")["quotas"]
        return next(int(line["used"]) for line in lines if line["name"] == quota)

    assert used("sandbox_cpu_seconds") > 0
    assert used("sandbox_memory_bytes") > 1024
    assert until(lambda: used("disk_files") > 3), "a walk that was made a moment ago is not made again"
    answer = gateway.request("GET", "/v1/models", token=gateway.token)
    named = set(answer.headers["X-Quota-Warning"].replace(" ", "").split(","))
    assert {"sandbox_cpu_seconds", "sandbox_memory_bytes", "disk_files"} <= named
    assert gateway.cli("audit", "tail", "--json").stdout.count('"quota.warning"') >= 3

    def send(number: int, command: str) -> int:
        asked = [{"role": "user", "content": f"run: {command}"}]
        body = {"model": "agent:main", "user": f"u{number}", "messages": asked}
        return gateway.request("POST", "/v1/chat/completions", body, token=gateway.token).status

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, 1, "touch begun; while [ ! -e go ]; do sleep 0.1; done")
        workspace = gateway.state_dir / "tenants" / "demo" / "sandbox"
        assert until((workspace / "begun").exists)
        assert send(2, "true") == 429
        (workspace / "go").touch()
        assert first.result() == 200
    assert send(2, "true") == 200
