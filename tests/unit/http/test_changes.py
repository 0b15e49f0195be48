"""Idempotency keys and conditions of the control plane."""

import asyncio
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from carrel.ids import TenantId
from tests.fakes.edge import ADMIN_KEY, Edge, bearer

ACME = TenantId("acme")


class Plane:
    """The control plane, spoken to with headers."""

    def __init__(self, edge: Edge, client: aiohttp.ClientSession) -> None:
        self.edge, self.client = edge, client
        self.administration: Any = edge.services.administration

    async def __call__(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any, Any]:  # fmt: skip
        sent = {**bearer(ADMIN_KEY), **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with self.client.request(method, self.edge.url + path, json=body, headers=sent) as reply:
            text = await reply.text()
            return reply.status, (await reply.json(content_type=None) if text else None), reply.headers


@pytest.fixture
def plane(edge: Edge, client: aiohttp.ClientSession) -> Plane:
    return Plane(edge, client)


async def test_a_change_under_one_key_is_made_once(plane: Plane) -> None:
    body = {"tokens_per_day": 5}
    first = await plane("PATCH", "/v1/tenants/acme/quota", body, Idempotency_Key="k1")
    again = await plane("PATCH", "/v1/tenants/acme/quota", body, Idempotency_Key="k1")
    assert (first[0], again[0], first[1]) == (200, 200, again[1])
    assert "Idempotent-Replayed" not in first[2]
    assert (again[2]["Idempotent-Replayed"], again[2]["ETag"]) == ("true", first[2]["ETag"])
    assert len(plane.administration.asked) == 1
    status, problem, _ = await plane("PATCH", "/v1/tenants/acme/quota", {"tokens_per_day": 6}, Idempotency_Key="k1")
    assert (status, problem["code"]) == (409, "idempotency_key_reused")
    assert (await plane("POST", "/v1/tenants/acme/suspend", Idempotency_Key="k1"))[0] == 409
    await plane("PATCH", "/v1/tenants/acme/quota", body, Idempotency_Key="k2")
    assert len(plane.administration.asked) == 2


async def test_two_at_once_under_one_key_are_one_change(plane: Plane) -> None:
    asked = (plane("POST", "/v1/tenants/acme/suspend", Idempotency_Key="both") for _ in range(5))
    assert [status for status, _, _ in await asyncio.gather(*asked)] == [200] * 5
    assert len(plane.administration.asked) == 1


async def test_a_refusal_is_not_kept_and_a_secret_is_shown_once(plane: Plane) -> None:
    assert (await plane("POST", "/v1/tenants", {"id": "acme"}, Idempotency_Key="k"))[0] == 409
    made = await plane("POST", "/v1/tenants", {"id": "newco"}, Idempotency_Key="k2")
    assert (made[0], made[1]["token"].startswith("tk_newco_")) == (201, True)
    again = await plane("POST", "/v1/tenants", {"id": "newco"}, Idempotency_Key="k2")
    assert (again[0], "shown once" in again[1]["detail"]) == (409, True)
    assert [what for what, _, _ in plane.administration.asked] == ["create"]


async def test_what_a_dead_gateway_began_is_not_made_again(plane: Plane) -> None:
    changes: Any = plane.edge.services.changes
    body = {"tokens_per_day": 5}
    real = changes._keys.finish

    async def dies(*_: Any) -> None:
        return

    changes._keys.finish = dies
    assert (await plane("PATCH", "/v1/tenants/acme/quota", body, Idempotency_Key="k"))[0] == 200
    changes._keys.finish = real
    status, problem, _ = await plane("PATCH", "/v1/tenants/acme/quota", body, Idempotency_Key="k")
    assert (status, problem["code"]) == (409, "outcome_unknown")
    assert len(plane.administration.asked) == 1


@pytest.mark.parametrize("key", ["", "x" * 129, "tab\tbed"])
async def test_what_is_no_key(plane: Plane, key: str) -> None:
    assert (await plane("POST", "/v1/tenants/acme/suspend", Idempotency_Key=key))[0] == 400
    assert plane.administration.asked == []


async def test_a_change_on_condition_that_the_tenant_is_as_it_was(plane: Plane) -> None:
    _, _, headers = await plane("GET", "/v1/tenants/acme")
    tag = headers["ETag"]
    status, problem, _ = await plane("POST", "/v1/tenants/acme/suspend", If_Match='"other"')
    assert (status, problem["code"], problem["etag"]) == (412, "precondition_failed", tag)
    assert (await plane("POST", "/v1/tenants/acme/suspend", If_Match=f'"x", {tag}'))[0] == 200
    assert (await plane("POST", "/v1/tenants/acme/resume", If_Match="*"))[0] == 200
    assert (await plane("POST", "/v1/tenants/nobody/resume", If_Match="*"))[0] == 404
    for path in ("/v1/reconcile", "/v1/tenants"):
        for given in (tag, "*"):
            status, problem, _ = await plane("POST", path, {"id": "new"}, If_Match=given)
            assert (status, problem["code"], "etag" in problem) == (412, "precondition_failed", False)
    assert [what for what, _, _ in plane.administration.asked] == ["suspend", "resume"]


async def test_of_two_on_one_condition_one_is_refused(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    real = plane.administration.quota_update
    revisions = iter("12345")

    async def update(tenant_id: TenantId, order: Any, *, by: Any) -> Any:
        await asyncio.sleep(0.01)
        await real(tenant_id, order, by=by)
        tenant = plane.edge.directory.current.tenants[tenant_id]
        return plane.administration._publish(replace(tenant, revision=next(revisions) * 64))

    monkeypatch.setattr(plane.administration, "quota_update", update)
    tag = (await plane("GET", "/v1/tenants/acme"))[2]["ETag"]
    asked = (plane("PATCH", "/v1/tenants/acme/quota", {"tokens_per_day": n}, If_Match=tag) for n in range(4))
    assert sorted(status for status, _, _ in await asyncio.gather(*asked)) == [200, 412, 412, 412]


async def test_what_has_not_changed_is_not_sent_again(plane: Plane) -> None:
    for path in ("/v1/tenants", "/v1/tenants/acme", "/v1/tenants/acme/usage?period=today", "/v1/plans"):
        status, _, headers = await plane("GET", path)
        tag = headers["ETag"]
        assert (status, tag.startswith('"')) == (200, True)
        status, body, headers = await plane("GET", path, If_None_Match=f'"x", W/{tag}')
        assert (status, body, headers["ETag"]) == (304, None, tag)
        assert (await plane("GET", path, If_None_Match='"x"'))[0] == 200


async def test_a_tag_of_what_is_declared_of_a_tenant_conditions_its_changes(plane: Plane) -> None:
    tag = (await plane("GET", "/v1/tenants/acme/quota"))[2]["ETag"]
    assert tag != (await plane("GET", "/v1/tenants/acme/status"))[2]["ETag"]
    assert (await plane("PATCH", "/v1/tenants/acme/quota", {"tokens_per_day": 5}, If_Match=tag))[0] == 200
    other = '"' + "1" * 64 + '.0"'
    assert (await plane("PATCH", "/v1/tenants/acme/quota", {"tokens_per_day": 5}, If_Match=other))[0] == 412


async def test_a_secret_is_changed_on_condition_that_it_is_as_it_was(plane: Plane) -> None:
    path = "/v1/tenants/acme/secrets/KEY"
    assert (await plane("PUT", path, {"value": "a"}, If_Match="*"))[0] == 412, "there is none yet"
    assert (await plane("PUT", path, {"value": "a"}, If_None_Match="*"))[0] == 200
    status, problem, _ = await plane("PUT", path, {"value": "b"}, If_None_Match="*")
    assert (status, problem["code"]) == (412, "precondition_failed")
    [secret] = (await plane("GET", "/v1/tenants/acme/secrets"))[1]["secrets"]
    assert problem["etag"] == f'"{secret["etag"]}"'
    assert (await plane("DELETE", path, If_Match='"other"'))[0] == 412
    assert (await plane("PUT", path, {"value": "c"}, If_Match=f'"{secret["etag"]}"'))[0] == 200
    assert (await plane("DELETE", path, If_Match=f'"{secret["etag"]}"'))[0] == 204


async def test_a_token_is_revoked_on_condition_that_it_is_the_one_that_was_seen(plane: Plane) -> None:
    await plane("POST", "/v1/tenants/acme/tokens", {"name": "ci"})
    token = next(one for one in (await plane("GET", "/v1/tenants/acme/tokens"))[1]["tokens"] if one["name"] == "ci")
    assert (await plane("DELETE", "/v1/tenants/acme/tokens/ci", If_Match='"x"'))[0] == 412
    assert (await plane("POST", "/v1/tenants/acme/tokens/rotate", {"name": "ci"}, If_Match='"x"'))[0] == 412
    assert (await plane("DELETE", "/v1/tenants/acme/tokens/ci", If_Match=f'"{token["etag"]}"'))[0] == 204
