"""The audit log of a whole gateway: every method and route that changes state has its line, and no line has a secret.

What is called comes from the registry of methods and the table of routes: one that is new has to be called here, or to
be named with the reason why it has no line.
"""

import asyncio
import contextlib
import io
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from carrel.backup.archive import Header, Writer
from carrel.http.app import all_routes
from carrel.http.rpc.methods import REGISTRY
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.oauth_vendor import SECRET, declared
from tests.fakes.patience import PATIENCE, eventually, until
from tests.fakes.person import Person
from tests.fakes.telegram import TOKEN, BotApi, running_bot_api
from tests.system.conftest import StartGateway
from tests.system.test_connections import Vendor
from tests.system.test_connections import vendor as vendor_fixture

CANARY = "canary5ecret" + "0" * 12
CALLS = "Model calls are in the ledger and what was said is in the transcript, both with the request's id."
WITHOUT_A_LINE = {
    "sessions.send": CALLS,
    "node.connect": "It is a connection that comes and goes, and is kept nowhere.",
    "node.result": "It is an answer to `node.invoke`, which has the line.",
    "POST /v1/chat/completions": CALLS, "POST /v1/messages": CALLS, "POST /v1/responses": CALLS,
    "POST /v1/embeddings": CALLS, "POST /v1/tenants/{id}/chat": CALLS,
    "POST /v1/messages/count_tokens": "It changes nothing.",
    "POST /rpc": "Its methods have their lines.", "POST /v1/tenants/{id}/rpc": "Its methods have their lines.",
    "POST /v1/git/take": "Who moved the branch has the line, `git.push` or `git.pull`.",
    "POST /v1/git/pull": "As above.", "POST /v1/git/nudge": "As above.",
    "POST /v1/responses/input_tokens": "It changes nothing.", "POST /v1/responses/compact": CALLS,
    "POST /v1/archives/look": "It changes nothing.",
    "POST /hooks/{tenant}/{channel}": CALLS,
    "POST /mcp/{server}": "Sessions and calls of tools have a line each, as a server is asked: test_mcp.py.",
    "DELETE /mcp/{server}": "As above.",
    "POST /v1/browser/session": "A browser's session is in memory alone, and holds what the token does.",
    "DELETE /v1/browser/session": "As above.", "POST /v1/browser/tickets": "As above.",
    **dict.fromkeys(
        ("terminal.ack", "terminal.attach", "terminal.detach", "terminal.read", "terminal.recording",
         "terminal.recordings", "terminal.resize", "terminal.write"), "It is what is seen and typed in a terminal.",
    ),
    **dict.fromkeys(
        ("terminal.spawn", "terminal.close"), "A terminal has a line for its start and its end: test_terminal.py.",
    ),
}  # fmt: skip
SAID = {
    "tenants.rotate": "tokens.rotate", "tenants.quota.request": "quota.ask", "tenants.delete": "tenants.remove"
}  # fmt: skip
"""What is called otherwise in its line, as a command does the same."""
MANY = {"POST /v1/tenants": ["tenants.create", "tokens.rotate"]}
"""What is two changes at once, and has a line for each."""


