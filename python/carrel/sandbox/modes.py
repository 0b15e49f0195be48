"""Which mode a tool's command is run in, and with what limits: pure, from what the operator declares alone.

A mode is named for a tool, else for what the tool is annotated with, else it is the default one. Nothing that a model
says comes in.
"""

import errno
from collections.abc import Iterable
from typing import Final

from carrel.declare.modes import CALLS
from carrel.declare.tenant import BWRAP_MODE, SandboxConfig, SandboxMode, ToolName
from carrel.errors import SandboxUnavailable
from carrel.sandbox.protocol import KILLED, Confinement

UNTRUSTED_CODE: Final = "untrusted_code"
"""The annotation of a tool that runs what a model has written."""

_ANSWERS: Final = {"refuse": errno.EPERM, "absent": errno.ENOSYS, "kill": KILLED}
_OWN: Final = frozenset({"runtime", "runtime_class", "engine", "deny_calls", "seccomp"})


def mode_of(config: SandboxConfig, tool: ToolName, annotation: str | None) -> str:
    """The mode of a tool's commands."""
    named = config.tool_modes.get(tool)
    if named is not None:
        return named
    return annotation if annotation is not None and annotation in config.modes else config.default_mode


def limits_in(config: SandboxConfig, mode: str) -> SandboxConfig:
    """The tenant's limits with the mode's own over them."""
    declared = config.modes.get(mode or config.default_mode)
    if declared is None:
        return config
    own = {name: getattr(declared, name) for name in SandboxMode.model_fields if name not in _OWN}
    return config.model_copy(update={name: value for name, value in own.items() if value is not None})


def confinement_in(config: SandboxConfig, mode: str) -> Confinement:
    """What a mode says about runtime and filters. Raises SandboxUnavailable for one that is not declared."""
    name = mode or config.default_mode
    declared = config.modes.get(name)
    if declared is not None:
        engine = declared.engine if declared.runtime == "oci" else None
        if engine == "docker":
            raise SandboxUnavailable("docker runs nothing here (see `carrel check`): name `podman` as `engine`.")
        answers = _answers(config, name, declared.seccomp)
        return Confinement(declared.runtime, declared.runtime_class, declared.deny_calls, engine, answers, mode=name)
    if name != BWRAP_MODE:
        raise SandboxUnavailable(f"No mode {name!r} of the sandbox is declared, so nothing is run.")
    return Confinement(mode=name)


def _answers(config: SandboxConfig, mode: str, profile: str | None) -> tuple[tuple[str, int], ...]:
    """What a profile refuses of the calls that the sandbox has, and how: it can say nothing of others."""
    if profile is None:
        return ()
    declared = config.profiles.get(profile)
    if declared is None:
        raise SandboxUnavailable(f"No seccomp profile {profile!r} is declared, which the mode {mode!r} names.")
    refused = CALLS & set(declared.deny_calls)
    if declared.allow_calls is not None:
        refused |= CALLS - set(declared.allow_calls)
    return tuple((call, _ANSWERS[declared.answer]) for call in sorted(refused))


def longest(config: SandboxConfig) -> float:
    """The most seconds that a run may take in any of the modes."""
    return max(config.wall_seconds, *(mode.wall_seconds or 0.0 for mode in config.modes.values()), 0.0)


def containers(configs: Iterable[SandboxConfig]) -> tuple[Confinement, ...]:
    """The ways in which modes have containers made: by which runtime, called by whom. Nothing else is in them."""
    modes = (mode for config in configs for mode in config.modes.values() if mode.runtime == "oci")
    ways = {(mode.runtime_class, mode.engine) for mode in modes if mode.engine != "docker"}
    found = (Confinement("oci", name, engine=engine) for name, engine in ways)
    return tuple(sorted(found, key=lambda way: way.runner))
