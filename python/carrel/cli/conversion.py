"""What importing from elsewhere works with; how it is done is handed down by who composes the whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carrel.wire import backups as wire


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What a tenant's overlay says of one agent: ``model`` as it was called there."""

    id: str
    model: str | None = None
    skills: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversion:
    """One tenant, converted: its archive, what becomes of its settings, and the report."""

    tenant: str
    archive: Path
    report: Mapping[str, Any]
    secrets: Mapping[str, str] = field(repr=False)
    agents: Sequence[AgentSettings] = ()
    display_name: str | None = None


Converts = Callable[[Path, Path, str | None], Sequence[Conversion]]
"""Of a directory of another system's, into a directory for archives; the tenant's id, None where the directory names
its tenants itself. Raises CarrelError."""
Reverses = Callable[[Path, Path], Mapping[str, Any]]
"""Of an archive, into a new directory of the other system's layout; a report. Raises CarrelError."""
Looks = Callable[[Path, str], wire.ImportView]
"""Of an archive, what is in it, judged as an import judges it, for the tenant of that id. Raises CarrelError."""