@dataclass
class Talk:
    """A gateway's control socket, and what was learned on the way."""

    session: aiohttp.ClientSession
    known: dict[str, str] = field(default_factory=dict)
    number: int = 0

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[Any, list[dict[str, Any]], int]:
        """The answer, the audit lines of this very request, and its status."""
        self.number += 1
        request_id = f"audited-{self.number}"
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        async with self.session.request(
            method, f"http://carrel{path}", data=sent, headers={"X-Request-Id": request_id}
        ) as reply:
            text, status = await reply.text(), reply.status
        return json.loads(text) if text else None, await self.lines(), status

    async def lines(self) -> list[dict[str, Any]]:
        """The lines of the last request now."""
        async with self.session.get(f"http://carrel/v1/audit?request_id=audited-{self.number}") as reply:
            found: list[dict[str, Any]] = (await reply.json())["lines"]
        return found

    async def call(self, method: str, params: Any) -> tuple[Any, list[dict[str, Any]]]:
        answer, lines, status = await self.ask(
            "POST", "/v1/tenants/demo/rpc", {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        )
        assert status == 200, answer
        assert "result" in answer or method == "node.invoke", (method, answer)
        return answer.get("result"), lines


Params = dict[str, Any] | Callable[[dict[str, str]], dict[str, Any]]
YEARLY = {"kind": "every", "everySeconds": 31_622_400, "anchor": "2026-01-01T00:00:00Z"}
SKILL = f"---\nname: rhyme\ndescription: Rhymes.\n---\nRhyme. {CANARY}\n"
METHODS: list[tuple[str, Params, str | None]] = [
    ("config.patch", {"patch": {"display_name": "Patched"}}, None),
    ("config.set", {"config": {"display_name": "Set"}}, None),
    ("agents.create", {"name": "poet", "systemPrompt": "Rhyme."}, None),
    ("agents.update", {"agentId": "poet", "thinking": "low"}, None),
    ("agents.files.set", {"agentId": "poet", "name": "SOUL.md", "content": f"Be kind. {CANARY}"}, None),
    ("agents.delete", {"agentId": "poet"}, None),
    ("cron.add", {"name": "yearly", "message": f"say {CANARY}", "schedule": YEARLY}, "jobId"),
    ("cron.update", lambda known: {"jobId": known["cron.add"], "message": f"say {CANARY} again"}, None),
    ("cron.run", lambda known: {"jobId": known["cron.add"], "wait": True}, None),
    ("cron.remove", lambda known: {"jobId": known["cron.add"]}, None),
    ("memory.add", {"text": f"likes {CANARY}"}, "id"),
    ("memory.forget", lambda known: {"id": known["memory.add"]}, None),
    ("packages.add", {"packages": ["gzip"]}, None),
    ("packages.remove", {"packages": ["gzip"]}, None),
    ("sessions.create", {"sessionId": "one"}, None),
    ("sessions.compact", {"sessionId": "one"}, None),
    ("sessions.cancel", {"sessionId": "one"}, None),
    ("sessions.reset", {"sessionId": "one"}, None),
    ("sessions.delete", {"sessionId": "one"}, None),
    ("skills.install", {"content": SKILL}, None),
    ("skills.update", {"name": "rhyme", "enabled": False}, None),
    ("skills.remove", {"name": "rhyme"}, None),
    ("voicewake.set", {"triggers": ["carrel"]}, None),
    ("device.pair.code", {}, "code"),
    ("device.pair.approve", lambda known: {"requestId": known["POST /v1/devices/pair"]}, "deviceId"),
    ("device.token.rotate", lambda known: {"deviceId": known["device.pair.approve"]}, None),
    ("device.token.revoke", lambda known: {"deviceId": known["device.pair.approve"]}, None),
    ("device.pair.reject", lambda known: {"requestId": known["pair again"]}, None),
    ("node.pair.request", {"name": "box"}, "requestId"),
    ("node.pair.approve", lambda known: {"requestId": known["node.pair.request"]}, "deviceId"),
    (
        "node.pair.verify",
        lambda k: {"requestId": k["node.pair.request"], "secret": k["node.pair.request secret"]},
        None,
    ),
    ("node.rename", lambda known: {"nodeId": known["node.pair.approve"], "name": "crate"}, None),
    ("node.invoke", lambda known: {"nodeId": known["node.pair.approve"], "command": "system.run"}, None),
    ("node.pair.reject", lambda known: {"requestId": known["node.pair.request"]}, None),
    ("channels.pair", lambda known: {"channel": "telegram", "code": known["code of a stranger"]}, None),
    ("channels.stop", {"channel": "telegram"}, None),
    ("channels.start", {"channel": "telegram"}, None),
    ("channels.logout", {"channel": "telegram"}, None),
    ("connections.link", {"provider": "vendor"}, "url"),
    ("connections.remove", {"name": "vendor"}, None),
    ("grants.decide", lambda known: {"grant": known["grant"], "decision": "deny"}, None),
    ("tenants.quota.request", {"quota": "requests_per_hour", "limit": "99", "reason": "more"}, "id"),
    ("tenants.backup", {}, "key"),
    ("tenants.restore", lambda known: {"key": known["tenants.backup"]}, None),
    ("tenants.rotate", {}, "token"),
]
LAST: list[tuple[str, Params, str | None]] = [("tenants.delete", {"confirm": True}, None)]


def archive(_: dict[str, str]) -> bytes:
    """A tenant in a file."""
    out = io.BytesIO()
    writer = Writer(out, Header(tenant="newco", at=datetime(2026, 3, 1, tzinfo=UTC), carrel="1"))
    writer.data("config.yaml", f"display_name: {CANARY}\n".encode())
    writer.close()
    return out.getvalue()


def place(known: dict[str, str]) -> str:
    """Where one goes to and comes from."""
    return f"file://{known['backups']}/archives/newco.tar.gz"


Body = dict[str, Any] | Callable[[dict[str, str]], Any] | None
ROUTES: list[tuple[str, str, Body, str | None]] = [
    ("POST /v1/tenants", "/v1/tenants", {"id": "newco"}, None),
    ("PATCH /v1/tenants/{id}/quota", "/v1/tenants/newco/quota", {"tokens_per_day": 9}, None),
    ("POST /v1/tenants/{id}/resize", "/v1/tenants/newco/resize", {"pids": 64}, None),
    ("POST /v1/tenants/{id}/quota/requests/{request}/decision",
     "/v1/tenants/demo/quota/requests/{tenants.quota.request}/decision", {"decision": "reject"}, None),
    ("POST /v1/tenants/{id}/tokens", "/v1/tenants/newco/tokens", {"name": "second"}, None),
    ("POST /v1/tenants/{id}/tokens/rotate", "/v1/tenants/newco/tokens/rotate", {"name": "second"}, None),
    ("DELETE /v1/tenants/{id}/tokens/{name}", "/v1/tenants/newco/tokens/second", None, None),
    ("PUT /v1/tenants/{id}/secrets/{secret}", "/v1/tenants/newco/secrets/key", {"value": CANARY}, None),
    ("POST /v1/tenants/{id}/secrets", "/v1/tenants/newco/secrets", None, None),
    ("DELETE /v1/tenants/{id}/secrets/{secret}", "/v1/tenants/newco/secrets/key", None, None),
    ("POST /v1/tenants/{id}/snapshots", "/v1/tenants/demo/snapshots", {}, "id"),
    ("POST /v1/tenants/{id}/snapshots/{snapshot}/rollback",
     "/v1/tenants/demo/snapshots/{POST /v1/tenants/{id}/snapshots}/rollback", None, None),
    ("DELETE /v1/tenants/{id}/snapshots/{snapshot}",
     "/v1/tenants/demo/snapshots/{POST /v1/tenants/{id}/snapshots}", None, None),
    ("POST /v1/tenants/{id}/sandboxes/{sandbox}/exec", "/v1/tenants/demo/sandboxes/{sandbox}/exec",
     {"argv": ["true"]}, None),
    ("DELETE /v1/tenants/{id}/sandboxes/{sandbox}", "/v1/tenants/demo/sandboxes/{sandbox}", None, None),
    ("POST /v1/tenants/{id}/backups", "/v1/tenants/newco/backups", {}, "id"),
    ("POST /v1/tenants/{id}/backups/verify", "/v1/tenants/newco/backups/verify", {}, None),
    ("POST /v1/tenants/{id}/backups/collect", "/v1/tenants/newco/backups/collect", {}, None),
    ("POST /v1/tenants/{id}/restore", "/v1/tenants/newco/restore", {}, None),
    ("POST /v1/tenants/{id}/restore/decision", "/v1/tenants/newco/restore/decision", {"decision": "confirm"}, None),
    ("POST /v1/tenants/{id}/import", "/v1/tenants/newco/import?replace=true", archive, None),
    ("DELETE /v1/tenants/{id}/backups/running", "/v1/tenants/newco/backups/running", None, None),
    ("POST /v1/tenants/{id}/export", "/v1/tenants/newco/export", lambda known: {"to": place(known)}, None),
    ("POST /v1/tenants/{id}/import/from", "/v1/tenants/newco/import/from",
     lambda known: {"place": place(known), "replace": True}, None),
    ("POST /v1/tenants/{id}/suspend", "/v1/tenants/newco/suspend", None, None),
    ("POST /v1/tenants/{id}/resume", "/v1/tenants/newco/resume", None, None),
    ("POST /v1/reconcile", "/v1/reconcile", None, None),
    ("POST /v1/rollback", "/v1/rollback", {"revision": "HEAD~1"}, None),
    ("DELETE /v1/tenants/{id}", "/v1/tenants/newco", None, None),
]  # fmt: skip
NOTHING_THERE = {"DELETE /v1/tenants/{id}/backups/running": "failed: not_found"}
"""What is asked for in vain, and has its line all the same."""
CHANNEL = "channels: {telegram: {kind: telegram, accounts: {main: {token: {secret: BOT}}}}}\n"
SAY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "store": True}
KEPT: dict[str, tuple[str, dict[str, Any], Any, str]] = {
    "DELETE /v1/responses/{response}": ("/v1/responses", {"input": "hi"}, None, "responses.delete"),
    "POST /v1/responses/{response}/cancel": (
        "/v1/responses", {"input": "hi", "background": True}, None, "responses.cancel",
    ),
    "DELETE /v1/chat/completions/{completion}": ("/v1/chat/completions", SAY, None, "completions.delete"),
    "POST /v1/chat/completions/{completion}": (
        "/v1/chat/completions", SAY, {"metadata": {"note": CANARY}}, "completions.update",
    ),
}  # fmt: skip
"""What is kept of calls with the tenant's own token: how it is made, how it is changed, and what is said of that."""
PAIRING = ("POST /v1/devices/pair", "POST /v1/devices/claim")


