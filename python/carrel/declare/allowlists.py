"""``_allowlists.yaml``: what tenants may choose from."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field

from carrel.declare.base import PACKAGE_NAME, Declared, Name, PackageName
from carrel.declare.egress import HostAllowlist, RuleText

Entry = Annotated[str, Field(min_length=1, max_length=300)]


PackagePattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9*?][A-Za-z0-9._+*?-]{0,127}$")]
"""A package's name in which `*` stands for any characters and `?` for one."""


class PackageAllowlist(Declared):
    """Packages by exact name, named sets of them, and patterns. What is allowed must be what the source has, too."""

    names: tuple[PackageName, ...] = Field((), description="Packages that tenants may name.")
    sets: dict[Name, tuple[PackageName, ...]] = Field(
        default_factory=dict, description="More of them, grouped under a name to keep a long list readable."
    )

    patterns: tuple[PackagePattern, ...] = Field(
        (),
        description="More of them: every package that the source has whose name is one of these, with `*` for any "
        "characters and `?` for one.",
    )
    unfree: tuple[PackageName, ...] = Field(
        (), description="Unfree packages of nixpkgs that may be built, by name without a version. No other one is."
    )
    insecure: tuple[PackageName, ...] = Field(
        (),
        description="Packages with known vulnerabilities that may be built, by name and version: `openssl-1.1.1w`. No "
        "other one is.",
    )

    def all_names(self) -> frozenset[str]:
        """Every package that is allowed by its name. More may be by a pattern."""
        return frozenset(self.names).union(*self.sets.values())

    def allows(self, name: str) -> bool:
        """Whether a package called ``name`` may be chosen, if there is one."""
        return name in self.all_names() or self.matches(name)

    def matches(self, name: str) -> bool:
        """Whether ``name``, which can be a package's, is allowed by a pattern."""
        return PACKAGE_NAME.fullmatch(name) is not None and any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def refused(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of ``names`` that are not allowed."""
        known = self.all_names()
        return tuple(name for name in names if name not in known and not self.matches(name))


class Allowlists(Declared):
    """The operator's lists. Models are names or `prefix*`; `*` allows every declared model."""

    packages: PackageAllowlist = Field(PackageAllowlist(), description="Packages for sandboxes.")
    models: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field(
        ("*",), description="Models, as names or `prefix*`."
    )
    hosts: HostAllowlist = Field(HostAllowlist(), description="Hosts for egress rules and grants.")
    mcp_servers: Annotated[tuple[RuleText, ...], Field(max_length=1000)] = Field(
        (), description="Hosts of MCP servers that tenants may be given, as egress rules write them."
    )
    oauth_providers: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        ("*",), description="OAuth providers that tenants may connect with, as names or `prefix*`."
    )
    skill_sources: tuple[Entry, ...] = Field((), description="Where skills come from. Kept for a later version.")
