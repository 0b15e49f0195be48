"""In which words a WebSocket is spoken: JSON-RPC 2.0, or the frames of OpenClaw's clients."""

import json
from typing import Any, Protocol

from carrel.events.hub import Event
from carrel.wire import frames, jsonrpc


class Manner(Protocol):
    """Text to calls, and answers, notifications and events to text."""

    def read(self, text: str) -> jsonrpc.Envelope:
        """What a frame asks. Never raises."""
        ...

    def answers(self, answers: list[dict[str, Any]], *, batch: bool) -> str:
        """The answers to one frame."""
        ...

    def notification(self, method: str, params: dict[str, Any]) -> str:
        """What is for this connection alone."""
        ...

    def event(self, event: Event) -> str:
        """An event of the tenant's."""
        ...


class JsonRpcManner:
    """Our own."""

    def read(self, text: str) -> jsonrpc.Envelope:
        """See `Manner`."""
        return jsonrpc.parse(text.encode("utf-8", "surrogatepass"))

    def answers(self, answers: list[dict[str, Any]], *, batch: bool) -> str:
        """See `Manner`."""
        return _text(answers if batch else answers[0])

    def notification(self, method: str, params: dict[str, Any]) -> str:
        """See `Manner`."""
        return _text({"jsonrpc": "2.0", "method": method, "params": params})

    def event(self, event: Event) -> str:
        """See `Manner`."""
        return event.text


class FrameManner:
    """OpenClaw's. ``opened_by`` is the id of the request `connect`; ``node_id`` is set for a node."""

    def __init__(self, opened_by: str, *, node_id: str | None, methods: list[str], buffered: int) -> None:
        self._opened_by = opened_by
        self._node_id = node_id
        self._methods = methods
        self._buffered = buffered

    def read(self, text: str) -> jsonrpc.Envelope:
        """See `Manner`."""
        return frames.request(text)

    def answers(self, answers: list[dict[str, Any]], *, batch: bool) -> str:
        """See `Manner`."""
        return _text(frames.response(answers[0]))

    def notification(self, method: str, params: dict[str, Any]) -> str:
        """See `Manner`."""
        if method == "hello":
            welcome = frames.hello(params, methods=self._methods, buffered=self._buffered)
            return _text(frames.response(jsonrpc.result(self._opened_by, welcome)))
        if method == "node.invoke":
            return _text(frames.invocation(self._node_id, params))
        return _text(frames.event(method, params))

    def event(self, event: Event) -> str:
        """See `Manner`."""
        said = json.loads(event.text)["params"]
        name, payload = frames.told(said["event"], said["payload"], said["ts"])
        return _text(frames.event(name, payload, seq=said["seq"]))


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
