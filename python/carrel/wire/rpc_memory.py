"""The models of `memory.*`; see `wire.rpc`."""

from typing import Annotated

from pydantic import Field

from carrel.wire.rpc import AgentName, Page, Params, Result

NoteId = Annotated[str, Field(min_length=1, max_length=200)]


class MemorySearchParams(Params):
    """Parameters of `memory.search`."""

    query: Annotated[str, Field(min_length=1, max_length=4000)]
    limit: Annotated[int, Field(ge=1, le=100)] = 10
    agent_id: AgentName | None = Field(None, description="Leave out what is for other agents.")


class MemoryAddParams(Params):
    """Parameters of `memory.add`."""

    text: Annotated[str, Field(min_length=1, max_length=50_000)]
    agent_id: AgentName | None = Field(None, description="The agent that it is for. Default: all of them.")


class MemoryForgetParams(Params):
    """Parameters of `memory.forget`."""

    id: NoteId


class MemoryListParams(Page):
    """Parameters of `memory.list`."""


class MemoryNote(Result):
    """A note, or a file of an agent's (``source`` is its name then)."""

    id: str
    source: str
    agent_id: str | None = None
    member: str | None = None
    text: str
    created_at: int | None = None


class MemoryNotes(Result):
    """Notes and files by id."""

    notes: tuple[MemoryNote, ...]
    next: str | None = None


class MemoryHit(Result):
    """A piece of a note that was found, by its `words`, its `meaning` or both. The higher ``score``, the better."""

    id: str
    source: str
    agent_id: str | None = None
    text: str
    score: float
    by: tuple[str, ...]


class MemoryHits(Result):
    """What was found, the best first."""

    hits: tuple[MemoryHit, ...]
    note: str = Field("", description="Why meaning was left out.")


class MemoryForgotten(Result):
    """The note that is gone."""

    ok: bool
    id: str
