"""What Anthropic's clients read, beside the vendor's own answers that pass as they are: errors and lists of models.

The formats are https://docs.anthropic.com/en/api/errors and https://docs.anthropic.com/en/api/models-list.
"""

from collections.abc import Sequence
from typing import Any, Final

EPOCH: Final = "1970-01-01T00:00:00Z"
"""When a model was made where nobody says so, as the API's reference has it."""


def error_body(code: str, message: str, type: str, request_id: str | None = None) -> dict[str, Any]:  # noqa: A002 - Anthropic's name for it
    """An error. ``code`` is ours, and stable; clients of Anthropic's look at ``type``."""
    body: dict[str, Any] = {"type": "error", "error": {"type": type, "message": message, "code": code}}
    return body if request_id is None else body | {"request_id": request_id}


def model_entry(name: str, *, context_window: int | None = None, max_output: int | None = None) -> dict[str, Any]:
    """One model."""
    entry: dict[str, Any] = {"type": "model", "id": name, "display_name": name, "created_at": EPOCH,
                             "lifecycle": "active"}  # fmt: skip
    if context_window is not None and max_output is not None:
        entry |= {"max_input_tokens": context_window, "max_tokens": max_output}
    return entry


def model_page(entries: Sequence[dict[str, Any]], *, more: bool = False) -> dict[str, Any]:
    """A page of a list of models."""
    return {
        "data": list(entries),
        "has_more": more,
        "first_id": entries[0]["id"] if entries else None,
        "last_id": entries[-1]["id"] if entries else None,
    }
