"""What the vendors have and this gateway has not: said in their own dialects, with what to do instead."""

from collections.abc import Mapping
from typing import Final

from carrel.errors import CarrelError, NotFound
from carrel.http.errors import Dialect, NoWebSocket

_SERVED: Final = "Served are /v1/chat/completions, /v1/responses, /v1/messages, /v1/embeddings and /v1/models."
_SHARED: Final = "what a vendor stores under the operator's key would be everybody's"
_UNMETERED: Final = "its answers would be made when nobody meters them"
_PRICED: Final = "its price is not by tokens"
_REASONS: Final[Mapping[str, str]] = {
    "completions": "call a model by /v1/chat/completions or /v1/responses",
    "complete": "call a model by /v1/messages",
    "moderations": "ask a model by /v1/chat/completions",
    "batches": f"{_UNMETERED}; send each request by itself",
    "conversations": "responses are gone on from by `previous_response_id`",
    "files": f"{_SHARED}; send a file's bytes in the request",
    "uploads": f"{_SHARED}; send a file's bytes in the request",
    "vector_stores": f"{_SHARED}; an agent's memory is searched by `memory.search`",
    "assistants": "agents are (`agent:main` as a model)",
    "threads": "agents are, and their sessions (`X-Carrel-Session`)",
    "containers": f"{_SHARED}; an agent has a sandbox of its tenant's",
    "skills": f"{_SHARED}; an agent has skills of its tenant's (`skills.status`)",
    "fine_tuning": _SHARED, "evals": _SHARED, "images": _PRICED, "audio": _PRICED, "videos": _PRICED,
    "realtime": _PRICED,
}  # fmt: skip
_ANTHROPICS: Final = frozenset({"complete"})
_BATCHES: Final = "/v1/messages/batches"
_OWN: Final = ("/v1/chat/", "/v1/models", "/v1/responses", "/v1/embeddings")


def dialect_of(path: str, headers: Mapping[str, str]) -> Dialect:
    """The dialect in which a caller of ``path`` reads what goes wrong, whether there is such a path or not."""
    if path.startswith(_OWN):
        return "openai"
    name = _name_in(path)
    if path.startswith("/v1/messages") or name in _ANTHROPICS or (name and "anthropic-version" in headers):
        return "anthropic"
    if name:
        return "openai"
    return "jsonrpc" if path == "/rpc" else "problem"


def absent(path: str) -> CarrelError:
    """What is told of ``path``, which there is not."""
    name = _name_in(path)
    if path.startswith(_BATCHES):
        return NotFound(f"There is no {_BATCHES} here: {_REASONS['batches']}. {_SERVED}")
    if name:
        return NotFound(f"There is no /v1/{name} here: {_REASONS[name]}. {_SERVED}")
    return NotFound("There is no such path; GET /openapi.json lists them.")


def no_websocket() -> NoWebSocket:
    """What is told who asks a path of the vendors for a WebSocket."""
    return NoWebSocket("No WebSockets are served here; make the same request by POST.")


def _name_in(path: str) -> str:
    """The vendors' resource that ``path`` is of, where it is one that we have not."""
    parts = path.split("/", 3)
    name = parts[2] if len(parts) > 2 and parts[1] == "v1" else ""
    return name if name in _REASONS else ""