def changing_methods() -> set[str]:
    return {method.name for method in REGISTRY if not method.reads}


def changing_routes() -> set[str]:
    return {f"{route.method} {route.path}" for route in all_routes(lambda: None) if route.method != "GET"}


def test_every_method_and_route_that_changes_something_is_called_here() -> None:
    called = [name for name, _, _ in (*METHODS, *LAST)] + [name for name, _, _, _ in ROUTES] + [*PAIRING, *KEPT]
    assert len(called) == len(set(called))
    assert set(called) | set(WITHOUT_A_LINE) == changing_methods() | changing_routes()
    assert not set(called) & set(WITHOUT_A_LINE)


@asynccontextmanager
async def talking(gateway: GatewayProcess) -> AsyncIterator[Talk]:
    connector = aiohttp.UnixConnector(path=str(gateway.state_dir / "run" / "control.sock"))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Talk(session)


vendor = vendor_fixture


@pytest.fixture
def bot() -> Iterator[BotApi]:
    with running_bot_api() as api:
        yield api


@pytest.fixture
def home(new_gateway: StartGateway, bot: BotApi, vendor: Vendor) -> GatewayProcess:
    gateway = new_gateway(args=("--trial",), env={"CARREL_SECRET_BOT": TOKEN, "CARREL_SECRET_VENDOR_SECRET": SECRET})
    operator, demo = gateway.tenants_dir / "_gateway.yaml", gateway.tenants_dir / "demo.yaml"
    operator.write_text(f"{operator.read_text()}\nbackup:\n  to: file://{gateway.state_dir}/backups\n"
                        f"channels: {{telegram: {{base_url: '{bot.base_url}'}}}}\n"
                        f"oauth_providers: {json.dumps({'vendor': declared(vendor.url)})}\n")  # fmt: skip
    demo.write_text(demo.read_text() + "sandbox: {keep: true}\nquotas: {requests_per_minute: 600}\n" + CHANNEL)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(gateway.tenants_dir)]
    subprocess.run([*git, "init", "-q"], check=True)
    for file in ("_gateway.yaml", "."):
        subprocess.run([*git, "add", file], check=True)
        subprocess.run([*git, "commit", "-q", "-m", file], check=True)
    return gateway.start()


