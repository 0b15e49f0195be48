"""The rooms behind a tenant's own affairs, as the gateway builds them."""

import asyncio
from pathlib import Path

from carrel.agents.files import AgentFiles
from carrel.agents.sends import Sends
from carrel.clock import SystemClock
from carrel.declare.tenant import Agent
from carrel.events.hub import Hub
from carrel.ids import SessionId
from carrel.main.engines import PromptFiles, speaker
from carrel.schedule.book import Job, Run
from carrel.schedule.times import Every
from carrel.skills.service import Skills
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory
from tests.fakes.administration import FakeAudit
from tests.fakes.edge import FakeAgents, SessionBook, TokenBook
from tests.fakes.engines import running_engines
from tests.fakes.tenants import make_snapshot, make_tenant


async def test_they_are_built_and_a_job_speaks_to_its_agent(tmp_path: Path) -> None:
    tenant, directory, clock, tasks = make_tenant(tmp_path), Directory(), SystemClock(), Tasks("test")
    directory.publish(make_snapshot(tenant))
    agents = FakeAgents(SessionBook())
    sends = Sends(agents, tasks=tasks)
    now = clock.now()
    job = Job(id="job_1", name="x", schedule=Every(seconds=60, anchor=now), message="hello", created=now, updated=now)
    run = Run(id="run_1", job="job_1", due=now, began=now, status="running", session="s_1")
    async with running_engines(
        tmp_path, directory, clock, hub=Hub(clock=clock), sends=sends, tokens=TokenBook(), audit=FakeAudit()
    ) as engines:
        assert await engines.search.search(tenant, "anything") == []
        assert await engines.schedule.list(tenant) == []
        assert await speaker(sends)(tenant, directory.current, job, run) == "You said: hello"
        await asyncio.sleep(0)
    assert agents.turns[0].session_id == SessionId("s_1")
    await tasks.close()


async def test_an_agent_is_told_its_files_and_the_skills_that_it_names(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path, agents={"main": Agent(skills=("weather", "gone"))})
    clock, files = SystemClock(), AgentFiles()
    skills = Skills(clock=clock, hub=Hub(clock=clock))
    await skills.install(tenant, "---\nname: weather\ndescription: Tells the weather.\n---\nAsk it.\n")
    await files.set(tenant, "main", "SOUL.md", "Be kind.")
    told = PromptFiles(files, skills)
    assert [(one.name, one.text) for one in await told.of(tenant, "main")] == [
        ("SOUL.md", "Be kind."), ("Skill weather", "Tells the weather.\n\nAsk it."),
    ]  # fmt: skip
    assert await told.of(tenant, "other") == ()
