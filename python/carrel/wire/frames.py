"""The frames in which OpenClaw's clients and nodes speak over a WebSocket, as JSON-RPC and back. Pure.

`{type: "req", id, method, params?}` is answered by `{type: "res", id, ok, payload? | error?}`; `{type: "event", event,
payload?, seq?}` comes unasked. The first request is `connect`, which says who speaks.
"""

import base64
import binascii
import hashlib
import json
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from carrel.errors import InvalidRequest, Unauthorized
from carrel.wire import jsonrpc
from carrel.wire.body import read_body
from carrel.wire.events import KINDS
from carrel.wire.wording import wording

PROTOCOL: Final = 3
MOST_SKEW_MS: Final = 600_000
"""How far a device's clock may be from ours."""

Word = Annotated[str, Field(min_length=1, max_length=200)]
Words = Annotated[tuple[Word, ...], Field(max_length=200)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, defer_build=True)


class ClientInfo(_Part):
    """The program that speaks."""

    id: Word
    version: Annotated[str, Field(max_length=64)] = ""
    platform: Annotated[str, Field(max_length=200)] = ""
    mode: Word
    device_family: Annotated[str, Field(max_length=200)] = ""


class DeviceProof(_Part):
    """A device's Ed25519 key, and its signature over what it says. Its id is the key's SHA-256."""

    id: Word
    public_key: Word
    signature: Word
    signed_at: int
    nonce: Word


class Auth(_Part):
    """A credential: a tenant's token, or a device's."""

    token: Annotated[str, Field(max_length=256)] | None = None
    device_token: Annotated[str, Field(max_length=256)] | None = None


class Connect(_Part):
    """The parameters of `connect`; what else clients say of themselves is not looked at."""

    min_protocol: int
    max_protocol: int
    client: ClientInfo
    role: Word = "operator"
    scopes: Words = ()
    caps: Words = ()
    commands: Words = ()
    auth: Auth = Auth()
    device: DeviceProof | None = None

    @property
    def credential(self) -> str:
        """The credential that it came with; empty for none."""
        return self.auth.token or self.auth.device_token or ""


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)

    type: str
    id: Annotated[str, Field(min_length=1, max_length=200)]
    method: Annotated[str, Field(min_length=1, max_length=200)]
    params: dict[str, Any] | None = None


def opening(text: str) -> tuple[str, dict[str, Any] | None]:
    """The id and the parameters of the first frame; raises InvalidRequest for what is no `connect`."""
    request = read_body(_Request, text.encode("utf-8", "surrogatepass"))
    if request.type != "req" or request.method != "connect":
        raise InvalidRequest("The first frame is a request `connect`.", param="method")
    return request.id, request.params


def connecting(params: dict[str, Any] | None) -> Connect:
    """The parameters of a `connect`; raises InvalidRequest."""
    try:
        connect = Connect.model_validate(params or {})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        param = ".".join(map(str, problem["loc"]))
        raise InvalidRequest(f"connect: `{param}`: {wording(problem)}.", param=param) from None
    if not connect.min_protocol <= PROTOCOL <= connect.max_protocol:
        raise InvalidRequest(f"This gateway speaks the protocol {PROTOCOL} of these frames.", param="minProtocol")
    if connect.role not in ("operator", "node"):
        raise InvalidRequest("`role` is `operator` or `node`.", param="role")
    return connect


