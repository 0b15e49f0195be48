"""`agents.*`: several agents of one tenant, and the files that their prompts hold."""

from typing import Any

from carrel.agents.files import IN_PROMPT, MAX_BYTES, AgentFile
from carrel.declare.tenant import Agent
from carrel.errors import Conflict, NotFound
from carrel.http.engines import Engines
from carrel.http.rpc.paging import paged
from carrel.http.rpc.registry import Context, Registry, engines
from carrel.policy.names import DEFAULT_AGENT, agents_of, default_agent, require_agent
from carrel.tenancy.handle import Tenant
from carrel.vcs.edits import DELETE
from carrel.wire import rpc_agents as wire
from carrel.wire.control import Actor


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("agents.list")(list_)
    registry.method("agents.create", changes=True)(create)
    registry.method("agents.update", changes=True)(update)
    registry.method("agents.delete", changes=True)(delete)
    registry.method("agents.files.list")(list_files)
    registry.method("agents.files.get")(get_file)
    registry.method("agents.files.set", changes=True, target="name")(set_file)


async def list_(context: Context, params: wire.AgentsListParams) -> wire.AgentList:
    """The tenant's agents by name."""
    overlay = await engines(context).settings.overlay(context.tenant.id)
    names, following = paged(agents_of(context.tenant), lambda name: (name,), params)
    return wire.AgentList(
        default_id=default_agent(context.tenant), next=following,
        agents=tuple(_view(context.tenant, name, overlay) for name in names),
    )  # fmt: skip


async def create(context: Context, params: wire.AgentCreateParams) -> wire.AgentView:
    """Make an agent."""
    if params.name in agents_of(context.tenant) and not context.again:
        raise Conflict(f"There is an agent {params.name!r} already: agents.update changes it.")
    changes: dict[tuple[str, ...], object] = {("agents", params.name): _fields(params)}

    def with_default(overlay: dict[str, Any]) -> dict[tuple[str, ...], object]:
        # A tenant that names no agent has `main`; it keeps it when it names another.
        if DEFAULT_AGENT in agents_of(context.tenant) and DEFAULT_AGENT not in (overlay.get("agents") or {}):
            return {("agents", DEFAULT_AGENT): {}, **changes}
        return changes

    return await _changed(context, with_default, params.name, "created")


async def update(context: Context, params: wire.AgentUpdateParams) -> wire.AgentView:
    """Change an agent; what is null goes back to what the operator's file or the default has."""
    _require(context.tenant, params.agent_id)
    changes: dict[tuple[str, ...], object] = {
        ("agents", params.agent_id, name): DELETE if (value := getattr(params, name)) is None else _plain(value)
        for name in params.model_fields_set - {"agent_id"}
    }

    def held(overlay: dict[str, Any]) -> dict[tuple[str, ...], object]:
        mine = (overlay.get("agents") or {}).get(params.agent_id, {})
        return {path: value for path, value in changes.items() if value is not DELETE or path[-1] in mine}

    return await _changed(context, held, params.agent_id, "updated")


async def delete(context: Context, params: wire.AgentDeleteParams) -> wire.AgentDeleted:
    """Remove an agent of the tenant's own; its sessions stay, and its files go."""
    name, rooms = params.agent_id, engines(context)
    if name not in agents_of(context.tenant) and context.again:
        return wire.AgentDeleted(ok=True, agent_id=name)
    _require(context.tenant, name)
    overlay = await rooms.settings.overlay(context.tenant.id)
    mine = (overlay.get("agents") or {}).get(name)
    if name == DEFAULT_AGENT or mine is None:
        raise Conflict(f"The agent {name!r} is not the tenant's to remove: the operator's file has it.")
    changed = await _change(context, {("agents", name): DELETE}, "agents.delete")
    if name in agents_of(changed):
        await _change(context, {("agents", name): mine}, "agents.delete")
        raise Conflict(f"The agent {name!r} is not the tenant's to remove: the operator's file has it.")
    if not params.keep_files:
        await rooms.agent_files.remove(context.tenant, name)
    _tell(context, name, "deleted")
    return wire.AgentDeleted(ok=True, agent_id=name)


async def list_files(context: Context, params: wire.AgentParams) -> wire.AgentFileList:
    """Every file that an agent may have, and which it has."""
    agent = _agent(context, params)
    files = await engines(context).agent_files.list(context.tenant, agent)
    return wire.AgentFileList(
        agent_id=agent, max_bytes=MAX_BYTES, prompt_characters=IN_PROMPT, files=tuple(_file(one) for one in files)
    )


async def get_file(context: Context, params: wire.AgentFileParams) -> wire.AgentFileResult:
    """A file of an agent."""
    agent = _agent(context, params)
    found = await engines(context).agent_files.get(context.tenant, agent, params.name)
    return wire.AgentFileResult(agent_id=agent, file=_file(found, whole=True))


async def set_file(context: Context, params: wire.AgentFileSetParams) -> wire.AgentFileResult:
    """Write a file of an agent; its next turn reads it."""
    agent = _agent(context, params)
    made = await engines(context).agent_files.set(context.tenant, agent, params.name, params.content)
    context.services.hub.publish(context.tenant, "agent.file", {"agentId": agent, "name": params.name})
    return wire.AgentFileResult(agent_id=agent, file=_file(made, whole=True))


def _agent(context: Context, params: wire.AgentParams) -> str:
    if params.agent_id is not None:
        _require(context.tenant, params.agent_id)
    return require_agent(context.tenant, params.agent_id)


def _require(tenant: Tenant, name: str) -> None:
    if name not in agents_of(tenant):
        raise NotFound(f"There is no agent {name!r}; agents.list tells what there is.")


async def _changed(context: Context, changes: Any, name: str, what: str) -> wire.AgentView:
    changed = await _change(context, changes, f"agents.{what.removesuffix('d')}")
    _tell(context, name, what)
    return _view(changed, name, {"agents": {name: {}}})


async def _change(context: Context, changes: Any, action: str) -> Tenant:
    rooms: Engines = engines(context)
    by = Actor(context.actor, context.request_id)
    return await rooms.settings.change(context.tenant.id, changes, action=action, by=by)


def _tell(context: Context, name: str, what: str) -> None:
    context.services.hub.publish(context.tenant, f"agent.{what}", {"agentId": name})


def _fields(params: wire.AgentFields) -> dict[str, Any]:
    named = params.model_fields_set - {"name", "agent_id"}
    return {name: _plain(value) for name in sorted(named) if (value := getattr(params, name)) is not None}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _view(tenant: Tenant, name: str, overlay: dict[str, Any]) -> wire.AgentView:
    agent = tenant.config.agents.get(name, Agent())
    return wire.AgentView(
        agent_id=name, name=name, default=name == default_agent(tenant), model=agent.model,
        max_tokens=agent.max_tokens, thinking=agent.thinking, system_prompt=agent.system_prompt,
        tools=tuple(agent.tools), skills=tuple(agent.skills), own=name in (overlay.get("agents") or {}),
    )  # fmt: skip


def _file(file: AgentFile, *, whole: bool = False) -> wire.AgentFileView:
    return wire.AgentFileView(
        name=file.name, missing=file.updated is None, size=len(file.text.encode()),
        updated_at=None if file.updated is None else int(file.updated.timestamp() * 1000),
        content=file.text if whole else None,
    )  # fmt: skip
