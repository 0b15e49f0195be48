"""The skills of all tenants: installed, updated and removed, and told to the agents that have them."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from carrel.clock import Clock
from carrel.declare.problems import nearest
from carrel.errors import Conflict, NotFound
from carrel.events.hub import Hub
from carrel.skills.skill import Skill, parse
from carrel.tenancy.documents import Documents
from carrel.tenancy.handle import Tenant

MOST: Final = 50


class Installed(BaseModel):
    """A skill as it is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str
    content: str
    enabled: bool = True
    installed: AwareDatetime
    updated: AwareDatetime


class SkillBook(BaseModel):
    """All skills of a tenant, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    version: Literal[1] = 1
    skills: Annotated[tuple[Installed, ...], Field(max_length=MOST)] = ()


class Skills:
    """One instance, made by the composition root."""

    def __init__(self, *, clock: Clock, hub: Hub) -> None:
        self._clock = clock
        self._hub = hub
        self._books = Documents("plugins/skills.json", SkillBook)

    async def list(self, tenant: Tenant) -> Sequence[Installed]:
        """All of them by name."""
        return (await self._books.read(tenant)).skills

    async def told(self, tenant: Tenant, names: Sequence[str]) -> Sequence[Skill]:
        """Those of ``names`` that are installed and enabled, in their order: what an agent that has them is told."""
        if not names:
            return ()
        kept = {one.name: one for one in await self.list(tenant) if one.enabled}
        chosen = [kept[name].content for name in names if name in kept]
        return await asyncio.to_thread(lambda: [parse(content) for content in chosen])

    async def install(self, tenant: Tenant, content: str, *, again: bool = False) -> Installed:
        """Install a skill, enabled; raises InvalidRequest, and Conflict where there is one of its name."""
        skill, now = await asyncio.to_thread(parse, content), self._clock.now()
        made = Installed(name=skill.name, content=content, installed=now, updated=now)

        def add(book: SkillBook) -> SkillBook:
            known = next((one for one in book.skills if one.name == skill.name), None)
            if known is not None and again and known.content == content:
                return book
            if known is not None:
                raise Conflict(f"There is a skill {skill.name!r} already: skills.update changes it.")
            if len(book.skills) >= MOST:
                raise Conflict(f"A tenant has at most {MOST} skills: remove one first.")
            return _with(book, made)

        book = await self._books.change(tenant, add)
        self._tell(tenant, skill.name, "installed")
        return next(one for one in book.skills if one.name == skill.name)

    async def update(self, tenant: Tenant, name: str, *, content: str | None, enabled: bool | None) -> Installed:
        """Change a skill's text, or turn it on or off; raises NotFound, InvalidRequest."""
        if content is not None and (told := await asyncio.to_thread(parse, content)).name != name:
            raise Conflict(f"The new text is of the skill {told.name!r}, not of {name!r}.")
        now: datetime = self._clock.now()

        def change(book: SkillBook) -> SkillBook:
            before = _known(book, name)
            changes: dict[str, object] = {"updated": now}
            if content is not None:
                changes["content"] = content
            if enabled is not None:
                changes["enabled"] = enabled
            return _with(book, before.model_copy(update=changes))

        book = await self._books.change(tenant, change)
        self._tell(tenant, name, "updated")
        return _known(book, name)

    async def remove(self, tenant: Tenant, name: str) -> None:
        """Remove a skill; raises NotFound."""

        def drop(book: SkillBook) -> SkillBook:
            gone = _known(book, name)
            return book.model_copy(update={"skills": tuple(one for one in book.skills if one is not gone)})

        await self._books.change(tenant, drop)
        self._tell(tenant, name, "removed")

    def _tell(self, tenant: Tenant, name: str, what: str) -> None:
        self._hub.publish(tenant, f"skill.{what}", {"name": name})


def _known(book: SkillBook, name: str) -> Installed:
    for one in book.skills:
        if one.name == name:
            return one
    close = nearest(name, [one.name for one in book.skills])
    raise NotFound(f"There is no skill {name[:64]!r}{f'; did you mean {close}?' if close else '.'}")


def _with(book: SkillBook, skill: Installed) -> SkillBook:
    others = [one for one in book.skills if one.name != skill.name]
    return book.model_copy(update={"skills": tuple(sorted((*others, skill), key=lambda one: one.name))})
