"""Work over the public surface, all kinds of it side by side, chosen by a seed: the gateway may die under it.

Each worker does one kind of thing after the other, and writes down in the `Truth` what it asks for before it asks, and
what it was told once it was told. It ends where the gateway does not answer any more.
"""

import asyncio
import json
import random
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp

from tests.fakes.gateway_process import GatewayProcess
from tests.system.faults.truth import UNKNOWN, Asked, Truth, Value

TENANT: Final = "acme"
OTHERS: Final = ("berg", "cato")
MESSAGES_A_SESSION: Final = 5
MOST_JOBS: Final = 100
"""A tenant may have twice as many."""
Gone: Final = (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError)


@dataclass
class Refused(Exception):
    """The gateway answered, and it was no."""

    what: str
    status: int
    text: str

    @property
    def code(self) -> str:
        """The status, and the code that the body has in its dialect."""
        try:
            body = json.loads(self.text)
        except ValueError:
            return str(self.status)
        error = body.get("error", body)
        said = error.get("data", {}).get("code") or error.get("type") if "data" in error else error.get("code")
        return f"{self.status} {said}"

    def __str__(self) -> str:
        return f"{self.what}: {self.status} {self.text[:600]}"


@dataclass
class Mix:
    """Work for one gateway while it lives. ``number`` names what is made so that nothing has a name twice."""

    gateway: GatewayProcess
    truth: Truth
    seed: str
    token: str
    refusals: list[Refused] = field(default_factory=list)
    tolerant: bool = False
    """Whether a refusal is written down and worked on after: where a fault is there that users are told of."""
    ahead: float = 0.0
    """Seconds that the gateway's clock is ahead of ours."""
    pace: float = 0.0
    """Seconds that a worker rests after each thing."""
    most_kept: int = 0
    """So many sessions and so many notes stay, the oldest going first; 0 is all of them."""
    _sessions: deque[str] = field(default_factory=deque)
    _notes: deque[tuple[str, str]] = field(default_factory=deque)
    _number: int = 0
    _control: aiohttp.ClientSession = field(init=False)
    _edge: aiohttp.ClientSession = field(init=False)

    async def run(self, until: Callable[[], Awaitable[None]]) -> None:
        """Work until ``until`` comes back, or the gateway is gone."""
        socket = aiohttp.UnixConnector(path=str(self.gateway.state_dir / "run" / "control.sock"))
        limit = aiohttp.ClientTimeout(total=20 if self.tolerant else 60)
        async with (
            aiohttp.ClientSession("http://carrel", connector=socket, timeout=limit) as self._control,
            aiohttp.ClientSession(self.gateway.url, timeout=limit) as self._edge,
        ):
            kinds = (
                self.complete, self.complete, self.talk, self.talk, self.use_tools, self.stream, self.tokens, self.jobs,
                self.remember, self.declare, self.keep_secrets, self.patch,
            )  # fmt: skip
            working = [asyncio.create_task(self._work(kind, at)) for at, kind in enumerate(kinds)]
            ending = asyncio.ensure_future(until())
            try:
                left: set[asyncio.Future[None]] = {ending, *working}
                while not ending.done():
                    ended, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                    if any(task.exception() for task in ended):
                        break
            finally:
                for task in (ending, *working):
                    task.cancel()
                told = await asyncio.gather(*working, return_exceptions=True)
            for error in told:
                if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                    raise error
            if not ending.cancelled():
                ending.result()

    async def _work(self, kind: Callable[[random.Random], Awaitable[None]], at: int) -> None:
        chance = random.Random(f"{self.seed} {at}")  # noqa: S311 - the same for the same seed
        while True:
            try:
                await kind(chance)
            except Gone as gone:
                if not self.tolerant:
                    return
                self.refusals.append(Refused(kind.__name__, 0, f"no answer: {type(gone).__name__}"))
                await asyncio.sleep(0.05)
            except Refused as refused:
                if not self.tolerant:
                    raise
                self.refusals.append(refused)
                await asyncio.sleep(0.05)
            await asyncio.sleep(chance.choice((0, 0, 0.001, 0.01)) + 2 * self.pace * chance.random())

    def name(self, kind: str) -> str:
        """A name that was not given before."""
        self._number += 1
        return f"{kind}-{self.seed}-{self._number}"

    # --- asking ---

    async def _ask(
        self, session: aiohttp.ClientSession, call: str, body: object, rid: str, token: str = "", **more: str
    ) -> bytes:
        method, path = call.split(" ")
        headers = {"X-Request-Id": rid, "Content-Type": "application/json", **more}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = json.dumps(body).encode() if body is not None else None
        async with session.request(method, path, data=data, headers=headers) as reply:
            text = await reply.read()
            if reply.status >= 300:
                raise Refused(call, reply.status, text.decode())
            return text

    async def rpc(self, method: str, params: Mapping[str, Any], rid: str) -> Any:
        """A method's result; raises Refused."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = json.loads(await self._ask(self._edge, "POST /rpc", body, rid, self.token))
        if "error" in answer:
            raise Refused(method, 200, json.dumps(answer["error"]))
        return answer["result"]

    async def _change(self, action: str, method: str, path: str, body: object, *, lines: int = 1) -> Any:
        """A change of the control plane's, which has its lines in the audit log."""
        rid = self.name("c")
        asked = self.truth.changes[rid] = Asked(action, lines)
        text = await self._ask(self._control, f"{method} {path}", body, rid)
        asked.acked = True
        return json.loads(text) if text else None

    async def _change_rpc(self, method: str, params: Mapping[str, Any]) -> Any:
        rid = self.name("c")
        asked = self.truth.changes[rid] = Asked(method)
        result = await self.rpc(method, params, rid)
        asked.acked = True
        return result

    # --- kinds of work ---

    async def complete(self, chance: random.Random) -> None:
        """A completion that is passed through, whole or as a stream."""
        rid, streamed = self.name("p"), chance.random() < 0.5
        asked = self.truth.calls[rid] = Asked(TENANT)
        body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "stream": streamed}
        text = await self._ask(self._edge, "POST /v1/chat/completions", body, rid, self.token)
        if streamed and b"data: [DONE]" not in text:
            raise aiohttp.ClientPayloadError
        asked.acked = True

    async def _send(self, session: str, word: str, message: str, calls: int) -> None:
        rid = self.name("s")
        row = self.truth.calls[rid] = Asked(TENANT, calls)
        said = self.truth.said[word] = Asked(session)
        answer = await self.rpc("sessions.send", {"sessionId": session, "message": message}, rid)
        if len(answer["toolCalls"]) != calls - 1:
            raise Refused("sessions.send", 200, json.dumps(answer))
        row.acked = said.acked = True

    async def _session(self, kind: str) -> str:
        session = self.name(kind)
        await self._change_rpc("sessions.create", {"sessionId": session})
        return session

    async def _delete(self, session: str) -> None:
        asked = self.truth.deleted[session] = Asked()
        await self._change_rpc("sessions.delete", {"sessionId": session})
        asked.acked = True

    async def _keep(self, session: str) -> None:
        """Leave a session that is done with as it is, and let go of the oldest where too many are left."""
        self._sessions.append(session)
        if self.most_kept and len(self._sessions) > self.most_kept:
            await self._delete(self._sessions.popleft())

    async def talk(self, chance: random.Random) -> None:
        """A session of a few messages, sometimes deleted after."""
        session = await self._session("talk")
        for _ in range(chance.randint(1, MESSAGES_A_SESSION)):
            word = self.name("w")
            await self._send(session, word, f"I say {word}.", 1)
        await (self._delete if chance.random() < 0.2 else self._keep)(session)

    async def use_tools(self, chance: random.Random) -> None:
        """A turn with a command in the sandbox, or a file that is written there."""
        word = self.name("w")
        message = f"run: echo {word}" if chance.random() < 0.7 else f"write: {word}.txt\n{word}"
        session = await self._session("tool")
        await self._send(session, word, message, 2)
        await self._keep(session)

    async def stream(self, chance: random.Random) -> None:
        """An agent's answer as a stream of events."""
        rid = self.name("a")
        asked = self.truth.calls[rid] = Asked(TENANT)
        body = {"model": "agent:main", "messages": [{"role": "user", "content": f"hi {rid}"}], "stream": True}
        where = {"X-Carrel-Session": rid}
        text = await self._ask(self._edge, "POST /v1/chat/completions", body, rid, self.token, **where)
        if b"data: [DONE]" not in text:
            raise aiohttp.ClientPayloadError
        asked.acked = True
        await self._keep(rid)

    async def tokens(self, chance: random.Random) -> None:
        """Tokens that are issued, rotated and revoked."""
        name = f"t{chance.randint(1, 4)}"
        value = self.truth.tokens.setdefault(name, Value())
        at = f"/v1/tenants/{OTHERS[0]}/tokens"
        if len(value.doubtful) > 0:
            return
        if not value.acked:
            value.ask(UNKNOWN)
            made = await self._change("tokens.issue", "POST", at, {"name": name})
            value.ack(made["token"])
        elif chance.random() < 0.8:
            value.ask(UNKNOWN)
            made = await self._change("tokens.rotate", "POST", f"{at}/rotate", {"name": name})
            value.ack(made["token"])
        else:
            value.ask("")
            await self._change("tokens.revoke", "DELETE", f"{at}/{name}", None)
            value.ack("")

    async def jobs(self, chance: random.Random) -> None:
        """A job that is due in a moment."""
        word = self.name("job")
        due = datetime.now(UTC) + timedelta(seconds=self.ahead, milliseconds=chance.randint(800, 1600))
        asked = self.truth.jobs[word] = Asked(TENANT)
        schedule = {"kind": "at", "at": due.isoformat()}
        try:
            made = await self._change_rpc("cron.add", {"name": word, "message": f"it is {word}", "schedule": schedule})
        except Refused as refused:
            if "past" not in refused.text:
                raise
            # The machine was slower than the job was far away.
            return
        asked.acked, asked.where = True, made["jobId"]
        await asyncio.sleep(chance.uniform(0, 0.3))
        if len(self.truth.jobs) > MOST_JOBS:
            oldest = next(iter(self.truth.jobs))
            gone = self.truth.jobs.pop(oldest)
            if gone.acked:
                await self._remove(gone.where)

    async def _remove(self, job: str) -> None:
        runs = (await self.rpc("cron.runs", {"jobId": job}, self.name("r")))["runs"] if self.most_kept else []
        await self._change_rpc("cron.remove", {"jobId": job})
        for run in runs:
            await self._delete(run["sessionId"])

    async def remember(self, chance: random.Random) -> None:
        """A note in the memory."""
        word = self.name("note")
        asked = self.truth.notes[word] = Asked(TENANT)
        made = await self._change_rpc("memory.add", {"text": f"remember {word}"})
        asked.acked = True
        self._notes.append((word, made["id"]))
        if self.most_kept and len(self._notes) > self.most_kept:
            oldest, note = self._notes.popleft()
            # From the moment that this is asked it may be gone.
            self.truth.notes[oldest].acked = False
            await self._change_rpc("memory.forget", {"id": note})
            del self.truth.notes[oldest]
        await asyncio.sleep(chance.uniform(0, 0.1))

    async def declare(self, chance: random.Random) -> None:
        """A change of YAML, which is a commit."""
        tenant = chance.choice(OTHERS)
        self._number += 1
        limit = 1_000_000_000 + zlib.crc32(f"{self.seed} {self._number}".encode())
        asked = self.truth.commits[f"tokens_per_day: {limit}"] = Asked(f"{tenant}.yaml")
        await self._change("quota.update", "PATCH", f"/v1/tenants/{tenant}/quota", {"tokens_per_day": limit})
        asked.acked = True

    async def keep_secrets(self, chance: random.Random) -> None:
        """A secret's next value."""
        name = f"key{chance.randint(1, 3)}"
        asked = self.truth.secrets.setdefault(name, Asked("0", 0))
        asked.count += 1
        put = await self._change(
            "secrets.set", "PUT", f"/v1/tenants/{TENANT}/secrets/{name}", {"value": self.name("v")}
        )
        asked.where = str(put["version"])
        await asyncio.sleep(chance.uniform(0, 0.05))

    async def patch(self, chance: random.Random) -> None:
        """The tenant's own settings."""
        name = self.name("called")
        self.truth.display_name.ask(name)
        await self._change_rpc("config.patch", {"patch": {"display_name": name}})
        self.truth.display_name.ack(name)
        await asyncio.sleep(chance.uniform(0, 0.05))
