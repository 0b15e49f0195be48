"""`memory.*`."""

from tests.unit.http.rpc.conftest import Rpc


async def test_a_note_is_kept_found_and_forgotten(rpc: Rpc) -> None:
    made = await rpc("memory.add", {"text": "Mimi is the cat.", "idempotencyKey": "k"})
    assert await rpc("memory.add", {"text": "Mimi is the cat.", "idempotencyKey": "k"}) == made
    await rpc("agents.files.set", {"name": "MEMORY.md", "content": "The office is in Vienna."})
    (hit,) = (await rpc("memory.search", {"query": "Mimi"}))["hits"]
    assert (hit["id"], hit["text"], hit["by"]) == (made["id"], "Mimi is the cat.", ["words"])
    (file,) = (await rpc("memory.search", {"query": "office"}))["hits"]
    assert (file["source"], file["agentId"]) == ("main/MEMORY.md", "main")
    assert [one["id"] for one in (await rpc("memory.list"))["notes"]] == ["file:main/MEMORY.md", made["id"]]
    assert (await rpc("memory.forget", {"id": made["id"]}, tenant="bravo"))["data"]["code"] == "not_found"
    assert (await rpc("memory.forget", {"id": made["id"]}))["ok"] is True
    assert (await rpc("memory.search", {"query": "Mimi"}))["hits"] == []


async def test_an_agent_that_is_none_is_refused(rpc: Rpc) -> None:
    for method, more in (("memory.search", {"query": "x"}), ("memory.add", {"text": "x"})):
        assert (await rpc(method, {**more, "agentId": "nobody"}))["data"]["code"] == "model_not_found"
