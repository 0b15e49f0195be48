"""The models of `config.*`, `agents.*` and `sessions.search`; see `wire.rpc`."""

from typing import Annotated, Any, Literal

from pydantic import Field

from carrel.wire.rpc import AgentName, Page, Params, Result, SessionIdText

Text = Annotated[str, Field(max_length=100_000)]
Hash = Annotated[str, Field(min_length=1, max_length=128)]


class ConfigSetParams(Params):
    """The whole overlay anew: what it does not say is taken out."""

    config: dict[str, Any] = Field(description="The tenant's overlay: keys of `tenantWritableKeys` alone.")
    base_hash: Hash | None = Field(None, description="The `hash` that was seen; refused where it is another by now.")


class ConfigPatchParams(Params):
    """A merge patch (RFC 7396) of the overlay: mappings merge, null takes out, all else replaces."""

    patch: dict[str, Any] = Field(description="What to change.")
    base_hash: Hash | None = Field(None, description="The `hash` that was seen; refused where it is another by now.")


class AgentsListParams(Page):
    """Parameters of `agents.list`."""


class AgentFields(Params):
    """What can be said of an agent; what is null is as the operator's file or the default has it."""

    model: Annotated[str, Field(max_length=128)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    thinking: Literal["off", "low", "medium", "high"] | None = None
    system_prompt: Text | None = None
    tools: Annotated[tuple[str, ...], Field(max_length=50, strict=False)] | None = None
    skills: Annotated[tuple[str, ...], Field(max_length=100, strict=False)] | None = None


class AgentCreateParams(AgentFields):
    """Parameters of `agents.create`."""

    name: AgentName


class AgentUpdateParams(AgentFields):
    """Parameters of `agents.update`: only what is sent is changed."""

    agent_id: AgentName


class AgentDeleteParams(Params):
    """Parameters of `agents.delete`. Sessions stay; its files go, unless they are to be kept."""

    agent_id: AgentName
    keep_files: bool = False


class AgentView(Result):
    """One agent as it is in force."""

    agent_id: str
    name: str
    default: bool
    model: str | None = None
    max_tokens: int | None = None
    thinking: str
    system_prompt: str
    tools: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    own: bool = Field(description="Whether the tenant's overlay says something of it.")


class AgentList(Result):
    """Agents by name."""

    default_id: str
    agents: tuple[AgentView, ...]
    next: str | None = None


class AgentDeleted(Result):
    """The agent that is gone."""

    ok: bool
    agent_id: str


class AgentParams(Params):
    """An agent by its name."""

    agent_id: AgentName | None = Field(None, description="Default: the tenant's default agent.")


class AgentFileParams(AgentParams):
    """A file of an agent."""

    name: Annotated[str, Field(min_length=1, max_length=64)]


class AgentFileSetParams(AgentFileParams):
    """Parameters of `agents.files.set`; an empty ``content`` removes the file."""

    content: Annotated[str, Field(max_length=100_000)]


class AgentFileView(Result):
    """A file of an agent; ``content`` is left out in lists."""

    name: str
    missing: bool
    size: int = 0
    updated_at: int | None = None
    content: str | None = None


class AgentFileList(Result):
    """Every file that an agent may have."""

    agent_id: str
    max_bytes: int
    prompt_characters: int = Field(description="How much of each file the prompt holds.")
    files: tuple[AgentFileView, ...]


class AgentFileResult(Result):
    """One file of an agent."""

    agent_id: str
    file: AgentFileView


class SessionsSearchParams(Page):
    """Parameters of `sessions.search`: every word must be in the message, the last by its beginning."""

    query: Annotated[str, Field(min_length=1, max_length=1000)]
    agent_id: AgentName | None = None
    session_id: SessionIdText | None = None


class SearchHit(Result):
    """A message that has the words; ``snippet`` has them in brackets. The higher ``score``, the better."""

    session_id: str
    agent_id: str
    role: str
    ts: int
    snippet: str
    score: float


class SearchHits(Result):
    """Hits, the best first."""

    hits: tuple[SearchHit, ...]
    next: str | None = None


class SessionCompacted(Result):
    """What was folded up into a summary; ``compacted`` is false where there was nothing to fold."""

    session_id: str
    compacted: bool
    messages: int = 0
    tokens_before: int = 0
