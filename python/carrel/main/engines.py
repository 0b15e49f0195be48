"""The rooms behind a tenant's own affairs, built and closed together."""

from contextlib import AsyncExitStack

from carrel.agents.files import AgentFiles
from carrel.agents.search_index import SessionSearch
from carrel.agents.sessions import Sessions
from carrel.http.engines import Engines, Settings


def build_engines(
    stack: AsyncExitStack, *, settings: Settings, agent_files: AgentFiles, sessions: Sessions
) -> Engines:  # fmt: skip
    """Build them; ``stack`` closes them."""
    search = SessionSearch(sessions)
    stack.push_async_callback(search.close)
    return Engines(settings=settings, agent_files=agent_files, search=search)
