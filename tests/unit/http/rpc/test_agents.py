"""`agents.*`."""

from carrel.agents.files import MAX_BYTES
from tests.fakes.edge import Edge
from tests.unit.http.rpc.conftest import Rpc


async def test_an_agent_is_made_changed_and_removed(rpc: Rpc) -> None:
    made = await rpc("agents.create", {"name": "poet", "systemPrompt": "Rhyme.", "tools": []})
    assert (made["agentId"], made["systemPrompt"], made["own"]) == ("poet", "Rhyme.", True)
    listed = await rpc("agents.list")
    assert listed["defaultId"] == "main"
    assert [agent["name"] for agent in listed["agents"]] == ["main", "poet"]
    changed = await rpc("agents.update", {"agentId": "poet", "systemPrompt": None, "thinking": "high"})
    assert (changed["systemPrompt"], changed["thinking"]) == ("", "high")
    assert (await rpc("sessions.send", {"message": "hi", "agent": "poet"}))["agent"] == "poet"
    assert (await rpc("agents.delete", {"agentId": "poet"}))["ok"] is True
    assert [agent["name"] for agent in (await rpc("agents.list"))["agents"]] == ["main"]


async def test_what_is_there_or_not_there_is_told(rpc: Rpc) -> None:
    assert (await rpc("agents.create", {"name": "main"}))["data"]["code"] == "conflict"
    assert (await rpc("agents.create", {"name": "Not a name"}))["data"]["code"] == "invalid_request"
    assert (await rpc("agents.update", {"agentId": "nobody"}))["data"]["code"] == "not_found"
    assert (await rpc("agents.delete", {"agentId": "nobody"}))["data"]["code"] == "not_found"
    assert (await rpc("agents.delete", {"agentId": "main"}))["data"]["code"] == "conflict"


async def test_files_of_an_agent_are_written_read_and_removed(edge: Edge, rpc: Rpc) -> None:
    listed = await rpc("agents.files.list", {"agentId": "main"})
    assert all(file["missing"] for file in listed["files"])
    assert {"AGENTS.md", "SOUL.md", "USER.md", "MEMORY.md"} <= {file["name"] for file in listed["files"]}
    await rpc("agents.files.set", {"name": "SOUL.md", "content": "Be kind."})
    found = await rpc("agents.files.get", {"agentId": "main", "name": "SOUL.md"})
    assert (found["file"]["content"], found["file"]["missing"], found["file"]["size"]) == ("Be kind.", False, 8)
    assert (await rpc("agents.files.get", {"name": "SOUL.md"}, tenant="bravo"))["file"]["missing"] is True
    await rpc("agents.files.set", {"name": "SOUL.md", "content": ""})
    assert (await rpc("agents.files.get", {"name": "SOUL.md"}))["file"]["missing"] is True


async def test_a_file_has_a_name_and_a_size(rpc: Rpc) -> None:
    assert (await rpc("agents.files.set", {"name": "../x", "content": "x"}))["data"]["code"] == "not_found"
    error = await rpc("agents.files.set", {"name": "USER.md", "content": "ä" * (MAX_BYTES // 2 + 1)})
    assert (error["data"]["code"], error["data"]["path"]) == ("too_large", "content")
