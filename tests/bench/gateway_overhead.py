"""The pass-through path against nginx and against no gateway, in one run: requests/s, CPU a request, memory.

``python -m tests.bench.gateway_overhead [--seconds N] [--rounds N] [--before PROGRAM] [--json FILE]``. A contender has
core 0 to itself; the upstream (nginx with a fixed answer) and wrk share core 1. 16 connections, keep-alive on both
sides. The gateway authenticates, counts quotas, commits a ledger row before each answer's end, and writes its request
log. ``--before`` names the `carrel` of another version (or of another interpreter), measured in turn with this one:
on a machine that has other things to do, only figures of one run can be compared, and best the least CPU of its rounds.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CONNECTIONS = 16
REPOSITORY = Path(__file__).resolve().parents[2]
ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1_772_366_400, "model": "whole",
    "choices": [{
        "index": 0, "message": {"role": "assistant", "content": "Hello! How can I help?"}, "finish_reason": "stop",
    }],
    "usage": {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20},
}  # fmt: skip
PIECES = 20


def stream() -> str:
    """A stream's events as a vendor sends them."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_772_366_400, "model": "stream"}
    chunks: list[Any] = [
        {**head, "choices": [{"index": 0, "delta": {"content": "tok "}, "finish_reason": None}]}
    ] * PIECES
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    chunks.append({**head, "choices": [], "usage": ANSWER["usage"]})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def nginx_configuration(where: Path, ports: dict[str, int], *, proxy: bool) -> str:
    """The upstream's configuration, or the reverse proxy's."""
    common = (
        f"pid {where}/pid;\nerror_log {where}/error.log;\nworker_processes 1;\ndaemon off;\nmaster_process off;\n"
        "events { worker_connections 1024; }\nhttp {\naccess_log off;\nkeepalive_requests 100000000;\n"
        f"client_body_temp_path {where}/b; proxy_temp_path {where}/p; fastcgi_temp_path {where}/f;\n"
        f"uwsgi_temp_path {where}/u; scgi_temp_path {where}/s;\n"
    )
    if proxy:
        blocks = "".join(
            f"upstream {name} {{ server 127.0.0.1:{ports[name]}; keepalive 64; keepalive_requests 100000000; }}\n"
            f"server {{ listen 127.0.0.1:{ports[f'proxy-{name}']}; location / {{ proxy_pass http://{name};\n"
            'proxy_http_version 1.1; proxy_set_header Connection ""; } }\n'
            for name in ("whole", "stream")
        )
        return common + blocks + "}\n"
    return common + (
        f"server {{ listen 127.0.0.1:{ports['whole']}; location / {{ default_type application/json;\n"
        f"return 200 '{json.dumps(ANSWER)}'; }} }}\n"
        f"server {{ listen 127.0.0.1:{ports['stream']}; location / {{ default_type text/event-stream;\n"
        f"root {where}; rewrite ^ /stream break; error_page 405 =200 /stream; open_file_cache max=4; }} }}\n}}\n"
    )


def free_port() -> int:
    """A port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(core: int, *command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process of ours on one core, ended by its id."""
    running = subprocess.Popen(
        ["taskset", "-c", str(core), *command], stderr=subprocess.DEVNULL, text=True, **options
    )  # fmt: skip
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextmanager
def nginx(core: int, where: Path, ports: dict[str, int], *, proxy: bool) -> Iterator[int]:
    """An nginx, listening."""
    where.mkdir()
    (where / "nginx.conf").write_text(nginx_configuration(where, ports, proxy=proxy))
    (where / "stream").write_text(stream())
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    with process(core, program, "-c", str(where / "nginx.conf"), "-p", str(where)) as running:
        port = ports["proxy-stream" if proxy else "stream"]
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield running.pid


