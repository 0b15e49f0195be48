"""Reasoning on its way through a caller whose dialect has no place for its vendor's proof, and back.

A vendor takes reasoning back with its own proof alone. In chat completions it travels in ``reasoning_details``, as
https://openrouter.ai/docs/use-cases/reasoning-tokens has them; in a response in ``encrypted_content``, which is
opaque to callers by definition.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, Final

from carrel.errors import InvalidRequest
from carrel.wire.conversation import Thinking

FIELD_MARK: Final = "field:"
"""A Thinking's ``signature`` for reasoning that came in a field of OpenAI's dialect: the mark and the field's name."""
_SEAL: Final = "carrel1."
_SUMMARY_SEAL: Final = "carrel1-summary."


def is_proof(thinking: Thinking) -> bool:
    """Whether ``thinking`` has a vendor's proof, or is opaque."""
    return bool(thinking.redacted) or (bool(thinking.signature) and not thinking.signature.startswith(FIELD_MARK))


def proof_details(thoughts: Sequence[Thinking], *, first: int = 0) -> list[dict[str, Any]]:
    """``thoughts`` as ``reasoning_details``, numbered from ``first``."""
    return [
        {"type": "reasoning.encrypted", "data": thought.redacted, "index": index}
        if thought.redacted
        else {"type": "reasoning.text", "text": thought.text, "signature": thought.signature, "index": index}
        for index, thought in enumerate(thoughts, first)
    ]


def from_details(details: object, where: str) -> list[Thinking]:
    """The reasoning in ``reasoning_details``; raises InvalidRequest for what is none."""
    thoughts: list[Thinking] = []
    for number, detail in enumerate(details if isinstance(details, list) else [details]):
        match detail:
            case {"type": "reasoning.text" | "reasoning.summary", **rest}:
                text, signature = rest.get("text") or rest.get("summary") or "", rest.get("signature") or ""
                if isinstance(text, str) and isinstance(signature, str):
                    thoughts.append(Thinking(text, signature))
                    continue
            case {"type": "reasoning.encrypted", "data": str(data)}:
                thoughts.append(Thinking("", redacted=data))
                continue
        raise InvalidRequest(
            "This is none of the details that an answer's reasoning came with.", param=f"{where}[{number}]"
        )
    return thoughts


def seal(thinking: Thinking) -> str | None:
    """The proof of ``thinking`` as opaque text, None where there is none to keep."""
    if not (thinking.signature or thinking.redacted):
        return None
    value = {"signature": thinking.signature, "redacted": thinking.redacted}
    return _SEAL + base64.b64encode(json.dumps(value).encode()).decode()


def is_sealed(content: str) -> bool:
    """Whether ``content`` is what `seal` makes."""
    return content.startswith(_SEAL)


def unseal(text: str, content: object) -> Thinking:
    """Reasoning ``text`` with the proof in ``content``; what another made is no proof here."""
    if isinstance(content, str) and is_sealed(content):
        try:
            value = json.loads(base64.b64decode(content.removeprefix(_SEAL), validate=True))
            return Thinking(text, str(value["signature"]), str(value["redacted"]))
        except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
            return Thinking(text)
    return Thinking(text)


def seal_summary(text: str) -> str:
    """The summary of a conversation as opaque text."""
    return _SUMMARY_SEAL + base64.b64encode(text.encode("utf-8", "replace")).decode()


def unseal_summary(content: object) -> str | None:
    """The summary in ``content``; None for what `seal_summary` did not make."""
    if not isinstance(content, str) or not content.startswith(_SUMMARY_SEAL):
        return None
    try:
        return base64.b64decode(content.removeprefix(_SUMMARY_SEAL), validate=True).decode()
    except ValueError:
        return None
