"""What a machine is told beside what it serves: the settings that the NixOS module writes, one JSON document.

They are judged when the machine is built (`carrel check --host`), by the model that the gateway then reads them with.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from carrel.declare.base import Declared, Name, Seconds
from carrel.declare.file import parse, place
from carrel.declare.load import load_tree
from carrel.declare.problems import DeclarationInvalid, Finding, Problem, nearest, shown
from carrel.errors import CarrelError
from carrel.ids import TENANT_ID_PATTERN, TenantId
from carrel.secrets import MASTER_KEY, SECRET_NAME_PATTERN, SIGNING_KEY

STORE: Final = Path("/nix/store")
_MAX_BYTES: Final = 1 << 20
Absolute = Annotated[str, Field(pattern=r"^/[^\x00]*$", max_length=4096)]
"""A path from the root."""
SecretName = Annotated[str, Field(pattern=SECRET_NAME_PATTERN)]
Target = Annotated[str, Field(pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s?#]*)?|file:///[^\s?#]*)$")]
"""Where backups are: ``s3://BUCKET/PREFIX``, or ``file:///DIRECTORY``."""
Tenant = Annotated[str, Field(pattern=TENANT_ID_PATTERN)]


class Listen(Declared):
    """Where the gateway is reached."""

    address: Annotated[str, Field(pattern=r"^[0-9A-Za-z.:%_-]{1,255}$")] = Field(
        "127.0.0.1", description="The address to listen on."
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(18789, description="The port; 0 for any that is free.")
    names: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,253}$")], ...] = Field(
        (), description="Host names that it answers for, beyond those of loopback: those of the proxy before it."
    )


class Logging(Declared):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")
    json_lines: bool = Field(True, description="Whether log lines are JSON.")


class Shard(Declared):
    """One gateway of several."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s@/]+$", max_length=2000)] = Field(
        description="Where the proxy reaches it."
    )
    tenants: tuple[Tenant, ...] = Field((), description="Whom it serves.")


class Placement(Declared):
    """Who of several gateways that share declarations serves whom. Nobody is served by two."""

    shard: Name = Field(description="Which of them this gateway is.")
    rest: Name = Field(description="Who serves the tenants that none names.")
    shards: dict[Name, Shard] = Field(description="All of them.")

    def serves(self, tenant: TenantId) -> bool:
        """Whether ``tenant`` is this gateway's."""
        owner = next((name for name, shard in self.shards.items() if tenant in shard.tenants), self.rest)
        return owner == self.shard


class HostSettings(Declared):
    """All that a machine's gateway is told. What concerns tenants is in tenants.d."""

    tenants_dir: Absolute = Field(description="The directory of declarations.")
    git: Absolute | None = Field(
        None,
        description="The git settings, where what is declared comes by git; `tenants_dir` is not read then.",
    )
    state_dir: Absolute = Field("/var/lib/carrel", description="Where state is kept.")
    listen: Listen = Field(Listen(), description="Where it is reached.")
    log: Logging = Field(Logging(), description="What is logged.")
    require_closure: bool = Field(
        True, description="Start only where the sandbox holds, and run tools on closures only."
    )
    launcher: Absolute | None = Field(
        None, description="The socket of the launcher's own unit; without it the gateway starts a launcher itself."
    )
    drain_seconds: Annotated[Seconds, Field(ge=0.5, le=3600)] = Field(
        2.0, description="How long requests that run may go on when it stops."
    )
    secrets: tuple[SecretName, ...] = Field((), description="The names of the credentials that it is given.")
    audit_mark: Absolute | None = Field(
        None, description="A file that keeps the signed end of the audit log besides: on another disk, say."
    )
    placement: Placement | None = Field(None, description="Its place among several gateways.")


def read_host(path: Path) -> HostSettings:
    """The settings in ``path``; raises DeclarationInvalid with every problem, CarrelError where it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise CarrelError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > _MAX_BYTES:
        raise CarrelError(f"{path} is longer than {_MAX_BYTES} bytes: it is no host's settings.")
    parsed = parse(path.name, hashlib.sha256(data).hexdigest(), data, HostSettings)
    if parsed.layer is None:
        raise DeclarationInvalid(parsed.problems)
    settings = HostSettings.model_validate(parsed.layer, strict=False)
    findings = [*_findings(settings)]
    if findings:
        raise DeclarationInvalid(place(path.name, data.decode(), findings))
    return settings


def _findings(settings: HostSettings) -> Iterator[Finding]:
    """What no single key shows."""
    state, tenants = (Path(os.path.normpath(path)) for path in (settings.state_dir, settings.tenants_dir))
    if state.is_relative_to(STORE):
        yield Finding(("state_dir",), "it is in the Nix store, which nobody can write", shown(str(state)))
    if tenants == state or state.is_relative_to(tenants) or tenants.is_relative_to(state / "tenants"):
        yield Finding(
            ("tenants_dir",), "declarations and state each want a directory of their own", shown(str(tenants))
        )
    if settings.placement is not None:
        yield from _placement_findings(settings.placement)


def _placement_findings(placement: Placement) -> Iterator[Finding]:
    names = tuple(placement.shards)
    for key, name in (("shard", placement.shard), ("rest", placement.rest)):
        if name not in placement.shards:
            yield Finding(("placement", key), "not one of the shards", shown(name), names, nearest(name, names))
    owner: dict[str, str] = {}
    for name, shard in placement.shards.items():
        for index, tenant in enumerate(shard.tenants):
            if tenant in owner:
                path = ("placement", "shards", name, "tenants", index)
                yield Finding(path, f"{owner[tenant]} serves this tenant already", shown(tenant))
            owner.setdefault(tenant, name)


def check_against(settings: HostSettings, directory: Path) -> tuple[Problem, ...]:
    """What is wrong in ``directory``, and what it wants of the machine that ``settings`` do not give.

    Raises DirectoryUnreadable.
    """
    tree = load_tree(directory)
    problems = [*tree.problems]
    given = {*settings.secrets}
    for name, provider in tree.operators.gateway.providers.items() if tree.operators is not None else ():
        secret = provider.api_key.secret if provider.api_key is not None else None
        if secret is not None and secret not in given:
            problems.append(_lacking(f"providers.{name}.api_key", secret, settings))
    placed = settings.placement.shards.values() if settings.placement is not None else ()
    problems += [
        Problem("host", 1, 1, "placement", f"{tenant} is placed and not declared", severity="warning")
        for shard in placed
        for tenant in shard.tenants
        if TenantId(tenant) not in tree.tenants
    ]
    return tuple(problems)


def _lacking(path: str, secret: str, settings: HostSettings) -> Problem:
    close = nearest(secret, settings.secrets)
    mend = f"this machine is not given the secret: set `services.carrel.secrets.{secret}.file`"
    known = tuple(name for name in settings.secrets if name not in (MASTER_KEY, SIGNING_KEY))
    return Problem("_gateway.yaml", 1, 1, path, mend, found=shown(secret), allowed=known, nearest=close)
