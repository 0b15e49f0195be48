"""A gateway of many tenants that dies while something of each is under way: until it serves, and until each is told.

``python -m tests.system.faults.many [--tenants 1000] [--ways power,all,stop]`` prints the figures. Every tenant has a
session with an answer, a ledger, a job with a run under way, and a response that is made in the background; both wait
for a provider that never answers, so that the journal has two calls of each that nobody settled. After the next start
each tenant asks, 32 at a time, for what it cannot know: its bill, its job's runs, its response.
"""

import argparse
import asyncio
import hashlib
import json
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.sandboxed import reachable
from tests.system.faults.checks import Checks, rows_of
from tests.system.faults.deaths import LONGEST_START, Figures, Life, Way, commit
from tests.system.faults.mix import Refused
from tests.system.faults.truth import Truth

SIDE_BY_SIDE: Final = 32
UNDER_WAY: Final = 2
"""Calls of each tenant that wait when the gateway dies."""
OPERATOR: Final = """\
providers:
  demo: {{kind: demo}}
  silent: {{kind: openai, base_url: 'http://127.0.0.1:{port}/v1', first_byte_seconds: 3600, max_connections: 10000}}
models:
  demo: {{provider: demo, context_window: 1000000, max_output: 4096}}
  silent: {{provider: silent, context_window: 1000000, max_output: 4096}}
default_model: demo
packages: {{source: none}}
"""
RATES: Final = "markup: 1.20\nmodels: {demo: {input: 1.00, output: 2.00}, silent: {input: 1.00, output: 2.00}}\n"
TENANT: Final = """\
display_name: Tenant number {number}
plan: pro
agents:
  main:
    model: demo
    max_tokens: 2048
    system_prompt: |
      You help the people of tenant {number} with their data.
      Say what you did.
  waiting: {{model: silent}}
quotas:
  tokens_per_day: 100000000
  cost_per_day_usd: {{hard: 20.00, soft: 15.00}}
tokens: [{{name: ci, sha256: {digest}}}]
"""


