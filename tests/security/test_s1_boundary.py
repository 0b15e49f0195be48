"""Security 1.5: the token of one tenant on every route, method and RPC method, with every kind of id of another's.

The rows come from the table of routes and the registry of methods: what is new is in here by construction. An id of
the other tenant's must be answered as one that does not exist, by status, body and class of time.
"""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from carrel.declare.channels import ChannelsConfig, TelegramPlatform
from carrel.http.app import all_routes
from carrel.http.routes import Route
from carrel.http.rpc.methods import REGISTRY
from carrel.http.rpc.registry import Method
from carrel.http.services import Limits
from carrel.ids import RequestId, TenantId
from carrel.responses.book import Kept
from carrel.responses.completions import Completion
from carrel.sandbox.protocol import Size
from carrel.terminal.service import Order
from tests.fakes.channels import telegram
from tests.fakes.edge import Edge, bearer, chat_body, running_edge, token_of

ROUTES = all_routes(lambda: None)
THEIRS = {
    "tenant": "bravo", "session": "bravos-session", "token": "bravos-token", "agent": "bravos-agent",
    "sandbox": "sb_bravos", "secret": "bravos-secret", "snapshot": "bravos-snapshot",
    "response": "resp_bravos", "completion": "chatcmpl-bravos",
    "request": "bravos-request",
    "terminal": "term_b0b0b0b0b0b0b0b0b0b0b0b0",
    "channel": "bravos-channel",
}  # fmt: skip
NOBODYS = {
    "tenant": "xxxxx", "session": "xxxxxx-session", "token": "xxxxxx-token", "agent": "xxxxxx-agent",
    "sandbox": "sb_xxxxxx", "secret": "xxxxxx-secret", "snapshot": "xxxxxx-snapshot",
    "response": "resp_xxxxxx", "completion": "chatcmpl-xxxxxx",
    "request": "xxxxxx-request",
    "terminal": "term_f0f0f0f0f0f0f0f0f0f0f0f0",
    "channel": "xxxxxx-channel",
}  # fmt: skip
BODIES: dict[str, Any] = {
    "TenantCreate": {"id": "{tenant}"},
    "TokenIssue": {"name": "{token}"},
    "TokenRotate": {"name": "{token}"},
    "QuotaUpdate": {"tokens_per_day": 1},
    "TenantResize": {"plan": "pro"},
    "QuotaDecision": {"decision": "approve"},
    "SandboxExec": {"argv": ["true"]},
    "SecretPut": {"value": "x"},
    "BackupOrder": {"to": "s3://bucket/{tenant}"},
    "VerifyOrder": {"backup": "{snapshot}"},
    "CollectOrder": {"place": "s3://bucket/{tenant}"},
    "RestoreOrder": {"source": "{tenant}", "session": "{session}", "backup": "{snapshot}"},
    "RestoreDecision": {"decision": "undo"},
    "ExportOrder": {"to": "s3://bucket/{tenant}/x.tar.gz"},
    "FetchOrder": {"place": "s3://bucket/{tenant}/x.tar.gz"},
    "LookOrder": {"place": "s3://bucket/{tenant}/x.tar.gz", "tenant": "{tenant}"},
    "SnapshotOrder": {"label": "x", "session": "{session}"},
    "PairOrder": {"code": "{token}"},
    "ClaimOrder": {"requestId": "{token}", "secret": "{token}"},
    "RollbackOrder": {"revision": "HEAD"},
    "PullOrder": {},
    "ChatOrder": {"message": "hello", "session": "{session}", "agent": "{agent}"},
}
PATH_IDS = {
    "id": "tenant",
    "name": "token",
    "model": "agent",
    "sandbox": "sandbox",
    "secret": "secret",
    "snapshot": "snapshot",
    "response": "response",
    "completion": "completion",
    "request": "request",
    "file": "snapshot",
    "tenant": "tenant",
    "channel": "channel",
    "provider": "agent",
    "server": "agent",
}
MODEL_PATHS = (
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/responses/input_tokens",
    "/v1/responses/compact",
)
MODEL_CALL: dict[str, Any] = {
    "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}], "input": "hello",
    "previous_response_id": "resp_bravos",
}  # fmt: skip
ALWAYS = ("message", "data", "cols", "rows", "at")
METHODS_OF_HTTP = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


