"""The control plane of backups."""

import hashlib
import io
from dataclasses import replace
from typing import Any

import aiohttp

from carrel.declare.admin_keys import AdminKey
from tests.fakes.edge import ADMIN_KEY, READER_KEY, Edge, bearer

ALL = "/v1/tenants/acme/backups"
RESTORE = "/v1/tenants/acme/restore"
EXPORT = "/v1/tenants/acme/export"
FETCH = "/v1/tenants/acme/import/from"
LOOK = "/v1/archives/look"


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
    assert (await ask(edge, client, "DELETE", f"{ALL}/running"))[0] == 204
    assert (await ask(edge, client, "POST", f"{ALL}/verify", body={}))[1]["ok"]
    assert (await ask(edge, client, "POST", f"{ALL}/collect", body={}))[1]["pieces"] == 2
    assert (await ask(edge, client, "POST", RESTORE, body={"dry_run": True}))[1]["dry_run"]
    assert (await ask(edge, client, "POST", f"{RESTORE}/decision", body={"decision": "undo"}))[0] == 204
    backups: Any = edge.services.backups
    assert backups.done == [
        "back up acme s3://bucket/a False", "stop acme", "verify None", "collect None", "restore None None True False",
        "undo",
    ]  # fmt: skip


async def test_what_is_not_allowed_or_no_order(edge: Edge, client: aiohttp.ClientSession) -> None:
    for path in (ALL, f"{ALL}/verify", f"{ALL}/collect", RESTORE):
        assert (await ask(edge, client, "POST", path, body={}, key=READER_KEY))[0] == 403, path
    assert (await ask(edge, client, "DELETE", f"{ALL}/running", key=READER_KEY))[0] == 403
    assert (await ask(edge, client, "POST", RESTORE, body={"source": "../x"}))[0] == 400
    assert (await ask(edge, client, "POST", f"{RESTORE}/decision", body={"decision": "maybe"}))[0] == 400
    assert (await ask(edge, client, "POST", ALL, body={"endpoint": "http://169.254.169.254"}))[0] == 400


async def test_an_archive_goes_out_and_comes_in_as_it_is(edge: Edge, client: aiohttp.ClientSession) -> None:
    backups: Any = edge.services.backups
    headers = bearer(ADMIN_KEY)
    async with client.get(f"{edge.url}/v1/tenants/acme/export", headers=headers) as reply:
        assert (reply.status, reply.content_type) == (200, "application/gzip")
        assert reply.headers["Content-Disposition"] == 'attachment; filename="acme.tar.gz"'
        archive = await reply.read()
    assert archive == b"archive" * 400_000
    sent = b"sent" * 1_000_000
    async with client.post(
        f"{edge.url}/v1/tenants/acme/import?replace=true", headers=headers, data=io.BytesIO(sent)
    ) as reply:
        told = await reply.json()
        assert reply.status == 200, told
        assert told["kept_before"] is True
    assert backups.archive == sent
    assert backups.done == ["export acme", "take in acme True"]
    for method, path in (("GET", "export"), ("POST", "import")):
        async with client.request(method, f"{edge.url}/v1/tenants/acme/{path}", headers=bearer(READER_KEY)) as reply:
            assert reply.status == 403
    async with client.post(
        f"{edge.url}/v1/tenants/acme/import", headers={**headers, "Content-Encoding": "gzip"}, data=b"x"
    ) as reply:
        assert reply.status == 415


async def test_an_archive_goes_to_a_place_and_comes_from_one(edge: Edge, client: aiohttp.ClientSession) -> None:
    place = "s3://bucket/a/acme.tar.gz"
    status, sent = await ask(edge, client, "POST", EXPORT, body={"to": place})
    assert (status, sent["place"], sent["sha256"]) == (201, place, "0" * 64)
    status, taken = await ask(edge, client, "POST", FETCH, body={"place": place, "replace": True})
    assert (status, taken["kept_before"]) == (200, True)
    status, seen = await ask(edge, client, "POST", LOOK, body={"place": place, "tenant": "newco", "sealed": True})
    assert (status, seen["seal"], seen["dry_run"]) == (200, "own", True)
    backups: Any = edge.services.backups
    assert backups.done == [f"send acme {place} False", f"fetch acme {place} True", f"look newco {place}"]


async def test_it_is_done_once_for_each_idempotency_key(edge: Edge, client: aiohttp.ClientSession) -> None:
    headers = {**bearer(ADMIN_KEY), "Idempotency-Key": "one"}
    for replayed in (None, "true"):
        async with client.post(edge.url + EXPORT, headers=headers, json={"to": "s3://bucket/a/"}) as reply:
            assert (reply.status, reply.headers.get("Idempotent-Replayed")) == (201, replayed)
    backups: Any = edge.services.backups
    assert len(backups.done) == 1


async def test_who_may_not_or_says_what_is_no_order(edge: Edge, client: aiohttp.ClientSession) -> None:
    orders = {EXPORT: {"to": "s3://b/a/"}, FETCH: {"place": "s3://b/a"}, LOOK: {"place": "s3://b/a", "tenant": "acme"}}
    for path, body in orders.items():
        assert (await ask(edge, client, "POST", path, body=body, key=READER_KEY))[0] == 403, path
        for wrong in ({}, {**body, "endpoint": "http://169.254.169.254"}, {**body, "to": "", "place": ""}):
            assert (await ask(edge, client, "POST", path, body=wrong))[0] == 400, path
    limited = hashlib.sha256(b"ak_some_" + b"c" * 32).hexdigest()
    some = AdminKey(name="some", sha256=limited, scopes=("write",), tenants=("acme",))
    current = edge.directory.current
    gateway = current.gateway.model_copy(update={"admin_keys": (*current.gateway.admin_keys, some)})
    edge.directory.publish(replace(current, gateway=gateway))
    key = "ak_some_" + "c" * 32
    assert (await ask(edge, client, "POST", EXPORT, body=orders[EXPORT], key=key))[0] == 201
    assert (await ask(edge, client, "POST", EXPORT.replace("acme", "bravo"), body=orders[EXPORT], key=key))[0] == 404
    assert (await ask(edge, client, "POST", LOOK, body=orders[LOOK], key=key))[0] == 200
    async with client.post(f"{edge.url}/v1/tenants/acme/import", headers=bearer(key), data=b"x") as reply:
        assert reply.status == 200
    other = {**orders[LOOK], "tenant": "bravo"}
    assert (await ask(edge, client, "POST", LOOK, body=other, key=key))[0] == 404
    backups: Any = edge.services.backups
    assert backups.done == [
        "send acme s3://b/a/ False only some", "look acme s3://b/a only some", "take in acme False only some",
    ]  # fmt: skip
