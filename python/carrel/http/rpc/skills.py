"""`skills.*`: what a tenant's agents can be taught."""

from carrel.errors import NotFound
from carrel.http.rpc.paging import paged
from carrel.http.rpc.registry import Context, Registry, engines
from carrel.skills.service import Installed
from carrel.skills.skill import parse
from carrel.tenancy.handle import Tenant
from carrel.wire import rpc_skills as wire
from carrel.wire.rpc import NoParams


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("skills.status")(status)
    registry.method("skills.bins")(bins)
    registry.method("skills.install", changes=True, target="tenant")(install)
    registry.method("skills.update", changes=True, target="name")(update)
    registry.method("skills.remove", changes=True, target="name")(remove)


async def status(context: Context, params: wire.SkillsStatusParams) -> wire.SkillList:
    """The tenant's skills, who has them, and what they lack."""
    found = await engines(context).skills.list(context.tenant)
    page, following = paged(found, lambda one: (one.name,), params)
    return wire.SkillList(skills=tuple(_view(context.tenant, one) for one in page), next=following)


async def bins(context: Context, params: NoParams) -> wire.SkillBins:
    """The programs that enabled skills need."""
    found = await engines(context).skills.list(context.tenant)
    return wire.SkillBins(bins=tuple(sorted({b for one in found if one.enabled for b in parse(one.content).bins})))


async def install(context: Context, params: wire.SkillInstallParams) -> wire.SkillView:
    """Install a skill by the text of its `SKILL.md`; agents that name it in `skills` are told it."""
    made = await engines(context).skills.install(context.tenant, params.content, again=context.again)
    return _view(context.tenant, made)


async def update(context: Context, params: wire.SkillUpdateParams) -> wire.SkillView:
    """Change a skill's text, or turn it on or off."""
    changed = await engines(context).skills.update(
        context.tenant, params.name, content=params.content, enabled=params.enabled
    )
    return _view(context.tenant, changed)


async def remove(context: Context, params: wire.SkillParams) -> wire.SkillRemoved:
    """Remove a skill."""
    try:
        await engines(context).skills.remove(context.tenant, params.name)
    except NotFound:
        if not context.again:
            raise
    return wire.SkillRemoved(ok=True, name=params.name)


def _view(tenant: Tenant, kept: Installed) -> wire.SkillView:
    skill = parse(kept.content)
    return wire.SkillView(
        name=kept.name, description=skill.description, enabled=kept.enabled, version=skill.version, bins=skill.bins,
        missing=tuple(one for one in skill.bins if one not in tenant.config.packages),
        agents=tuple(name for name, agent in tenant.config.agents.items() if kept.name in agent.skills),
        installed_at=int(kept.installed.timestamp() * 1000), updated_at=int(kept.updated.timestamp() * 1000),
    )  # fmt: skip
