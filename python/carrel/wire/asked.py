"""What a request is to an edge that knows no dialect: what it asks for, neutrally, and how its answer is to be said."""

from typing import Any, Protocol

from carrel.wire.conversation import AgentRequest, Finished, ModelEvent, ModelRequest


class AnswerStream(Protocol):
    """Says one answer as the bytes of a stream. Every method returns what to send now."""

    def start(self) -> bytes:
        """That an answer begins, once; the other methods say it where it was not said yet."""
        ...

    def event(self, event: ModelEvent) -> bytes:
        """One event; the Finished brings what was not streamed of the answer, and its end."""
        ...

    def tick(self) -> bytes:
        """That somebody is at work, and nothing of what."""
        ...

    def error(self, code: str, message: str, *, type: str) -> bytes:  # noqa: A002 - the dialects' name for it
        """That the answer breaks off here."""
        ...


class ToModel(Protocol):
    """What may be asked of a model."""

    def to_model(self, *, model: str, max_output: int) -> ModelRequest:
        """The request for a provider that is called through its adapter; raises InvalidRequest by the field's name."""
        ...


class Asked(ToModel, Protocol):
    """A request, parsed. Its answer's ``id`` is made of the request's, ``created`` is in Unix seconds."""

    @property
    def model(self) -> str: ...
    @property
    def wants_stream(self) -> bool: ...

    def to_agent(self) -> AgentRequest:
        """What an agent takes of it; raises InvalidRequest by the field's name."""
        ...

    def streaming(self, *, id: str, created: int) -> AnswerStream:  # noqa: A002 - the dialects' name for it
        """How its answer is streamed."""
        ...

    def whole(self, finished: Finished, *, id: str, created: int) -> dict[str, Any]:  # noqa: A002
        """Its answer in one piece."""
        ...
