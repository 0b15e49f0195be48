"""The control plane of backups."""

from typing import Any

import aiohttp

from tests.fakes.edge import ADMIN_KEY, READER_KEY, Edge, bearer

ALL = "/v1/tenants/acme/backups"
RESTORE = "/v1/tenants/acme/restore"


async def ask(
    edge: Edge, client: aiohttp.ClientSession, method: str, path: str, *, body: object = None, key: str = ADMIN_KEY
) -> tuple[int, Any]:
    async with client.request(method, edge.url + path, headers=bearer(key), json=body) as reply:
        return reply.status, await reply.json(content_type=None)


async def test_each_order_reaches_its_service(edge: Edge, client: aiohttp.ClientSession) -> None:
    status, made = await ask(edge, client, "POST", ALL, body={"to": "s3://bucket/a"})
    assert (status, made["files"]) == (201, 3)
    assert (await ask(edge, client, "GET", f"{ALL}?place=s3://bucket/a"))[1]["backups"][0]["id"] == made["id"]
    assert (await ask(edge, client, "GET", f"{ALL}/running"))[1]["phase"] == "copying"
    assert (await ask(edge, client, "POST", f"{ALL}/verify", body={}))[1]["ok"]
    assert (await ask(edge, client, "POST", f"{ALL}/collect", body={}))[1]["pieces"] == 2
    assert (await ask(edge, client, "POST", RESTORE, body={"dry_run": True}))[1]["dry_run"]
    assert (await ask(edge, client, "POST", f"{RESTORE}/decision", body={"decision": "undo"}))[0] == 204
    backups: Any = edge.services.backups
    assert backups.done == [
        "back up acme s3://bucket/a False", "verify None", "collect None", "restore None None True False", "undo"
    ]  # fmt: skip


async def test_what_is_not_allowed_or_no_order(edge: Edge, client: aiohttp.ClientSession) -> None:
    for path in (ALL, f"{ALL}/verify", f"{ALL}/collect", RESTORE):
        assert (await ask(edge, client, "POST", path, body={}, key=READER_KEY))[0] == 403, path
    assert (await ask(edge, client, "POST", RESTORE, body={"source": "../x"}))[0] == 400
    assert (await ask(edge, client, "POST", f"{RESTORE}/decision", body={"decision": "maybe"}))[0] == 400
    assert (await ask(edge, client, "POST", ALL, body={"endpoint": "http://169.254.169.254"}))[0] == 400