def is_opening(text: str) -> bool:
    """Whether a first frame is meant as one of these, and not as JSON-RPC."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("type") == "req" and "jsonrpc" not in value


def prove(connect: Connect, *, nonce: str, now_ms: int) -> None:
    """Check what a device says of its key, where it says something; raises Unauthorized.

    Loads the library for signatures: run it in a thread.
    """
    device = connect.device
    if device is None:
        return
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - few connect so: see ADR 0004
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - as above

    try:
        key, signature = _unpadded(device.public_key), _unpadded(device.signature)
        public = Ed25519PublicKey.from_public_bytes(key)
    except (ValueError, binascii.Error):
        raise Unauthorized("The device's key or signature cannot be read.") from None
    if hashlib.sha256(key).hexdigest() != device.id:
        raise Unauthorized("The device's id is not that of its key.")
    if device.nonce != nonce:
        raise Unauthorized("The device signed another nonce than this connection's.")
    if abs(now_ms - device.signed_at) > MOST_SKEW_MS:
        raise Unauthorized("The device's clock is more than ten minutes from the gateway's.")
    for text in _signed(connect, device):
        try:
            public.verify(signature, text.encode())
        except InvalidSignature:
            continue
        return
    raise Unauthorized("The device's signature is not over what it says.")


def _signed(connect: Connect, device: DeviceProof) -> tuple[str, ...]:
    """What a device may have signed: the second and the third form are in use."""
    said = (
        device.id, connect.client.id, connect.client.mode, connect.role, ",".join(connect.scopes),
        str(device.signed_at), connect.credential, device.nonce,
    )  # fmt: skip
    client = connect.client
    return "|".join(("v2", *said)), "|".join(("v3", *said, client.platform.lower(), client.device_family.lower()))


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.replace("+", "-").replace("/", "_") + "=" * (-len(text) % 4))


def request(text: str) -> jsonrpc.Envelope:
    """A frame as a call. Never raises: what is none becomes an entry that says so."""
    try:
        found = read_body(_Request, text.encode("utf-8", "surrogatepass"))
    except InvalidRequest as error:
        malformed = jsonrpc.RpcError(jsonrpc.INVALID_REQUEST, error.message, {"code": error.code})
        return jsonrpc.Envelope((jsonrpc.Malformed(None, malformed),), batch=False)
    if found.type != "req" or found.method == "connect":
        told = "This connection is open: requests have the type `req`, and `connect` comes once."
        malformed = jsonrpc.RpcError(jsonrpc.INVALID_REQUEST, told, {"code": "invalid_request"})
        return jsonrpc.Envelope((jsonrpc.Malformed(found.id, malformed),), batch=False)
    if found.method == "node.invoke.result":
        return jsonrpc.Envelope((jsonrpc.Call(found.id, "node.result", _node_result(found.params or {})),), batch=False)
    return jsonrpc.Envelope((jsonrpc.Call(found.id, found.method, found.params),), batch=False)


def _node_result(params: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {"id": params.get("id")}
    if params.get("ok") is True:
        told = params.get("payloadJSON")
        try:
            given["result"] = json.loads(told) if isinstance(told, str) else params.get("payload")
        except (ValueError, RecursionError):
            given["result"] = told
        return given
    error = params.get("error") if isinstance(params.get("error"), dict) else {}
    assert isinstance(error, dict)  # noqa: S101 - for the type checker alone
    code, message = error.get("code"), error.get("message")
    given["error"] = {
        "code": code[:100] if isinstance(code, str) and code else "failed",
        "message": (message if isinstance(message, str) else "the node did not say why")[:4000],
    }
    return given


def response(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer of JSON-RPC as a frame."""
    frame = {"type": "res", "id": str(answer["id"] if answer["id"] is not None else "0")}
    if "error" not in answer:
        return {**frame, "ok": True, "payload": answer["result"]}
    error = answer["error"]
    data = error.get("data", {})
    told = {
        "code": str(data.get("code", "invalid_request")).upper(), "message": error["message"], "details": data,
        "retryable": bool(data.get("retryable", False)),
    }  # fmt: skip
    if "retryAfterMs" in data:
        told["retryAfterMs"] = data["retryAfterMs"]
    return {**frame, "ok": False, "error": told}


def event(name: str, payload: Any, *, seq: int | None = None) -> dict[str, Any]:
    """An event as a frame."""
    frame = {"type": "event", "event": name, "payload": payload}
    return frame if seq is None else {**frame, "seq": seq}


_OF_CRON: Final = "cron."
_PAIRING: Final = {
    "device.pair.requested": "requested", "device.pair.rejected": "rejected", "device.paired": "approved"
}  # fmt: skip
_ALONE: Final = ("connect.challenge", "tick", "node.invoke.request", "terminal.output", "terminal.exit")
"""What is told to one connection, and is no event of the tenant's."""


def told(kind: str, payload: dict[str, Any], ts: int) -> tuple[str, dict[str, Any]]:
    """An event of ours by the name that these clients know it under, with what they look for beside what we say.

    ``ts`` is in milliseconds since the epoch.
    """
    if kind.startswith(_OF_CRON):
        return "cron", {"action": kind.removeprefix(_OF_CRON), **payload}
    decision = _PAIRING.get(kind)
    if decision is None:
        return kind, payload
    role = "node" if payload.get("role") == "node" else "device"
    named = {"displayName": payload.get("name"), "ts": ts, **payload}
    if role == "node" and "deviceId" in payload:
        named["nodeId"] = payload["deviceId"]
    if decision == "requested":
        return f"{role}.pair.requested", named
    return f"{role}.pair.resolved", {"decision": decision, **named}


def kinds() -> list[str]:
    """The names of all events that come in these frames."""
    pairing = [f"{role}.pair.{what}" for role in ("device", "node") for what in ("requested", "resolved")]
    ours = [kind for kind in KINDS if kind not in _PAIRING and not kind.startswith(_OF_CRON)]
    return [*_ALONE, "cron", *pairing, *ours]


def invocation(node_id: str | None, asked: dict[str, Any]) -> dict[str, Any]:
    """What a node is asked, as it expects it."""
    return event(
        "node.invoke.request",
        {
            "id": asked["id"], "nodeId": node_id, "command": asked["command"],
            "paramsJSON": json.dumps(asked["params"]), "timeoutMs": asked["timeoutMs"], "idempotencyKey": asked["id"],
        },
    )  # fmt: skip


def hello(connection: dict[str, Any], *, methods: list[str], buffered: int) -> dict[str, Any]:
    """The payload of the answer to `connect`, of what JSON-RPC's clients are told in `hello`."""
    return {
        "type": "hello-ok",
        "protocol": PROTOCOL,
        "server": {"version": connection["version"], "connId": connection["connectionId"]},
        "features": {"methods": methods, "events": kinds()},
        "snapshot": {"presence": [], "health": {}, "stateVersion": {"presence": 0, "health": 0}, "uptimeMs": 0},
        "policy": {
            "maxPayload": connection["maxFrameBytes"], "maxBufferedBytes": buffered,
            "tickIntervalMs": int(connection["pingSeconds"] * 1000),
        },
    }  # fmt: skip