@dataclass(frozen=True)
class House:
    """A running edge on which bravo owns one of everything."""

    edge: Edge
    client: aiohttp.ClientSession

    @property
    def theirs_runs(self) -> bool:
        """Whether bravo's terminal is as it was."""
        engines = self.edge.services.engines
        assert engines is not None
        (screen,) = engines.terminals.of(self.edge.directory.current.tenant(TenantId("bravo")), all_members=True)
        return screen.bytes_in == 0 and screen.viewers == 0

    async def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        async with self.client.request(
            method, self.edge.url + path, data=data, headers={**bearer(token_of("acme")), **(headers or {})}
        ) as reply:
            return reply.status, await reply.text()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with running_edge(tmp_path, limits=Limits(failed_attempts=10_000)) as edge, aiohttp.ClientSession() as client:
        bravo = next(t for t in edge.directory.current.tenants.values() if t.id == "bravo")
        agents = {**bravo.config.agents, THEIRS["agent"]: bravo.config.agents["main"]}
        # Nothing is at that address: the platform is not asked for anything.
        edge.configure(channels=ChannelsConfig(telegram=TelegramPlatform(base_url="http://127.0.0.1:9")))
        channels = {THEIRS["channel"]: telegram(delivery="webhook")}
        config = bravo.config.model_copy(update={"agents": agents, "channels": channels})
        edge.publish(type(bravo)(bravo.id, config, bravo.revision, bravo.root))
        await edge.sessions.create(bravo, "main", session_id=THEIRS["session"])  # type: ignore[arg-type] # a literal id
        administration: Any = edge.services.administration
        administration.tokens_of["bravo"] = {THEIRS["token"]: token_of("bravo", "4")}
        secrets: Any = edge.services.secrets
        secrets.values["bravo", THEIRS["secret"]] = "theirs"
        sandboxes: Any = edge.services.sandboxes
        sandboxes.view = sandboxes.view.model_copy(update={"tenant": "bravo", "id": THEIRS["sandbox"]})
        size = Size(80, 24)
        order = Order(THEIRS["terminal"], "b", RequestId("req_1"), "main", "sandbox", size, allowed=lambda: True)
        engines = edge.services.engines
        assert engines is not None
        await engines.terminals.open(bravo, order)
        responses = edge.services.responses
        assert responses is not None
        said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "bravos secret"}]}
        kept = {"id": THEIRS["response"], "status": "completed", "background": True, "output": [said]}
        await responses.keep(bravo, Kept(kept, (), edge.services.clock.now()))
        completion = {"id": THEIRS["completion"], "choices": [{"message": {"content": "bravos secret"}}]}
        await responses.completions.keep(bravo, Completion(completion, (), "demo", edge.services.clock.now()))
        yield House(edge, client)


def filled(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, str):
        return value.format_map(ids)
    if isinstance(value, dict):
        return {k: filled(v, ids) for k, v in value.items()}
    return value


def path_of(route: Route, ids: dict[str, str]) -> str:
    return re.sub(r"\{([a-z_]+)(?::[^}]*)?\}", lambda m: ids[PATH_IDS[m[1]]], route.path)


def masked(answer: tuple[int, str], ids: dict[str, str]) -> tuple[int, str]:
    """``answer`` without what the caller itself said, and without what is each request's own."""
    text = answer[1]
    for name in sorted(ids.values(), key=len, reverse=True):
        text = text.replace(name, "<id>")
    text = re.sub(r"req_[0-9a-f]{24}", "<request>", text)
    text = re.sub(r'"(ts|created|durationMs|pid|[a-zA-Z]+At)": ?\d+', r'"\1": 0', text)
    text = re.sub(r'"code": ?"[2-9A-Z]{8}"', '"code": ""', text)
    text = re.sub(r'"secret": ?"[0-9a-f]{32}"', '"secret": ""', text)
    text = re.sub(r"\b(pair|job|run|note|term)_[0-9a-f]{24}", r"\1_", text)
    text = re.sub(r"\bs_[0-9a-f]{24}", "<session>", text)
    text = re.sub(r'nonce="[^"]+"', "", text)
    text = re.sub(r'"generatedAt": ?"[^"]*"', '"generatedAt": ""', text)
    return answer[0], text


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: f"{r.method} {r.path}")
async def test_S1_05_every_route_with_the_ids_of_another_tenant(house: House, route: Route) -> None:
    body = BODIES.get(route.body.__name__) if route.body is not None else None
    answers = {}
    for whose, ids in (("theirs", THEIRS), ("nobodys", NOBODYS)):
        headers = {"X-Carrel-Session": ids["session"], "X-Tenant": ids["tenant"]}
        path = path_of(route, ids)
        sent: Any = filled(body, ids)
        if route.path == "/v1/chat/completions":
            sent = chat_body("hello", model=f"agent:{ids['agent']}", user=ids["tenant"])
        elif route.path in MODEL_PATHS:
            sent = {**MODEL_CALL, "model": f"agent:{ids['agent']}", "user": ids["tenant"]}
        elif route.path == "/rpc":
            sent = {"jsonrpc": "2.0", "id": 1, "method": "tenants.get", "params": {"tenantId": ids["tenant"]}}
        answer = await house.ask(route.method, f"{path}?tenant={ids['tenant']}&period=today", sent, headers)
        answers[whose] = masked(answer, ids)
        if route.access not in ("public", "scrape"):
            assert token_of("bravo") not in answer[1]
    if route.access != "scrape":
        assert answers["theirs"] == answers["nobodys"]
    if "{id}" in route.path:
        assert answers["theirs"][0] in (403, 404)
    administration: Any = house.edge.services.administration
    assert administration.asked == []
    assert not [turn for turn in house.edge.agents.turns if turn.agent == THEIRS["agent"]]


