"""The control plane of kept sandboxes."""

from typing import Any

import aiohttp

from tests.fakes.edge import ADMIN_KEY, READER_KEY, Edge, bearer

ONE = "/v1/tenants/acme/sandboxes/sb_1"


async def ask(
    edge: Edge, client: aiohttp.ClientSession, method: str, path: str, *, body: object = None, key: str = ADMIN_KEY
) -> tuple[int, Any]:
    async with client.request(method, edge.url + path, headers=bearer(key), json=body) as reply:
        return reply.status, await reply.json(content_type=None)


async def test_those_that_run_of_all_or_of_one_tenant(edge: Edge, client: aiohttp.ClientSession) -> None:
    _, told = await ask(edge, client, "GET", "/v1/sandboxes")
    assert [one["id"] for one in told["sandboxes"]] == ["sb_1"]
    assert (await ask(edge, client, "GET", "/v1/sandboxes?tenant=bravo"))[1]["sandboxes"] == []
    for nobody in ("bravi", "", "../acme"):
        assert (await ask(edge, client, "GET", f"/v1/sandboxes?tenant={nobody}"))[0] == 404


async def test_a_command_what_was_written_and_the_end(edge: Edge, client: aiohttp.ClientSession) -> None:
    status, done = await ask(edge, client, "POST", f"{ONE}/exec", body={"argv": ["ps", "-ef"]})
    assert (status, done["exit_code"]) == (200, 4)
    assert (await ask(edge, client, "GET", f"{ONE}/log"))[1]["text"].startswith("listening")
    assert (await ask(edge, client, "DELETE", ONE))[0] == 204
    sandboxes: Any = edge.services.sandboxes
    assert sandboxes.stopped == ["sb_1 by ak_ops"]


async def test_who_may_only_look_changes_nothing(edge: Edge, client: aiohttp.ClientSession) -> None:
    assert (await ask(edge, client, "GET", "/v1/sandboxes", key=READER_KEY))[0] == 200
    assert (await ask(edge, client, "DELETE", ONE, key=READER_KEY))[0] == 403
    assert (await ask(edge, client, "POST", f"{ONE}/exec", body={"argv": ["true"]}, key=READER_KEY))[0] == 403


async def test_another_tenants_does_not_exist(edge: Edge, client: aiohttp.ClientSession) -> None:
    for method, path in (("GET", "/log"), ("DELETE", ""), ("POST", "/exec")):
        body = {"argv": ["true"]} if method == "POST" else None
        assert (await ask(edge, client, method, f"/v1/tenants/bravo/sandboxes/sb_1{path}", body=body))[0] == 404
        assert (await ask(edge, client, method, f"/v1/tenants/acme/sandboxes/sb_2{path}", body=body))[0] == 404


async def test_what_is_no_command(edge: Edge, client: aiohttp.ClientSession) -> None:
    wrong: tuple[object, ...] = ({}, {"argv": []}, {"argv": "true"}, {"argv": ["true"], "timeout_seconds": 0})
    for body in wrong:
        assert (await ask(edge, client, "POST", f"{ONE}/exec", body=body))[0] == 400, body