async def test_every_change_has_exactly_one_line_and_no_line_a_secret(home: GatewayProcess, bot: BotApi) -> None:
    secrets = {CANARY, home.token, TOKEN, SECRET}
    bot.say("let me in")
    async with talking(home) as talk:
        asking = await prepared(talk)
        await eventually(bot.texts)
        talk.known["backups"] = str(home.state_dir / "backups")
        talk.known["code of a stranger"] = bot.texts()[0].partition("code is ")[2][:8]
        await methods(talk, secrets, asking, METHODS)
        await routes(talk, secrets)
        await forgotten(home, talk)
        await edited_by_hand(home, talk)
        await methods(talk, secrets, asking, LAST)
    assert home.stop() == 0
    written = b"".join(path.read_bytes() for path in sorted((home.state_dir / "audit").iterdir()))
    for secret in secrets:
        assert secret.encode() not in written
        assert secret not in home.text.replace(home.token, "")
    assert home.cli("audit", "verify").returncode == 0


async def methods(
    talk: Talk, secrets: set[str], asking: "asyncio.Task[Any]", called: list[tuple[str, Params, str | None]]
) -> None:
    for name, params, kept in called:
        await before(talk, name, secrets)
        given = params(talk.known) if callable(params) else params
        result, lines = await talk.call(name, given)
        outcome = "failed: unavailable" if name == "node.invoke" else "ok"
        expected = [(SAID.get(name, name), "uid:" + str(os.getuid()), outcome)]
        if name == "tenants.restore":
            # It is answered when all is fetched and judged, and over when that is in its place.
            await restored(talk)
            lines = await talk.lines()
        assert [(one["action"], one["actor"], one["outcome"]) for one in lines] == expected, (name, lines)
        assert {one["tenant"] for one in lines} == {"demo"}
        if kept is not None:
            talk.known[name] = str(result[kept])
        if name == "grants.decide":
            # The agent goes on that asked.
            await asking
        for word in ("token", "secret", "code"):
            if result and isinstance(result.get(word), str):
                secrets.add(result[word])
                talk.known[f"{name} {word}"] = result[word]