class Silent:
    """A provider that takes every call and answers none."""

    def __init__(self) -> None:
        self.calls = 0
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._hold, daemon=True)
        self._thread.start()

    def _hold(self) -> None:
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._listener, selectors.EVENT_READ)
            while not self._over.is_set():
                for key, _ in waiting.select(0.1):
                    if key.fileobj is self._listener:
                        waiting.register(self._listener.accept()[0], selectors.EVENT_READ, [])
                    else:
                        self._read(waiting, key)
            for one in [key.fileobj for key in waiting.get_map().values()]:
                assert isinstance(one, socket.socket)
                one.close()

    def _read(self, waiting: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        connection = key.fileobj
        assert isinstance(connection, socket.socket)
        try:
            data = connection.recv(65_536)
        except OSError:
            data = b""
        if not data:
            waiting.unregister(connection)
            connection.close()
        elif not key.data:
            key.data.append("a call")
            self.calls += 1

    def close(self) -> None:
        """Let everybody go."""
        self._over.set()
        self._thread.join()


@dataclass(frozen=True, slots=True)
class Started:
    """One start. ``worked`` are seconds of a processor, of the gateway with what it started: a busy machine is in the
    seconds that passed alone."""

    way: str
    tenants: int
    ready: float
    ready_worked: float
    told: float
    told_worked: float
    slowest: float
    problems: Sequence[str]


@dataclass
class Pending:
    """What of a tenant was under way."""

    name: str
    token: str
    job: str = ""
    run: str = ""
    response: str = ""
    before: int = 0
    """Ledger rows that say `interrupted` of earlier deaths."""


@dataclass
class Many:
    """So many tenants of one gateway."""

    life: Life
    silent: Silent
    tenants: list[Pending]
    ways: list[Started] = field(default_factory=list)

    def work(self) -> None:
        """Have something of each under way."""
        goal = self.silent.calls + UNDER_WAY * len(self.tenants)
        asyncio.run(self._all(self._begin))
        deadline = time.monotonic() + 60
        while self.silent.calls < goal:
            if time.monotonic() > deadline:
                raise AssertionError(f"{goal - self.silent.calls} calls never came to the provider")
            time.sleep(0.01)
        # What is open outlives the process from its first moment, and the machine with the next row that is told.
        first = self.tenants[0].token
        self.life.gateway.rpc("sessions.send", {"message": "hello"}, token=first)

    def die(self, way: Way) -> None:
        """End it as ``way`` says, with the disk as that leaves it."""
        self.life.kill(way)
        if way == "power":
            self.life.disk.power_cut()

    def start(self, way: str) -> Started:
        """Start it again, on a disk as it is, and have each tenant ask."""
        self.life.gateway.env = {}
        began = time.monotonic()
        self.life.gateway.start(wait=LONGEST_START)
        process = self.life.gateway.process
        assert process is not None
        ready, ready_worked = time.monotonic() - began, worked(process.pid)
        took = asyncio.run(self._all(self._ask)) if way != "stop" else [0.0]
        told, told_worked = time.monotonic() - began, worked(process.pid)
        problems = self._doubled() if way != "stop" else []
        looked = Checks(self.life.gateway, Truth(), self.tenants[0].token)
        looked.audit()
        looked.left_behind()
        started = Started(
            way, len(self.tenants), ready, ready_worked, told, told_worked, max(took), [*problems, *looked.problems]
        )
        self.ways.append(started)
        return started

    async def _all(self, work: Callable[[aiohttp.ClientSession, Pending], Awaitable[None]]) -> list[float]:
        """``work`` for each tenant, some of them side by side; how long each took."""
        todo, took = iter(self.tenants), []

        async def go(session: aiohttp.ClientSession) -> None:
            for one in todo:
                began = time.monotonic()
                await work(session, one)
                took.append(time.monotonic() - began)

        limit = aiohttp.ClientTimeout(total=120)
        async with aiohttp.ClientSession(self.life.gateway.url, timeout=limit) as session:
            await asyncio.gather(*(go(session) for _ in range(SIDE_BY_SIDE)))
        return took

    async def _begin(self, session: aiohttp.ClientSession, one: Pending) -> None:
        ask = partial(rpc, session, one.token)
        one.before = sum(outcome == "interrupted" for _, outcome in self._rows(one))
        if not one.job:
            await ask("sessions.send", {"message": "hello"})
            schedule = {"kind": "at", "at": (datetime.now(UTC) + timedelta(days=300)).isoformat()}
            made = await ask(
                "cron.add", {"name": "later", "message": "hello", "agentId": "waiting", "schedule": schedule}
            )
            one.job = made["jobId"]
        one.run = (await ask("cron.run", {"jobId": one.job}))["runId"]
        body = {"model": "silent", "input": "hello", "background": True}
        one.response = (await http(session, one.token, "POST", "/v1/responses", body))["id"]

    async def _ask(self, session: aiohttp.ClientSession, one: Pending) -> None:
        """What came of it; raises AssertionError where that is not told at the first time of asking."""
        ask = partial(rpc, session, one.token)
        runs = {run["runId"]: run["status"] for run in (await ask("cron.runs", {"jobId": one.job}))["runs"]}
        assert runs.get(one.run) == "interrupted", f"{one.name}: its run is told as {runs.get(one.run)}"
        response = await http(session, one.token, "GET", f"/v1/responses/{one.response}", None)
        assert response["status"] == "failed", f"{one.name}: its response is told as {response['status']}"
        used = (await ask("tenants.usage", {}))["rows"]
        assert any(row["model"] == "silent" and row["tokens_in"] > 0 for row in used), f"{one.name}: its bill is {used}"

    def _rows(self, one: Pending) -> list[tuple[str, str]]:
        path = self.life.gateway.state_dir / "tenants" / one.name / "usage" / "ledger.sqlite"
        return rows_of(path, "SELECT id, outcome FROM ledger") if path.exists() else []

    def _doubled(self) -> list[str]:
        """Where not exactly the calls that were under way are told as interrupted."""
        problems = []
        for one in self.tenants:
            found = sum(outcome == "interrupted" for _, outcome in self._rows(one)) - one.before
            if found != UNDER_WAY:
                problems.append(f"{one.name} has {found} calls that were interrupted, not {UNDER_WAY}")
        return problems


async def http(session: aiohttp.ClientSession, token: str, method: str, path: str, body: object) -> Any:
    """An answer's JSON; raises Refused."""
    headers = {"Authorization": f"Bearer {token}"}
    async with session.request(method, path, json=body, headers=headers) as reply:
        text = await reply.text()
        if reply.status >= 300:
            raise Refused(f"{method} {path}", reply.status, text)
        return json.loads(text)


async def rpc(session: aiohttp.ClientSession, token: str, method: str, params: object) -> Any:
    """A method's result; raises Refused."""
    answer = await http(session, token, "POST", "/rpc", {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    if "error" in answer:
        raise Refused(method, 200, json.dumps(answer["error"]))
    return answer["result"]


def worked(pid: int) -> float:
    """Seconds of a processor that a process took, with those of its children that have ended."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
    return sum(map(int, numbers)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def many(count: int) -> Iterator[Many]:
    """A gateway of ``count`` tenants that runs, on the faulty disk."""
    silent = Silent()
    tenants = [Pending(f"t{number:05}", f"tk_t{number:05}_{number:032x}") for number in range(count)]

    def declare(gateway: GatewayProcess) -> None:
        top = gateway.tenants_dir
        top.mkdir(parents=True)
        (top / "_gateway.yaml").write_text(OPERATOR.format(port=silent.port))
        (top / "_rate-card.yaml").write_text(RATES)
        (top / "_plans.yaml").write_text("plans: {pro: {quotas: {requests_per_minute: 300}}}\n")
        for number, one in enumerate(tenants):
            digest = hashlib.sha256(one.token.encode()).hexdigest()
            (top / f"{one.name}.yaml").write_text(TENANT.format(number=number, digest=digest))
        commit(top)

    try:
        with reachable() as home:
            life = Life(home, "many", Figures("many"), declares=declare)
            try:
                life.start()
                yield Many(life, silent, tenants)
            finally:
                life.close()
    finally:
        silent.close()


def main() -> int:
    """The long run."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--tenants", type=int, default=1000)
    words.add_argument("--ways", default="power,all,stop")
    told = words.parse_args()
    with many(told.tenants) as one:
        for way in told.ways.split(","):
            if way == "stop":
                one.life.close()
            else:
                one.work()
                one.die(way)
            sys.stdout.write(json.dumps(asdict(one.start(way)), indent=1) + "\n")
            sys.stdout.flush()
    return 1 if any(started.problems for started in one.ways) else 0


if __name__ == "__main__":
    sys.exit(main())
