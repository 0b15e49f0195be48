"""The models of `skills.*`; see `wire.rpc`."""

from typing import Annotated

from pydantic import Field

from carrel.wire.rpc import Page, Params, Result

SkillName = Annotated[str, Field(min_length=1, max_length=64)]
Content = Annotated[str, Field(min_length=1, max_length=100_000)]


class SkillsStatusParams(Page):
    """Parameters of `skills.status`."""


class SkillInstallParams(Params):
    """Parameters of `skills.install`."""

    content: Content = Field(description="Its `SKILL.md`: a head with `name` and `description`, and a body.")


class SkillUpdateParams(Params):
    """Parameters of `skills.update`: only what is sent is changed."""

    name: SkillName
    content: Content | None = None
    enabled: bool | None = None


class SkillParams(Params):
    """A skill by its name."""

    name: SkillName


class SkillView(Result):
    """A skill. ``agents`` have it; ``missing`` are programs that it needs and no chosen package is called after."""

    name: str
    description: str
    enabled: bool
    version: str
    bins: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    installed_at: int
    updated_at: int


class SkillList(Result):
    """Skills by name."""

    skills: tuple[SkillView, ...]
    next: str | None = None


class SkillBins(Result):
    """The programs that enabled skills need."""

    bins: tuple[str, ...]


class SkillRemoved(Result):
    """The skill that is gone."""

    ok: bool
    name: str
