"""What a turn of an agent tells whoever listens."""

from dataclasses import dataclass

from carrel.declare.rate_card import TokenCounts
from carrel.ids import RequestId, SessionId
from carrel.wire.conversation import Message, StopReason


@dataclass(frozen=True, slots=True)
class Turn:
    """One message to an agent. ``messages`` are what the caller brings; of an existing session only those after the
    last assistant one are taken. ``system`` is added to the agent's own prompt. Who asks is what the handle says.
    ``create``: a session of that id is begun where there is none; otherwise it is NotFound. ``again``: a gateway that
    died had begun this request; what it had taken in is not taken twice.
    """

    agent: str
    session_id: SessionId
    messages: tuple[Message, ...]
    request_id: RequestId
    system: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    create: bool = True
    again: bool = False


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    """A piece of the agent's answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingPiece:
    """A piece of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool call began; ``arguments`` is the model's JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """A piece of a running tool's output, for show."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool call ended; ``content`` is what the model will read."""

    id: str
    name: str
    content: str
    is_error: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a user should know: a compaction, a fallback to another model, an environment still building."""

    text: str


@dataclass(frozen=True, slots=True)
class TurnFinished:
    """The turn is over, on disk and in the ledger. ``usage`` sums its model calls."""

    session_id: SessionId
    text: str
    stop: StopReason
    usage: TokenCounts
    model: str
    model_calls: int
    tool_calls: int


AgentEvent = AnswerDelta | ThinkingPiece | ToolStarted | ToolOutput | ToolFinished | Notice | TurnFinished
