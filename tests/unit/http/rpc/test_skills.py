"""`skills.*`."""

from tests.unit.http.rpc.conftest import Rpc

TEXT = "---\nname: weather\ndescription: Tells the weather.\nrequires: {bins: [curl]}\n---\nAsk it.\n"


async def test_a_skill_from_its_beginning_to_its_end(rpc: Rpc) -> None:
    first = await rpc("skills.install", {"content": TEXT, "idempotencyKey": "k"})
    assert await rpc("skills.install", {"content": TEXT, "idempotencyKey": "k"}) == first
    assert (first["name"], first["enabled"], first["missing"], first["agents"]) == ("weather", True, ["curl"], [])
    await rpc("agents.update", {"agentId": "main", "skills": ["weather"]})
    await rpc("config.patch", {"patch": {"packages": ["curl"]}})
    (seen,) = (await rpc("skills.status"))["skills"]
    assert (seen["missing"], seen["agents"]) == ([], ["main"])
    assert (await rpc("skills.bins"))["bins"] == ["curl"]
    assert (await rpc("skills.update", {"name": "weather", "enabled": False}))["enabled"] is False
    assert (await rpc("skills.bins"))["bins"] == []
    assert (await rpc("skills.status", tenant="bravo"))["skills"] == []
    assert (await rpc("skills.remove", {"name": "weather"}, tenant="bravo"))["data"]["code"] == "not_found"
    assert (await rpc("skills.remove", {"name": "weather"}))["ok"] is True


async def test_what_is_no_skill_is_refused(rpc: Rpc) -> None:
    assert (await rpc("skills.install", {"content": "x"}))["data"]["path"] == "content"