async def forgotten(home: GatewayProcess, talk: Talk) -> None:
    """What is changed or forgotten has a line; what never was has none, however often it is asked for."""
    authorization = {"Authorization": f"Bearer {talk.known['tenants.rotate token']}"}
    async with aiohttp.ClientSession(headers=authorization) as session:
        for route, (path, body, change, action) in KEPT.items():
            method, _, rest = route.partition(" ")
            async with session.post(home.url + path, json={"model": "demo", **body}) as reply:
                made = await reply.json()
            for kept, status, expected in (("none", 404, []), (made["id"], 200, [(action, made["id"], "demo", "ok")])):
                talk.number += 1
                headers = {"X-Request-Id": f"audited-{talk.number}"}
                url = home.url + re.sub(r"{\w+}", kept, rest)
                async with session.request(method, url, json=change, headers=headers) as reply:
                    assert reply.status == status, await reply.text()
                lines = await talk.lines()
                found = [(one["action"], one["target"], one["tenant"], one["outcome"]) for one in lines]
                assert found == expected


async def edited_by_hand(home: GatewayProcess, talk: Talk) -> None:
    """A file that is edited has a line of its own, and those that commands wrote have had the commands'."""

    async def edits() -> list[dict[str, Any]]:
        answer, _, _ = await talk.ask("GET", "/v1/audit?action=declared.edit")
        return list(answer["lines"])

    assert await edits() == []
    file = home.tenants_dir / "acme.yaml"
    file.write_text(file.read_text().replace("display_name: ", "display_name: New "))
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not (found := await edits()) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.05)
    [line] = found
    assert (line["actor"], line["after"]["files"]) == ("edit", {"acme.yaml": "update"})


async def before(talk: Talk, name: str, secrets: set[str]) -> None:
    """What others do before a method has something to do."""
    match name:
        case "device.pair.approve":
            await paired(talk, "POST /v1/devices/pair")
        case "device.token.rotate":
            await claimed(talk, secrets)
        case "device.pair.reject":
            await paired(talk, "pair again")
        case "connections.remove":
            secrets.add(talk.known["connections.link"].partition("link=")[2])
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as browser:
                assert (await Person(browser).through(talk.known["connections.link"])).status == 200
        case "node.pair.reject":
            answer, _ = await talk.call("node.pair.request", {"name": "tub"})
            talk.known["node.pair.request"] = answer["requestId"]


async def restored(talk: Talk) -> None:
    """A restore that was answered has its swap and its line behind it."""
    async with asyncio.timeout(PATIENCE):
        while not await talk.lines():
            await asyncio.sleep(0.05)


async def routes(talk: Talk, secrets: set[str]) -> None:
    for name, path, body, kept in ROUTES:
        if "{sandbox}/exec" in name:
            await in_sandbox(talk)
        filled = re.sub(r"\{([A-Z]+ [^ ]*snapshots|sandbox|tenants[a-z.]+)\}", lambda found: talk.known[found[1]], path)
        answer, lines, status = await talk.ask(
            name.partition(" ")[0], filled, body(talk.known) if callable(body) else body
        )  # fmt: skip
        outcome = NOTHING_THERE.get(name, "ok")
        assert (status < 300) is (outcome == "ok"), (name, status, answer)
        actions = [one["action"] for one in lines]
        assert len(actions) == len(MANY.get(name, ["one"])), (name, lines)
        assert actions == MANY.get(name, actions)
        assert {one["outcome"] for one in lines} == {outcome}, (name, lines)
        if kept is not None:
            talk.known[name] = str(answer[kept])
        if isinstance(answer, dict) and answer.get("token"):
            secrets.add(answer["token"])