@contextmanager
def carrel(
    core: int, where: Path, ports: dict[str, int], *, program: Path, port: int
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The whole gateway as it is started by a user, with its tenant's token."""
    declared = where / "tenants.d"
    declared.mkdir(parents=True)
    where.chmod(0o711)
    providers = {
        name: {"kind": "openai", "base_url": f"http://127.0.0.1:{ports[name]}/v1"} for name in ("whole", "stream")
    }
    models = {name: {"provider": name, "context_window": 128_000, "max_output": 16_000} for name in providers}
    rates = {name: {"input": "3", "output": "15"} for name in models}
    files: dict[str, object] = {
        "_gateway": {"providers": providers, "models": models, "default_model": "whole"},
        "_rate-card": {"currency": "USD", "markup": "1.2", "models": rates},
        "demo": {"quotas": {
            "tokens_per_day": 10**12, "cost_per_day_usd": 10**8, "requests_per_minute": 10**9,
            "requests_per_hour": 10**10,
        }},
    }  # fmt: skip
    for name, document in files.items():
        (declared / f"{name}.yaml").write_text(json.dumps(document), encoding="utf-8")
    command = [
        str(program), "gateway", "--listen", f"127.0.0.1:{port}", "--tenants-dir", str(declared),
        "--state-dir", str(where / "state"),
    ]  # fmt: skip
    with process(core, *command, stdout=subprocess.PIPE) as gateway:
        if gateway.stdout is None:
            raise RuntimeError("the gateway has no output")
        printed: list[str] = []
        for line in gateway.stdout:
            printed.append(line)
            if line.startswith("tk_demo_"):
                break
        else:
            raise RuntimeError(f"the gateway did not start: {''.join(printed)}")
        wait_for(port)
        yield gateway, line.strip()


def wait_for(port: int) -> None:
    """Wait until something listens there."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


def cpu_seconds(pid: int) -> float:
    """What the process has used of the CPU, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Its resident memory."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    memory_mb: float


def measure(script: Path, port: int, pid: int, seconds: int) -> Round:
    """Load one contender with wrk."""
    before = cpu_seconds(pid)
    done = subprocess.run(
        ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(script),
         f"http://127.0.0.1:{port}/v1/chat/completions"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    used = cpu_seconds(pid) - before
    said = done.stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"errors while measuring:\n{said}")
    total = int(_find(r"(\d+) requests in", said))
    return Round(
        float(_find(r"Requests/sec:\s+([\d.]+)", said)), _milliseconds(_find(r"\n\s+50%\s+(\S+)", said)),
        _milliseconds(_find(r"\n\s+99%\s+(\S+)", said)), used / max(total, 1) * 1e6, memory_mb(pid),
    )  # fmt: skip


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"wrk said something else:\n{text}")
    return found[1]


def _milliseconds(text: str) -> float:
    for unit, factor in (("us", 0.001), ("ms", 1.0), ("s", 1000.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


def wrk_script(path: Path, model: str, token: str) -> Path:
    """The request that wrk repeats."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Say hello."}]}
    if model == "stream":
        body["stream"] = True
    path.write_text(
        f"wrk.method = 'POST'\nwrk.body = '{json.dumps(body)}'\nwrk.headers['Content-Type'] = 'application/json'\n"
        f"wrk.headers['Authorization'] = 'Bearer {token}'\n"
    )
    return path


def run(seconds: int, rounds: int, before: Path | None = None) -> dict[str, dict[str, Any]]:
    """All contenders in turn, again and again; the median of each, and the least CPU of a round."""
    programs = {"carrel": Path(sys.executable).with_name("carrel")} | ({"before": before} if before is not None else {})
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        where.chmod(0o711)
        ports = {name: free_port() for name in ("whole", "stream", "proxy-whole", "proxy-stream")}
        upstream = stack.enter_context(nginx(1, where / "upstream", ports, proxy=False))
        proxy = stack.enter_context(nginx(0, where / "proxy", ports, proxy=True))
        gateways: list[tuple[str, int, int, str]] = []
        for name, program in programs.items():
            port = free_port()
            gateway, token = stack.enter_context(carrel(0, where / name, ports, program=program, port=port))
            gateways.append((name, port, gateway.pid, token))
        found: dict[str, list[Round]] = {}
        for _ in range(rounds):
            for kind in ("whole", "stream"):
                others = [("direct", ports[kind], upstream, ""), ("nginx", ports[f"proxy-{kind}"], proxy, "")]
                for name, port, pid, token in others + gateways:
                    script = wrk_script(where / f"{kind}.lua", kind, token)
                    found.setdefault(f"{kind} {name}", []).append(measure(script, port, pid, seconds))
                gateways.reverse()
    return {name: _summary(some) for name, some in found.items()}


def _summary(some: list[Round]) -> dict[str, Any]:
    medians = {field: round(statistics.median(asdict(one)[field] for one in some), 3) for field in asdict(some[0])}
    return {**medians, "least_cpu_us": round(min(one.cpu_us for one in some), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found = run(chosen.seconds, chosen.rounds, chosen.before)
    out = [f"{'':16}{'req/s':>10}{'of nginx':>10}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>9}{'least':>9}{'RSS MB':>9}"]
    for name, numbers in found.items():
        ratio = numbers["requests_per_second"] / found[f"{name.split()[0]} nginx"]["requests_per_second"]
        numbers["of_nginx"] = round(ratio, 3)
        out.append(
            f"{name:16}{numbers['requests_per_second']:>10.0f}{ratio:>10.3f}{numbers['p50_ms']:>9.2f}"
            f"{numbers['p99_ms']:>9.2f}{numbers['cpu_us']:>9.0f}{numbers['least_cpu_us']:>9.0f}"
            f"{numbers['memory_mb']:>9.1f}"
        )
    sys.stdout.write("\n".join(out) + "\n")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