@pytest.mark.parametrize("method", METHODS_OF_HTTP)
async def test_S1_05_every_http_method_on_every_path(house: House, method: str) -> None:
    for path in sorted({route.path for route in ROUTES}):
        known = {r.method for r in ROUTES if r.path == path}
        if method in known:
            continue
        route = next(r for r in ROUTES if r.path == path)
        answers = {masked(await house.ask(method, path_of(route, ids)), ids) for ids in (THEIRS, NOBODYS)}
        assert len(answers) == 1, path
        # Nothing between the methods and the router may find another route for the same path.
        assert answers.pop()[0] in (400, 403, 404, 405), path


def wanted_params(method: Method, ids: dict[str, str]) -> dict[str, Any]:
    """Every parameter of ``method`` that can carry an id, filled with ``ids``."""
    known: dict[str, Any] = {
        "tenantId": ids["tenant"], "sessionId": ids["session"], "key": ids["session"], "keys": [ids["session"]],
        "agent": ids["agent"], "agentId": ids["agent"], "name": ids["token"], "message": "hello",
        "search": ids["session"], "label": ids["session"],
        "terminalId": ids["terminal"], "data": "exit\n", "cols": 80, "rows": 24, "at": 0,
        "channel": ids["channel"], "accountId": "main", "code": "AAAAAAAA",
    }  # fmt: skip
    fields = {field.alias or name for name, field in method.params.model_fields.items()}
    return {name: value for name, value in known.items() if name in fields}


@pytest.mark.parametrize("method", list(REGISTRY), ids=lambda m: m.name)
async def test_S1_05_every_rpc_method_with_the_ids_of_another_tenant(house: House, method: Method) -> None:
    before = dict(house.edge.sessions.by_tenant["bravo"])
    names = list(wanted_params(method, THEIRS))
    chosen = [*([name] for name in names), names]
    for subset in chosen:
        answers = []
        for ids in (THEIRS, NOBODYS):
            params = {k: v for k, v in wanted_params(method, ids).items() if k in subset or k in ALWAYS}
            call = {"jsonrpc": "2.0", "id": 1, "method": method.name, "params": params}
            answers.append(masked(await house.ask("POST", "/rpc", call), ids))
            house.edge.sessions.by_tenant.pop("acme", None)
        if "name" not in subset:
            assert answers[0] == answers[1], subset
        assert token_of("bravo") not in str(answers)
    assert house.edge.sessions.by_tenant["bravo"] == before
    assert house.theirs_runs
    assert house.edge.sessions.said.get(("bravo", THEIRS["session"])) is None


async def test_S1_05_another_tenants_response_is_not_gone_on_from(house: House) -> None:
    answers = []
    for ids in (THEIRS, NOBODYS):
        body = {"model": "demo", "input": "go on", "previous_response_id": ids["response"]}
        answers.append(masked(await house.ask("POST", "/v1/responses", body), ids))
    assert answers[0] == answers[1]
    assert answers[0][0] == 400
    assert house.edge.meter.reservations == []
    own = bearer(token_of("bravo"))
    body = {"model": "demo", "input": "go on", "previous_response_id": THEIRS["response"]}
    assert (await house.ask("POST", "/v1/responses", body, own))[0] == 200
    status, text = await house.ask("GET", f"/v1/responses/{THEIRS['response']}", headers=own)
    assert (status, "bravos secret" in text) == (200, True)


async def test_S1_05_the_permitted_twin_is_served_with_the_same_ids(house: House) -> None:
    own = bearer(token_of("bravo"))
    status, text = await house.ask("GET", "/v1/tenants/bravo/usage?period=today", headers=own)
    assert (status, json.loads(text)["tenant"]) == (200, "bravo")
    call = {"jsonrpc": "2.0", "id": 1, "method": "sessions.reset", "params": {"sessionId": THEIRS["session"]}}
    status, text = await house.ask("POST", "/rpc", call, own)
    assert json.loads(text)["result"]["ok"] is True
    body = chat_body("hello", model=f"agent:{THEIRS['agent']}")
    status, _ = await house.ask("POST", "/v1/chat/completions", body, own)
    assert status == 200


async def test_S1_05_another_tenants_id_sets_the_same_work_going_as_nobodys(house: House) -> None:
    """The class of time follows from the work: for neither is a store of a tenant's opened."""
    opened: list[str] = []

    async def report(tenant: Any, period: Any, *, split: Any = None) -> list[Any]:
        opened.append(tenant.id)
        return []

    house.edge.meter.report = report  # type: ignore[method-assign] # a meter that notes who is asked for
    for tenant in (THEIRS["tenant"], NOBODYS["tenant"]):
        assert (await house.ask("GET", f"/v1/tenants/{tenant}/usage"))[0] == 404
    assert opened == []
    assert (await house.ask("GET", "/v1/tenants/acme/usage"))[0] == 200
    assert opened == ["acme"]


def test_S1_05_every_id_in_a_path_is_of_a_known_kind() -> None:
    names = {name for route in ROUTES for name in re.findall(r"\{([a-z_]+)", route.path)}
    assert names <= set(PATH_IDS), "a new kind of id in a path needs its row in PATH_IDS"
    bodies = {route.body.__name__ for route in ROUTES if route.body is not None}
    assert bodies <= set(BODIES), "a new body needs its row in BODIES"
