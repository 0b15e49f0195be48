"""One connection's words in either manner."""

import json

from carrel.events.hub import Event
from carrel.http.ws_manner import FrameManner, JsonRpcManner
from carrel.wire import jsonrpc

TOLD = {"jsonrpc": "2.0", "method": "event", "params": {"seq": 7, "event": "cron.added", "ts": 1, "payload": {"a": 1}}}
EVENT = Event(7, "cron.added", None, json.dumps(TOLD))


def test_json_rpc_is_as_it_is() -> None:
    manner = JsonRpcManner()
    [call] = manner.read('{"jsonrpc": "2.0", "id": 1, "method": "health"}').entries
    assert call == jsonrpc.Call(1, "health")
    assert json.loads(manner.event(EVENT)) == TOLD
    assert json.loads(manner.answers([jsonrpc.result(1, 2)], batch=True)) == [jsonrpc.result(1, 2)]
    assert json.loads(manner.notification("hello", {}))["method"] == "hello"


def test_frames_say_the_same() -> None:
    manner = FrameManner("c", node_id="dev_1", methods=["health"], buffered=9)
    assert json.loads(manner.event(EVENT)) == {
        "type": "event", "event": "cron", "payload": {"action": "added", "a": 1}, "seq": 7,
    }  # fmt: skip
    assert json.loads(manner.answers([jsonrpc.result("r", 2)], batch=False))["payload"] == 2
    asked = {"id": "inv_1", "command": "notify", "params": {"b": 1}, "timeoutMs": 5}
    told = json.loads(manner.notification("node.invoke", asked))
    assert (told["event"], told["payload"]["nodeId"], told["payload"]["paramsJSON"]) == (
        "node.invoke.request", "dev_1", '{"b": 1}',
    )  # fmt: skip
    hello = {"connectionId": "x", "version": "1", "pingSeconds": 20.0, "maxFrameBytes": 5}
    welcome = json.loads(manner.notification("hello", hello))
    assert (welcome["type"], welcome["id"], welcome["payload"]["type"]) == ("res", "c", "hello-ok")
    assert {"cron", "tick", "device.pair.resolved", "session.finished"} <= set(welcome["payload"]["features"]["events"])
    assert welcome["payload"]["policy"] == {"maxPayload": 5, "maxBufferedBytes": 9, "tickIntervalMs": 20000}
