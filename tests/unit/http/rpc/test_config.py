"""`config.*`."""

from pathlib import Path
from typing import Any

import pytest

from carrel.declare.base import DeclaredToken
from carrel.http.rpc.config import merged, redacted
from carrel.vcs.edits import DELETE
from tests.fakes.tenants import make_tenant
from tests.unit.http.rpc.conftest import Rpc


async def test_get_shows_the_effective_configuration(rpc: Rpc) -> None:
    view = await rpc("config.get")
    assert view["valid"] is True
    assert view["config"]["agents"]["main"]["model"] == "demo"
    assert view["hash"] == "0" * 64
    assert "display_name" in view["tenantWritableKeys"]


async def test_the_schema_is_that_of_a_tenants_file(rpc: Rpc) -> None:
    shown = await rpc("config.schema")
    assert "agents" in shown["schema"]["properties"]
    assert shown["version"] == "1.2.3"


async def test_a_patch_merges_and_null_takes_out(rpc: Rpc) -> None:
    first = await rpc("config.patch", {"patch": {"display_name": "Own", "agents": {"main": {"thinking": "low"}}}})
    assert (first["config"]["display_name"], first["overlay"]["agents"]) == ("Own", {"main": {"thinking": "low"}})
    second = await rpc("config.patch", {"patch": {"display_name": None, "agents": {"main": {"max_tokens": 9}}}})
    assert second["overlay"] == {"agents": {"main": {"thinking": "low", "max_tokens": 9}}}
    assert "display_name" not in second["config"]
    assert (await rpc("config.get"))["hash"] == second["hash"] != first["hash"]


async def test_set_replaces_all(rpc: Rpc) -> None:
    await rpc("config.set", {"config": {"display_name": "Own"}})
    assert (await rpc("config.set", {"config": {"packages": ["jq"]}}))["overlay"] == {"packages": ["jq"]}


async def test_a_change_on_another_revision_is_refused(rpc: Rpc) -> None:
    seen = (await rpc("config.get"))["hash"]
    assert (await rpc("config.patch", {"patch": {"display_name": "A"}, "baseHash": seen}))["valid"] is True
    error = await rpc("config.patch", {"patch": {"display_name": "B"}, "baseHash": seen})
    assert error["data"]["code"] == "config_changed"
    assert (await rpc("config.get"))["config"]["display_name"] == "A"


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"quotas": {"tokens_per_day": 1}, "display_name": "x"}, "quotas"),
        ({"agents": {"main": {"max_turns": 1}}}, "agents.main.max_turns"),
        ({"egress": {"inject": []}}, "egress.inject"),
        ({"plan": None}, "plan"),
    ],
)
async def test_an_admins_key_is_refused_by_name(rpc: Rpc, patch: dict[str, Any], path: str) -> None:
    for method, call in (("config.patch", {"patch": patch}), ("config.set", {"config": patch})):
        error = await rpc(method, call)
        assert (error["data"]["code"], error["data"]["path"]) == ("admin_only_key", path)
        assert "." in path or "agents" in error["data"]["allowed"]
    assert (await rpc("config.get"))["overlay"] == {}


async def test_a_key_that_is_none_has_its_nearest_told(rpc: Rpc) -> None:
    error = await rpc("config.patch", {"patch": {"displayname": "x"}})
    assert (error["data"]["code"], error["data"]["path"]) == ("invalid_request", "displayname")
    assert "display_name" in error["message"]


@pytest.mark.parametrize(
    ("overlay", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {("a",): "c"}),
        ({"a": "b"}, {"b": None}, {}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {("a", "b"): "d"}),
        ({"a": [1]}, {"a": {"b": None, "c": 1}}, {("a",): {"c": 1}}),
        ({}, {"a": {"bb": {"ccc": None}}}, {("a",): {"bb": {}}}),
        ({"a": {"b": 1}}, {"a": {"b": None}}, {("a", "b"): DELETE}),
    ],
)
def test_patches_are_as_the_standard_has_them(overlay: Any, patch: Any, result: Any) -> None:
    assert dict(merged(overlay, patch)) == result


def test_digests_are_not_shown(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path, tokens=(DeclaredToken(name="ci", sha256="ab" * 32),))
    tenant.root.close()
    shown = redacted(tenant.config)
    assert shown["tokens"][0]["name"] == "ci"
    assert "ab" * 32 not in str(shown)
