"""The rooms behind a tenant's own affairs, built and closed together."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from carrel.agents.events import Turn
from carrel.agents.files import AgentFile, AgentFiles
from carrel.agents.search_index import SessionSearch
from carrel.agents.sends import Sends
from carrel.agents.sessions import Sessions
from carrel.channels.service import Channels
from carrel.clock import Clock
from carrel.connections.service import Connections
from carrel.devices.nodes import Nodes
from carrel.devices.service import Devices, Tokens
from carrel.devices.voice import VoiceWake
from carrel.events.hub import Hub
from carrel.http.engines import Engines, Settings
from carrel.ids import RequestId, parse_session_id
from carrel.memory.service import Embeds, Files, Memory
from carrel.policy.names import agents_of, require_agent
from carrel.schedule.book import Job, Run
from carrel.schedule.service import Schedule, Speaks
from carrel.skills.service import Skills
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Snapshot, Tenant
from carrel.terminal.service import Terminals
from carrel.wire.conversation import Message, Text


def build_engines(
    stack: AsyncExitStack,
    *,
    state_dir: Path,
    directory: Directory,
    clock: Clock,
    hub: Hub,
    settings: Settings,
    agent_files: AgentFiles,
    sessions: Sessions,
    sends: Sends,
    embeds: Embeds,
    tokens: Tokens,
    skills: Skills,
    terminals: Terminals,
    channels: Channels,
    connections: Connections,
    serving: asyncio.Event,
) -> Engines:
    """Build them; ``stack`` closes them. No job is begun or told as interrupted before the gateway is ``serving``."""
    search = SessionSearch(sessions)
    stack.push_async_callback(search.close)
    memory = Memory(clock=clock, hub=hub, files=remembered(agent_files), embeds=embeds)
    stack.push_async_callback(memory.close)
    nodes = Nodes(clock=clock, hub=hub)
    jobs = Tasks("schedule")
    schedule = Schedule(
        state_dir=state_dir, directory=directory, clock=clock, tasks=jobs, hub=hub, speak=speaker(sends)
    )  # fmt: skip
    stack.push_async_callback(schedule.close)
    stack.push_async_callback(jobs.close, grace=3.0)

    async def keep_time() -> None:
        await serving.wait()
        await schedule.run()

    jobs.start(keep_time(), name="clock")
    return Engines(
        settings=settings, agent_files=agent_files, search=search, schedule=schedule, memory=memory,
        devices=Devices(directory=directory, clock=clock, hub=hub, tokens=tokens), nodes=nodes,
        voice=VoiceWake(clock=clock, hub=hub, nodes=nodes), skills=skills, terminals=terminals,
        channels=channels, connections=connections,
    )  # fmt: skip


class PromptFiles:
    """See `agents.ports.PromptFiles`: an agent's files, then the skills that its configuration names."""

    def __init__(self, files: AgentFiles, skills: Skills) -> None:
        self._files = files
        self._skills = skills

    async def of(self, tenant: Tenant, agent: str) -> tuple[AgentFile, ...]:
        own = await self._files.of(tenant, agent)
        named = tenant.config.agents[agent].skills if agent in tenant.config.agents else ()
        if not named:
            return own
        skills = await self._skills.told(tenant, named)
        return (*own, *(AgentFile(f"Skill {one.name}", f"{one.description}\n\n{one.body}") for one in skills))


def remembered(agent_files: AgentFiles) -> Files:
    """The files of all agents, as the memory follows them."""

    async def files(tenant: Tenant) -> Mapping[str, tuple[str, str]]:
        found = {}
        for agent in agents_of(tenant):
            for file in await agent_files.of(tenant, agent):
                found[f"{agent}/{file.name}"] = agent, file.text
        return found

    return files


def speaker(sends: Sends) -> Speaks:
    """Says a job's message to its agent, as a turn of its session."""

    async def speak(tenant: Tenant, snapshot: Snapshot, job: Job, run: Run) -> str:
        turn = Turn(
            agent=require_agent(tenant, job.agent),
            session_id=parse_session_id(run.session or run.id),
            messages=(Message("user", (Text(job.message),)),),
            request_id=RequestId(f"req_{run.id.removeprefix('run_')}"),
        )
        return (await sends.send(tenant, snapshot, turn)).finished.text

    return speak
