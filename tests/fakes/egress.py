"""Gates without sandboxes: a tenant with rules, hosts on loopback under names of their own, and who listens there."""

import asyncio
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from carrel.clock import SystemClock
from carrel.declare.allowlists import Allowlists
from carrel.declare.egress import Egress as Declared
from carrel.declare.hosts import canonical
from carrel.egress.authority import Authority
from carrel.egress.resolve import Dialler
from carrel.egress.service import Egress, Gate, Models
from carrel.egress.visitor import Grants
from carrel.ids import SessionId
from carrel.sandbox.launcher.packets import memory
from carrel.secrets import Secret, SecretMissing
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Directory, Tenant
from tests.fakes.records import Noting
from tests.fakes.tenants import make_snapshot, make_tenant

KEY = b"k" * 32
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Lines(Noting):
    """An audit log that is a list."""

    lines: list[dict[str, object]] = field(default_factory=list)

    async def record(self, **line: object) -> None:
        self.lines.append(line)


@dataclass
class Names:
    """A resolver: what each name leads to, and how often it was asked. A list is given one after the other."""

    known: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        if name not in self.known:
            raise OSError(-2, "Name or service not known")
        answers = self.known[name]
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Values:
    """Secrets by name."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    async def get(self, tenant: Tenant, name: str) -> Secret:
        if name not in self.values:
            raise SecretMissing(f"secret {name!r} is not set")
        return Secret(self.values[name])


@dataclass
class EgressHouse:
    """An Egress with one tenant, `acme`, whose rules can be changed, and hosts that listen on loopback."""

    state: Path
    stack: AsyncExitStack
    grants: Grants | None = None
    models: Models | None = None

    def __post_init__(self) -> None:
        self.names, self.audit, self.secrets, self.metrics = Names(), Lines(), Values(), Metrics()
        self.directory, self.tasks = Directory(), Tasks("test")
        # Who vouches for the hosts here.
        self.public = Authority("the test's hosts", SystemClock())
        trust = ssl.create_default_context(cadata=self.public.certificate.decode())
        self.tenant = make_tenant(self.state, "acme")
        self.allowlists = Allowlists()
        self.declare({})
        self.egress = Egress(
            directory=self.directory, clock=SystemClock(), tasks=self.tasks, metrics=self.metrics, audit=self.audit,
            secrets=self.secrets, key=KEY, dialler=Dialler(clock=SystemClock(), look=self.names), grants=self.grants,
            models=self.models, tls=trust,
        )  # fmt: skip

    def declare(self, egress: dict[str, object]) -> None:
        """Put these rules in force."""
        declared = Declared.model_validate_json(json.dumps(egress))
        config = self.tenant.config.model_copy(update={"egress": declared})
        self.tenant = replace(self.tenant, config=config, revision=str(id(config)))
        self.directory.publish(replace(make_snapshot(self.tenant), allowlists=self.allowlists))

    def gate(self, agent: str = "main") -> Gate:
        return self.egress.gate(self.tenant, agent=agent, session_id=SessionId("s_1"))

    async def host(self, name: str, handler: Handler, *, secure: bool = True) -> int:
        """Let ``handler`` answer as ``name``; the port. What it says is trusted where ``name`` is what is asked for."""
        server = web.Server(handler)  # type: ignore[arg-type] # of the same shape
        tls = self.public.context(canonical(name)) if secure else None
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=tls)
        self.names.known[name] = [["127.0.0.1"]]
        self.stack.callback(listener.close)
        self.stack.push_async_callback(server.shutdown, 0.5)
        return int(listener.sockets[0].getsockname()[1])

    async def serve(self, gate: Gate) -> str:
        """Let ``gate`` listen, on a port that a sandbox would not have; the address of the proxy with its password."""
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        task = self.tasks.start(gate.serve(listener), name="gate")

        async def stop() -> None:
            task.cancel()
            await asyncio.wait([task])
            listener.close()

        self.stack.push_async_callback(stop)
        return gate.env["HTTPS_PROXY"].replace(":3128", f":{port}")


@asynccontextmanager
async def egress_house(state: Path, **options: Any) -> AsyncIterator[EgressHouse]:
    """The house, and everything that it opened closed at the end."""
    async with AsyncExitStack() as stack:
        house = EgressHouse(state, stack, **options)
        stack.push_async_callback(house.tasks.close)
        stack.push_async_callback(house.egress.close)
        yield house
        house.tenant.root.close()


def local(name: str, port: int, **more: object) -> dict[str, object]:
    """A rule for a host of the house's, which is on loopback."""
    return {"host": name, "ports": [port], "addresses": ["127.0.0.0/8"], **more}


@dataclass(frozen=True)
class Curled:
    """What curl got."""

    code: int
    status: int
    body: str
    err: str


async def curl(proxy: str, *arguments: str, ca: bytes | None = None, socks: bool = False) -> Curled:
    """Run the real curl through ``proxy``, trusting ``ca``."""
    address = proxy.replace("http://", "socks5h://") if socks else proxy
    words = ["curl", "-sS", "--max-time", "60", "-x", address, "-w", "\n%{http_code}", *arguments]
    if ca is not None:
        fd = memory("ca", ca)
        words += ["--cacert", f"/proc/self/fd/{fd}"]
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={"PATH": "/usr/bin:/bin"},
        pass_fds=(fd,) if ca is not None else (),
    )  # fmt: skip
    try:
        out, err = await process.communicate()
    finally:
        if ca is not None:
            os.close(fd)
    body, _, status = out.decode("utf-8", "replace").rpartition("\n")
    return Curled(process.returncode or 0, int(status or 0), body, err.decode())
