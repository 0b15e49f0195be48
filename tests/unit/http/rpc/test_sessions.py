"""`sessions.*`."""

from tests.fakes.edge import Edge
from tests.unit.http.rpc.conftest import Rpc


async def test_create_list_and_delete(edge: Edge, rpc: Rpc) -> None:
    made = await rpc("sessions.create", {"label": "notes"})
    assert made["agent"] == "main"
    assert made["key"] == made["sessionId"]
    listed = await rpc("sessions.list")
    assert listed["count"] == 1
    entry = listed["sessions"][0]
    assert (entry["sessionId"], entry["label"], entry["totalTokens"]) == (made["sessionId"], "notes", 7)
    assert listed["defaults"] == {"modelProvider": "demo", "model": "demo", "contextTokens": 32_768}
    assert await rpc("sessions.delete", {"key": made["sessionId"]}) == {"ok": True, "sessionId": made["sessionId"]}
    assert (await rpc("sessions.list"))["count"] == 0


async def test_an_id_may_be_chosen_once(rpc: Rpc) -> None:
    assert (await rpc("sessions.create", {"sessionId": "mine"}))["sessionId"] == "mine"
    assert (await rpc("sessions.create", {"sessionId": "mine"}))["data"]["code"] == "conflict"
    assert (await rpc("sessions.create", {"sessionId": "../x"}))["code"] == -32602
    assert (await rpc("sessions.create", {"agent": "nobody"}))["data"]["code"] == "model_not_found"


async def test_the_list_is_narrowed(rpc: Rpc) -> None:
    for name in ("a1", "a2", "b1"):
        await rpc("sessions.create", {"sessionId": name, "label": f"of {name}"})
    assert (await rpc("sessions.list", {"limit": 2}))["count"] == 2
    assert [s["key"] for s in (await rpc("sessions.list", {"search": "A"}))["sessions"]] == ["a2", "a1"]
    assert (await rpc("sessions.list", {"label": "of b1"}))["count"] == 1
    assert (await rpc("sessions.list", {"agentId": "other"}))["count"] == 0
    assert (await rpc("sessions.list", {"activeMinutes": 1}))["count"] == 0


async def test_send_makes_a_session_or_goes_on_with_one(edge: Edge, rpc: Rpc) -> None:
    first = await rpc("sessions.send", {"message": "hello"})
    assert first["text"] == "You said: hello"
    assert first["usage"]["totalTokens"] == 12
    second = await rpc("sessions.send", {"message": "wait: 0.01", "key": first["sessionId"]})
    assert second["sessionId"] == first["sessionId"]
    assert second["toolCalls"] == [{"id": "t1", "name": "shell", "isError": False, "durationMs": 10}]
    assert [t.session_id for t in edge.agents.turns] == [first["sessionId"]] * 2


async def test_preview_shortens_and_says_what_is_missing(rpc: Rpc) -> None:
    sent = await rpc("sessions.send", {"message": "x" * 100})
    await rpc("sessions.create", {"sessionId": "empty"})
    body = await rpc("sessions.preview", {"keys": [sent["sessionId"], "empty", "gone", "not/an/id"], "maxChars": 20})
    assert [p["status"] for p in body["previews"]] == ["ok", "empty", "missing", "missing"]
    assert body["previews"][0]["items"] == [{"role": "user", "text": "x" * 20}]


async def test_titles_and_last_messages_come_when_asked_for(rpc: Rpc) -> None:
    await rpc("sessions.send", {"message": "a long story", "sessionId": "s"})
    plain = (await rpc("sessions.list"))["sessions"][0]
    assert "lastMessage" not in plain
    asked = {"includeLastMessage": True, "includeDerivedTitles": True}
    entry = (await rpc("sessions.list", asked))["sessions"][0]
    assert (entry["lastMessage"], entry["displayName"]) == ("a long story", "a long story")


async def test_reset_keeps_the_id_and_drops_the_conversation(rpc: Rpc) -> None:
    await rpc("sessions.send", {"message": "hello", "sessionId": "s"})
    assert (await rpc("sessions.reset", {"sessionId": "s"}))["ok"] is True
    assert (await rpc("sessions.preview", {"keys": ["s"]}))["previews"][0]["status"] == "empty"


async def test_two_names_for_one_session_must_agree(rpc: Rpc) -> None:
    error = await rpc("sessions.delete", {"sessionId": "a", "key": "b"})
    assert error["data"]["path"] == "key"
    assert (await rpc("sessions.delete"))["data"]["path"] == "sessionId"


async def test_the_list_goes_on_from_page_to_page(rpc: Rpc) -> None:
    for name in ("a", "b", "c"):
        await rpc("sessions.create", {"sessionId": name})
    first = await rpc("sessions.list", {"limit": 2})
    second = await rpc("sessions.list", {"limit": 2, "cursor": first["next"]})
    assert [s["key"] for s in (*first["sessions"], *second["sessions"])] == ["c", "b", "a"]
    assert "next" not in second


async def test_compact_says_what_it_folded(rpc: Rpc) -> None:
    await rpc("sessions.create", {"sessionId": "empty"})
    await rpc("sessions.send", {"message": "hello", "sessionId": "s"})
    assert (await rpc("sessions.compact", {"sessionId": "s"}))["messages"] == 2
    assert (await rpc("sessions.compact", {"key": "empty"}))["compacted"] is False
    assert (await rpc("sessions.compact", {"key": "gone"}))["data"]["code"] == "not_found"


async def test_another_tenants_session_is_not_there(rpc: Rpc) -> None:
    await rpc("sessions.create", {"sessionId": "s"}, tenant="bravo")
    theirs, nobodys = [await rpc("sessions.delete", {"sessionId": s}) for s in ("s", "t")]
    assert theirs["message"] == nobodys["message"]
    assert (await rpc("sessions.list", tenant="bravo"))["count"] == 1
