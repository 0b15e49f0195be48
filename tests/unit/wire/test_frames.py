"""OpenClaw's frames: calls of ours out of them, and answers of ours into them."""

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from carrel.errors import InvalidRequest, Unauthorized
from carrel.wire import frames, jsonrpc
from carrel.wire.events import KINDS

NOW = 1_790_000_000_000


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def connect(**more: Any) -> dict[str, Any]:
    client = {"id": "cli", "version": "2026.2.1", "platform": "Linux", "mode": "cli"}
    auth = {"token": "tk_acme_x"}
    return {"minProtocol": 3, "maxProtocol": 3, "client": client, "auth": auth, "scopes": ["operator.admin"], **more}


def with_device(form: str = "v2", *, nonce: str = "n", signed_at: int = NOW, **more: Any) -> dict[str, Any]:
    """A `connect` whose device signs what it says."""
    key = Ed25519PrivateKey.generate()
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    said = [hashlib.sha256(raw).hexdigest(), "cli", "cli", "operator", "operator.admin", str(signed_at), "tk_acme_x"]
    text = "|".join([form, *said, nonce, *(["linux", ""] if form == "v3" else [])])
    device = {
        "id": said[0], "publicKey": b64(raw), "signature": b64(key.sign(text.encode())), "signedAt": signed_at,
        "nonce": nonce, **more,
    }  # fmt: skip
    return connect(device=device)


@pytest.mark.parametrize("form", ["v2", "v3"])
def test_a_device_that_signed_what_it_says_is_believed(form: str) -> None:
    frames.prove(frames.connecting(with_device(form)), nonce="n", now_ms=NOW + 1000)
    frames.prove(frames.connecting(connect()), nonce="n", now_ms=NOW)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (with_device("v1"), "not over what it says"),
        (with_device(nonce="another"), "another nonce"),
        (with_device(signed_at=NOW - 700_000), "ten minutes"),
        (with_device(id="0" * 64), "not that of its key"),
        (with_device(publicKey="AAAA"), "cannot be read"),
        (with_device(signature="A"), "cannot be read"),
        (with_device(signature=b64(bytes(64))), "not over what it says"),
    ],
)
def test_a_device_that_did_not_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(Unauthorized, match=told):
        frames.prove(frames.connecting(given), nonce="n", now_ms=NOW)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (connect(minProtocol=4, maxProtocol=5), "minProtocol"),
        (connect(maxProtocol=2, minProtocol=1), "minProtocol"),
        (connect(role="owner"), "role"),
        (connect(client={"id": "x"}), "client.mode"),
        (connect(caps=[1]), "caps.0"),
        ({}, "minProtocol"),
        (None, "minProtocol"),
    ],
)
def test_a_connect_that_cannot_be_honoured_names_its_fault(given: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        frames.connecting(given)
    assert refused.value.param == param


def test_the_first_frame_is_a_connect() -> None:
    for text in ('{"type": "req", "id": "1", "method": "health"}', '{"type": "event"}', "[]", "{", ""):
        with pytest.raises(InvalidRequest):
            frames.opening(text)
    assert frames.is_opening('{"type": "req", "id": "1", "method": "connect"}')
    for text in ('{"jsonrpc": "2.0", "type": "req"}', "[", "[]", "[" * 100_000):
        assert not frames.is_opening(text)


def test_a_request_becomes_a_call_and_what_is_none_says_so() -> None:
    [call] = frames.request('{"type": "req", "id": "a", "method": "health", "params": {"probe": true}}').entries
    assert call == jsonrpc.Call("a", "health", {"probe": True})
    for text in ('{"type": "req", "id": "a", "method": "connect"}', '{"type": "res", "id": "a", "method": "x"}', "{}"):
        [wrong] = frames.request(text).entries
        assert isinstance(wrong, jsonrpc.Malformed), text


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({"id": "i", "ok": True, "payloadJSON": "[1]"}, {"id": "i", "result": [1]}),
        ({"id": "i", "ok": True, "payload": {"a": 1}}, {"id": "i", "result": {"a": 1}}),
        ({"id": "i", "ok": True, "payloadJSON": "no json"}, {"id": "i", "result": "no json"}),
        (
            {"id": "i", "ok": False, "error": {"code": "DENIED", "message": "no"}},
            {"id": "i", "error": {"code": "DENIED", "message": "no"}},
        ),
        ({"id": "i"}, {"id": "i", "error": {"code": "failed", "message": "the node did not say why"}}),
    ],
)
def test_what_a_node_answers_is_our_answer(params: dict[str, Any], wanted: dict[str, Any]) -> None:
    text = json.dumps({"type": "req", "id": "a", "method": "node.invoke.result", "params": params})
    assert frames.request(text).entries == (jsonrpc.Call("a", "node.result", wanted),)


def test_answers_and_events_have_their_forms() -> None:
    assert frames.response(jsonrpc.result("a", {"ok": True})) == {
        "type": "res", "id": "a", "ok": True, "payload": {"ok": True},
    }  # fmt: skip
    data = {"code": "rate_limited", "retryable": True, "retryAfterMs": 1500}
    refused = frames.response(jsonrpc.failure("a", jsonrpc.RpcError(-32029, "Slower.", data)))
    assert refused["ok"] is False
    assert refused["error"] == {
        "code": "RATE_LIMITED", "message": "Slower.", "details": data, "retryable": True, "retryAfterMs": 1500,
    }  # fmt: skip
    assert frames.event("tick", {"ts": 1}) == {"type": "event", "event": "tick", "payload": {"ts": 1}}
    assert frames.event("x", {}, seq=4)["seq"] == 4


@pytest.mark.parametrize(
    ("kind", "payload", "name", "said"),
    [
        ("cron.finished", {"jobId": "j"}, "cron", {"action": "finished", "jobId": "j"}),
        ("device.pair.requested", {"requestId": "r", "name": "p", "role": "operator"}, "device.pair.requested",
         {"requestId": "r", "displayName": "p", "ts": 5}),
        ("device.pair.requested", {"requestId": "r", "name": "p", "role": "node"}, "node.pair.requested",
         {"requestId": "r", "displayName": "p"}),
        ("device.pair.rejected", {"requestId": "r", "name": "p", "role": "node"}, "node.pair.resolved",
         {"requestId": "r", "decision": "rejected", "ts": 5}),
        ("device.paired", {"requestId": "r", "deviceId": "d", "name": "p", "role": "operator"}, "device.pair.resolved",
         {"requestId": "r", "deviceId": "d", "decision": "approved"}),
        ("device.paired", {"requestId": "r", "deviceId": "d", "name": "p", "role": "node"}, "node.pair.resolved",
         {"requestId": "r", "nodeId": "d", "decision": "approved"}),
        ("voicewake.changed", {"triggers": []}, "voicewake.changed", {"triggers": []}),
    ],
)  # fmt: skip
def test_events_have_the_names_that_these_clients_know(
    kind: str, payload: dict[str, Any], name: str, said: dict[str, Any]
) -> None:
    told, about = frames.told(kind, payload, 5)
    assert told == name
    assert about.items() >= {**payload, **said}.items()
    assert told in frames.kinds()


def test_every_event_is_listed_by_the_name_that_it_comes_under() -> None:
    listed = frames.kinds()
    assert len(set(listed)) == len(listed)
    assert {frames.told(kind, {}, 0)[0] for kind in KINDS} <= set(listed)
