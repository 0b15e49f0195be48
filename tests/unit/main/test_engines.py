"""The rooms behind a tenant's own affairs, as the gateway builds them."""

from contextlib import AsyncExitStack
from pathlib import Path

from carrel.agents.files import AgentFiles
from carrel.agents.sessions import Sessions
from carrel.main.engines import build_engines
from carrel.tenancy.handle import Directory
from tests.fakes.clock import FakeClock
from tests.fakes.engines import FakeSettings
from tests.fakes.tenants import make_tenant


async def test_they_are_built_and_closed(tmp_path: Path) -> None:
    tenant, sessions, files = make_tenant(tmp_path), Sessions(clock=FakeClock()), AgentFiles()
    async with AsyncExitStack() as stack:
        settings = FakeSettings(Directory())
        engines = build_engines(stack, settings=settings, agent_files=files, sessions=sessions)
        assert engines.agent_files is files
        assert await engines.search.search(tenant, "anything") == []
    await sessions.close()
