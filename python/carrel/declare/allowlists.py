"""``_allowlists.yaml``: what tenants may choose from."""

from typing import Annotated

from pydantic import Field

from carrel.declare.base import Declared, Name, PackageName
from carrel.declare.egress import HostAllowlist

Entry = Annotated[str, Field(min_length=1, max_length=300)]


class PackageAllowlist(Declared):
    """Packages by exact name, and named sets of them."""

    names: tuple[PackageName, ...] = Field((), description="Packages that tenants may name.")
    sets: dict[Name, tuple[PackageName, ...]] = Field(
        default_factory=dict, description="More of them, grouped under a name to keep a long list readable."
    )

    def all_names(self) -> frozenset[str]:
        """Every package that may be chosen."""
        return frozenset(self.names).union(*self.sets.values())


class Allowlists(Declared):
    """The operator's lists. Models are names or `prefix*`; `*` allows every declared model."""

    packages: PackageAllowlist = Field(PackageAllowlist(), description="Packages for sandboxes.")
    models: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field(
        ("*",), description="Models, as names or `prefix*`."
    )
    hosts: HostAllowlist = Field(HostAllowlist(), description="Hosts for egress rules and grants.")
    mcp_servers: tuple[Entry, ...] = Field((), description="MCP servers. Kept for a later version.")
    skill_sources: tuple[Entry, ...] = Field((), description="Where skills come from. Kept for a later version.")
