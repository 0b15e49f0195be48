"""What a push does to streams: ``python -m tests.bench.push [--json] [--tenants N] [--changed N] [--rounds N]``.

A vendor sends a piece of a stream every 5 ms with the time in it; a caller reads it through the gateway. A push over a
real sshd changes many tenants meanwhile. How late pieces are then is held against how late they are before it. Who
pushes is at another machine as a rule: git and ssh of that side wait here for all that a gateway's own machine does.
"""

import argparse
import asyncio
import hashlib
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

from tests.bench.reconcile import TENANT
from tests.fakes.gateway_process import GatewayProcess, carrel
from tests.fakes.repositories import Clone, keypair
from tests.fakes.sshd import Sshd

TOKEN = f"tk_reader_{'0' * 32}"
GATEWAY = """\
providers: {{up: {{kind: openai, base_url: 'http://127.0.0.1:{port}/v1'}}}}
models: {{demo: {{provider: up, context_window: 32768, max_output: 4096}}}}
default_model: demo
"""
READER = f"plan: pro\ntokens: [{{name: ci, sha256: {hashlib.sha256(TOKEN.encode()).hexdigest()}, scopes: [chat]}}]\n"
EVERY = 0.005
ELSEWHERE = (
    sys.executable, "-c",
    "import os, sys; from carrel.priority import step_back; os.setsid(); step_back(); "
    "os.execvp(sys.argv[1], sys.argv[1:])",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """Milliseconds, the median of rounds but for the worst of all: how late pieces came."""

    tenants: int
    changed: int
    quiet_p99: float
    quiet_max: float
    push_p99: float
    push_max: float
    push_worst: float
    push_seconds: float


async def vendor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An endless answer: what the time is, every 5 ms."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        while True:
            piece = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "demo", "choices": [
                {"index": 0, "delta": {"content": f"{time.monotonic():.6f} "}, "finish_reason": None}]}  # fmt: skip
            data = f"data: {json.dumps(piece)}\n\n".encode()
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
            await asyncio.sleep(EVERY)
    except ConnectionError:
        return


async def read(url: str, late: list[tuple[float, float]]) -> None:
    """Read the stream, and keep when each piece came and how late it was."""
    body = {
        "model": "demo",
        "stream": True,
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "go"}],
    }
    limits = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=limits) as session,
        session.post(
            f"{url}/v1/chat/completions",
            json=body,
            headers={"Authorization": f"Bearer {TOKEN}"},
        ) as answer,
    ):
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            if line.startswith(b"data: {"):
                now = time.monotonic()
                text = json.loads(line[6:])["choices"][0]["delta"].get("content")
                if text:
                    late.append((now, (now - float(text)) * 1000))


def between(late: list[tuple[float, float]], begin: float, end: float) -> tuple[float, float]:
    """The 99th of a hundred and the most of what came in a time."""
    found = sorted(ms for at, ms in late if begin <= at <= end)
    return found[int(len(found) * 0.99)], found[-1]


def first(clone: Clone, port: int, tenants: int) -> None:
    files = {f"t{n:05}.yaml": TENANT.format(number=n) for n in range(1, tenants + 1)}
    clone.commit({
        **files, "reader.yaml": READER, "_gateway.yaml": GATEWAY.format(port=port),
        "_rate-card.yaml": "models: {demo: {input: 1.00, output: 2.00}}\n", "_plans.yaml": "plans: {pro: {}}\n",
        "_allowlists.yaml": "packages: {names: [python3, ripgrep, jq, git]}\n",
    })  # fmt: skip


async def measure(home: Path, tenants: int, changed: int, rounds: int) -> Result:
    upstream = await asyncio.start_server(vendor, "127.0.0.1", 0)
    gateway = GatewayProcess(home=home, git=home / "state" / "git" / "settings.yaml")
    key = keypair(home / "key")
    for words in (("init",), ("authorize", f"{key}.pub", "--name", "bench")):
        done = carrel("git", *words, cwd=home, env={"CARREL_STATE_DIR": str(gateway.state_dir)})
        assert done.returncode == 0, done.stderr
    sshd = Sshd(home / "sshd", gateway.state_dir / "git" / "authorized_keys")
    clone = Clone(home / "clone", ssh=sshd.ssh(key), prefix=ELSEWHERE)
    reading: asyncio.Task[None] | None = None
    try:
        await asyncio.to_thread(sshd.start)
        await asyncio.to_thread(gateway.start, wait=120)
        first(clone, upstream.sockets[0].getsockname()[1], tenants)
        clone.git("remote", "add", "carrel", sshd.url("tenants.git"))
        await asyncio.to_thread(clone.git, "push", "-q", "carrel", "main")
        late: list[tuple[float, float]] = []
        reading = asyncio.create_task(read(gateway.url, late))
        rows: list[tuple[float, ...]] = []
        for number in range(rounds):
            await asyncio.sleep(5)
            quiet = between(late, time.monotonic() - 4, time.monotonic())
            texts = {n: TENANT.format(number=n).replace("2048", str(1000 + number)) for n in range(1, changed + 1)}
            await asyncio.to_thread(clone.commit, {f"t{n:05}.yaml": text for n, text in texts.items()})
            await asyncio.sleep(1)
            begin = time.monotonic()
            await asyncio.to_thread(clone.git, "push", "-q", "carrel", "main")
            end = time.monotonic()
            rows.append((*quiet, *between(late, begin, end), end - begin))
            assert not reading.done()
        middle = [sorted(column)[len(column) // 2] for column in zip(*rows, strict=True)]
        quiet_p99, quiet_max, push_p99, push_max, seconds = middle
        worst = max(row[3] for row in rows)
        return Result(tenants, changed, quiet_p99, quiet_max, push_p99, push_max, worst, seconds)
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        upstream.close()
        await asyncio.to_thread(sshd.stop)
        if gateway.process is not None:
            await asyncio.to_thread(gateway.stop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tenants", type=int, default=2000)
    parser.add_argument("--changed", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="carrel-push-") as place:
        home = Path(place) / "home"
        home.mkdir()
        result = asyncio.run(measure(home, told.tenants, told.changed, told.rounds))
    if told.json:
        sys.stdout.write(json.dumps(asdict(result)) + "\n")
        return
    for name, value in asdict(result).items():
        sys.stdout.write(f"{name:<14} {value:.1f}\n" if isinstance(value, float) else f"{name:<14} {value}\n")


if __name__ == "__main__":
    main()
