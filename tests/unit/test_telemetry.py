import asyncio
import io
import json
import re
import shutil
import subprocess
from datetime import UTC, datetime

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from carrel.ids import TenantId, parse_tenant_id
from carrel.tasks import Tasks
from carrel.telemetry import LineLog, Metrics, configure_logging, escape_text, quoted


class Pieces(io.StringIO):
    """What was written, by the writes."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return len(text)


def test_no_value_moves_a_cursor_or_breaks_a_line() -> None:
    assert escape_text("a\x1b[2Jb\r\nc") == "a\\x1b[2Jb\\x0d\\x0ac"
    assert escape_text("a\u202eb") == "a\\u202eb"
    assert escape_text("Zoë, 漢字") == "Zoë, 漢字"


def test_a_log_line_is_one_line_whatever_is_in_it() -> None:
    out = io.StringIO()
    configure_logging(json=True, stream=out)
    structlog.get_logger().info("hello\nworld", tenant="acme", value="\x1b]0;title\x07")
    structlog.reset_defaults()
    lines = out.getvalue().splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["value"] == "\\x1b]0;title\\x07"


def test_a_line_of_logfmt_can_be_read_back() -> None:
    out = io.StringIO()
    configure_logging(stream=out)
    try:
        raise ValueError("no \x1b[2J")
    except ValueError:
        structlog.get_logger().error(
            "it failed", tenant="acme", path='a "b" \\c', none=None, ok=True, ms=1.5, exc_info=True
        )
    structlog.reset_defaults()
    (line,) = out.getvalue().splitlines()
    assert line.split(" ")[0].startswith("timestamp=2")
    assert ' level=error event="it failed" tenant=acme path="a \\"b\\" \\\\c" ok=true ms=1.5 exception="' in line
    assert "\\\\x1b[2J" in line
    assert "none" not in line


def test_a_token_in_a_line_is_cut_to_its_prefix() -> None:
    out = io.StringIO()
    configure_logging(stream=out)
    structlog.get_logger().info("seen", value=f"tk_acme_{'0' * 32}")
    structlog.reset_defaults()
    assert "value=tk_acme_***" in out.getvalue()


@pytest.mark.parametrize("value", ["plain", 'a "b"', f"tk_acme_{'0' * 32}", "x\x1b[2J", "a=b"])
def test_a_line_past_the_loggers_steps_is_the_loggers_line(value: str) -> None:
    out = io.StringIO()
    configure_logging(stream=out)
    line = LineLog("n", "request")
    assert line.plain
    line.write(f" tenant=acme status=200 credential={quoted(value)}")
    structlog.get_logger().info("request", tenant="acme", status=200, credential=value)
    structlog.reset_defaults()
    direct, logged = out.getvalue().splitlines()
    assert direct.split(" ", 1)[1] == logged.split(" ", 1)[1]
    for found in (direct, logged):
        assert datetime.fromisoformat(found.split(" ")[0].removeprefix("timestamp=")).tzinfo is not None


def test_who_wants_another_form_of_line_or_captures_lines_is_told() -> None:
    out = io.StringIO()
    configure_logging(stream=out, json=True)
    line = LineLog("n", "request")
    assert not line.plain
    line.info(tenant="acme", credential="c")
    assert json.loads(out.getvalue())["credential"] == "c"
    configure_logging(stream=out, level="warning")
    LineLog("n", "request").write(" tenant=acme")
    LineLog("n", "request").info(tenant="acme", credential="c")
    assert len(out.getvalue().splitlines()) == 1
    configure_logging(stream=out)
    line = LineLog("n", "request")
    with capture_logs() as lines:
        assert not line.plain
        line.info(tenant="acme", credential="c")
    structlog.reset_defaults()
    assert lines == [{"event": "request", "log_level": "info", "tenant": "acme", "credential": "c"}]


async def test_lines_of_one_turn_are_written_in_one_piece_and_in_order() -> None:
    out = Pieces()
    configure_logging(stream=out)
    line = LineLog("n", "request")
    for number in range(3):
        line.write(f" n={number}")
    assert out.pieces == []
    await asyncio.sleep(0)
    assert [piece.count("\n") for piece in out.pieces] == [3]
    line.write(" n=3")
    structlog.get_logger().warning("between")
    line.write(" n=4")
    await asyncio.sleep(0)
    structlog.reset_defaults()
    assert re.findall(r"n=\d|between", "".join(out.pieces)) == ["n=0", "n=1", "n=2", "n=3", "between", "n=4"]


def test_the_level_filters() -> None:
    out = io.StringIO()
    configure_logging(level="warning", stream=out)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    structlog.reset_defaults()
    assert "quiet" not in out.getvalue()
    assert "loud" in out.getvalue()


def test_metrics_carry_the_tenant() -> None:
    metrics = Metrics()
    acme = parse_tenant_id("acme")
    metrics.request(acme, route="/rpc", status=200, seconds=0.01)
    metrics.tokens(acme, model="demo", token_class="input", count=5)
    metrics.tokens(acme, model="demo", token_class="output", count=0)
    metrics.cost(acme, 0.5)
    metrics.refused(acme, quota="tokens_per_day")
    metrics.sandbox(acme, ending="ok")
    metrics.tenants("Ready", 3)
    text = metrics.render().decode()
    assert 'carrel_requests_total{route="/rpc",status="200",tenant="acme"} 1.0' in text
    assert 'carrel_tokens_total{class="input",model="demo",tenant="acme"} 5.0' in text
    assert 'class="output"' not in text
    assert 'carrel_request_seconds_bucket{le="0.005",route="/rpc"} 0.0' in text
    assert 'carrel_request_seconds_bucket{le="0.01",route="/rpc"} 1.0' in text
    assert 'carrel_request_seconds_bucket{le="+Inf",route="/rpc"} 1.0' in text
    assert 'carrel_request_seconds_count{route="/rpc"} 1.0' in text
    assert 'carrel_request_seconds_sum{route="/rpc"} 0.01' in text
    assert 'carrel_tenants{state="Ready"} 3.0' in text


def used_metrics(metrics: Metrics, tenant: TenantId) -> bytes:
    """Everything that is counted, counted once."""
    metrics.request(tenant, route="/v1/models", status=200, seconds=0.1)
    metrics.request(None, route="/healthz", status=200, seconds=0.1)
    metrics.tokens(tenant, model="m", token_class="input", count=3)
    metrics.cost(tenant, 1.5)
    metrics.refused(tenant, quota="tokens_per_day")
    metrics.warned(tenant, quota="tokens_per_day")
    metrics.sandbox(tenant, ending="ok")
    metrics.turn(tenant, ending="ok")
    metrics.egress(tenant, outcome="ok", sent=1, received=1)
    metrics.connection(tenant, provider="github", outcome="linked")
    metrics.mcp(tenant, server="docs", outcome="ok")
    metrics.websockets(tenant, 1)
    metrics.channel_message(tenant, channel="telegram", outcome="taken", count=2)
    metrics.tenants("active", 1)
    metrics.reconciled(0.1, failed=False, at=datetime(2026, 3, 1, tzinfo=UTC))
    metrics.conditions({("Ready", "True"): 1})
    metrics.drift({"file": 1})
    return metrics.render()


def test_metrics_are_named_as_prometheus_wants_them() -> None:
    text = used_metrics(Metrics(), TenantId("acme")).decode()
    families = list(text_string_to_metric_families(text))
    assert len(families) > 15
    for family in families:
        assert re.fullmatch(r"(carrel|process)_[a-z_]+", family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert not re.search(r"(milliseconds|minutes|hours|kilobytes|_count|_sum|_bucket)$", family.name), family.name
        for sample in family.samples:
            assert set(sample.labels) <= {
                "tenant", "route", "status", "model", "class", "quota", "ending", "outcome", "direction", "state",
                "condition", "kind", "le", "provider", "server", "channel", "owner",
            }  # fmt: skip


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")
def test_promtool_finds_nothing() -> None:
    text = used_metrics(Metrics(), TenantId("acme"))
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_tenants_that_are_too_many_share_a_label() -> None:
    metrics = Metrics(most_tenants=2)
    for number in range(5):
        used_metrics(metrics, TenantId(f"t{number}"))
    text = metrics.render().decode()
    assert 'carrel_turns_total{ending="ok",tenant="t1"} 1.0' in text
    assert 'carrel_turns_total{ending="ok",tenant="_other"} 3.0' in text
    assert 'carrel_requests_total{route="/v1/models",status="200",tenant="_other"} 3.0' in text
    assert 'tenant="t2"' not in text


def test_gauges_that_others_keep_are_read_when_they_are_asked_for() -> None:
    metrics = Metrics()
    values: dict[tuple[str, ...], float] = {("a", "running"): 1.0}
    metrics.read_from({"carrel_provider_calls": ("Calls.", ("provider", "state"))},
                      lambda: {"carrel_provider_calls": values})  # fmt: skip
    values["a", "running"] = 2.0
    text = metrics.render().decode()
    assert "# HELP carrel_provider_calls Calls." in text
    assert 'carrel_provider_calls{provider="a",state="running"} 2.0' in text


async def test_what_the_process_holds_can_be_watched() -> None:
    metrics, tasks = Metrics(), Tasks("relay")
    work = tasks.start(asyncio.sleep(60), name="call")
    held = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }
    assert held["carrel_tasks", "relay"] == 1
    # The test's own.
    assert held["carrel_tasks", "_other"] >= 1
    assert held["process_resident_memory_bytes",] > 1 << 20
    assert held["process_open_fds",] > 3
    work.cancel()
    await tasks.close()
    assert 'owner="relay"' not in metrics.render().decode()
