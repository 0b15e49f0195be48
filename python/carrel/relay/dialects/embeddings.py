"""OpenAI's embeddings: only the input is made of tokens."""

import json
import re
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, Self

from carrel.errors import InvalidRequest
from carrel.relay.body import model_in, parse_body
from carrel.relay.dialects.chat import ChatObserver, take_usage
from carrel.relay.dialects.protocol import CallFields
from carrel.relay.observe import Seen, StreamObserver, record_in, usage_in_ends
from carrel.wire.openai_answer import error_body
from carrel.wire.usage import usage_from_openai

MAX_INPUTS: Final = 4096


@dataclass(slots=True, kw_only=True)
class EmbeddingsFields(CallFields):
    """Texts to be embedded. Each of them may fill the model's window."""

    kind: ClassVar[Literal["openai", "anthropic"]] = "openai"
    path: ClassVar[str] = "/embeddings"
    generates: ClassVar[bool] = False
    text: ClassVar[re.Pattern[bytes]] = ChatObserver.text

    @classmethod
    def read(cls, body: bytes) -> Self:
        value = parse_body(body)
        model = model_in(value)
        given = value.get("input")
        if not isinstance(given, str | list) or not given:
            raise InvalidRequest("`input` is missing: a text, or a list of texts.", param="input")
        many = isinstance(given, list) and not isinstance(given[0], int)
        if many and len(given) > MAX_INPUTS:
            raise InvalidRequest(f"`input` is a list of {MAX_INPUTS} texts at most.", param="input")
        return cls(model=model, windows=len(given) if many else 1)

    def observer(self, *, hide_usage: bool) -> StreamObserver:
        return ChatObserver(hide_usage=hide_usage)

    def seen_in(self, body: bytes) -> Seen:
        seen = Seen()
        record = record_in(body)
        take_usage(seen, record)
        seen.error = bool(record.get("error"))
        return seen

    def seen_in_ends(self, front: bytes, back: bytes) -> Seen:
        usage = usage_in_ends(front, back)
        return Seen(None if usage is None else usage_from_openai(usage))

    def error_event(self, code: str, message: str) -> bytes:
        return f"data: {json.dumps(error_body(code, message, None, 'server_error'))}\n\n".encode()