async def prepared(talk: Talk) -> asyncio.Task[Any]:
    """A kept sandbox with a workspace, and a grant that was asked for."""
    for session in ("kept", "other"):
        await talk.call("sessions.create", {"sessionId": session})
    await in_sandbox(talk)
    wanted = json.dumps({"kind": "host", "what": "example.org", "reason": f"to look for {CANARY}"})
    asking = asyncio.create_task(
        talk.call("sessions.send", {"sessionId": "other", "message": f"tool: request_access {wanted}"})
    )
    while not (asked := (await talk.call("grants.list", {}))[0]["grants"]):
        assert not asking.done(), asking.result()
    talk.known["grant"] = asked[0]["id"]
    return asking


async def in_sandbox(talk: Talk) -> None:
    """A command in a sandbox that is kept."""
    await talk.call("sessions.send", {"sessionId": "kept", "message": "run: touch here"})
    answer, _, _ = await talk.ask("GET", "/v1/sandboxes")
    talk.known["sandbox"] = answer["sandboxes"][0]["id"]


async def paired(talk: Talk, name: str) -> None:
    """A device asks to be paired, by a code."""
    code = talk.known["device.pair.code code"]
    if name != PAIRING[0]:
        code = (await talk.call("device.pair.code", {}))[0]["code"]
    answer, lines, status = await talk.ask("POST", "/v1/devices/pair", {"code": code, "name": "phone"})
    assert (status, [one["action"] for one in lines]) == (201, ["device.pair.ask"])
    talk.known |= {name: answer["requestId"], f"{name} secret": answer["secret"]}


async def claimed(talk: Talk, secrets: set[str]) -> None:
    """It fetches its token."""
    order = {"requestId": talk.known[PAIRING[0]], "secret": talk.known[f"{PAIRING[0]} secret"]}
    answer, lines, _ = await talk.ask("POST", "/v1/devices/claim", order)
    assert [one["action"] for one in lines] == ["device.pair.claim"], answer
    secrets |= {order["secret"], answer["token"]}


def test_a_full_disk_stops_changes_and_not_reads(new_gateway: StartGateway) -> None:
    gateway = new_gateway(args=("--trial",)).start()
    token = gateway.token
    gateway.stop()
    record, size = gateway.state_dir / "audit", "size=64k"
    kept = {path.name: path.read_bytes() for path in record.iterdir()}
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", size, "t", record], check=False).returncode:
        pytest.skip("a small file system needs the right to mount one")
    try:
        for name, data in kept.items():
            (record / name).write_bytes(data)
        owner = gateway.state_dir.stat()
        for path in (record, *record.iterdir()):
            os.chown(path, owner.st_uid, owner.st_gid)
            path.chmod(0o700 if path.is_dir() else 0o600)
        gateway.start()
        with (record / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 512):
                pass
        refused = None
        for number in range(200):
            answer = gateway.rpc("sessions.create", {"sessionId": f"s{number}"}, token=token)
            if "code" in answer:
                refused = answer
                break
        assert refused is not None
        assert (refused["data"]["code"], "disk is full" in refused["message"]) == ("storage_full", True)
        listed = gateway.rpc("sessions.list", {"limit": 200}, token=token)["sessions"]
        assert len(listed) == number
        assert gateway.cli("audit", "verify").returncode == 0
        # Nor does a start need room there, where it has to say what became of a change that a death cut short.
        gateway.kill()
        (record / "reserve").unlink(missing_ok=True)
        cut = {"begun": "2026-03-01", "actor": "ak_ops", "action": "x.cut", "target": "t", "request_id": "r"}
        with (record / "begun.jsonl").open("a") as begun:
            begun.write(json.dumps({"after": 0, "line": cut}) + "\n")
        with (record / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 512):
                pass
        gateway.start()
        assert len(gateway.rpc("sessions.list", {"limit": 200}, token=token)["sessions"]) == number
        assert gateway.cli("audit", "search", "--action", "x.cut", "--json").stdout.strip() in ("", "[]")
        (record / "filler").unlink()
        assert until(lambda: "unknown" in gateway.cli("audit", "search", "--action", "x.cut", "--json").stdout)
        assert gateway.rpc("sessions.create", {"sessionId": "after"}, token=token)["sessionId"] == "after"
        assert gateway.stop() == 0
    finally:
        subprocess.run(["umount", "-l", record], check=True)
