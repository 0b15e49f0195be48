"""`carrel skills`: what a tenant's agents are taught, by the `SKILL.md` of each."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import understand
from carrel.cli.failures import DONE, WrongUsage
from carrel.cli.options import HERE, OR_STANDARD, Target
from carrel.cli.packages import TenantOption
from carrel.cli.rpc import called, called_whole
from carrel.wire import rpc_skills as wire

MOST_BYTES = 400_000
"""No file is read beyond this; the gateway takes 100,000 characters."""
SkillArgument = Annotated[str, Parameter(name="SKILL", help="Its name, as `carrel skills list` shows it.")]


def list_(*, tenant: TenantOption, target: Target = HERE) -> int:
    """List a tenant's skills, which agents have them, and which programs they lack."""
    document = called_whole(target, tenant, "skills.status", "skills")
    if target.json:
        screen.show_json(document)
        return DONE
    found = understand(wire.SkillList, document).skills
    if not found:
        screen.note(f"{tenant} has no skill: `carrel skills install SKILL.md --tenant {tenant}`.")
        return DONE
    rows = [
        (
            one.name, "yes" if one.enabled else "no", one.version or None, " ".join(one.agents) or None,
            " ".join(one.missing) or None, screen.one_line(one.description)[:60],
        )
        for one in found
    ]  # fmt: skip
    screen.table(("SKILL", "ENABLED", "VERSION", "AGENTS", "MISSING", "DESCRIPTION"), rows)
    return DONE


def install(
    file: Annotated[
        Path, OR_STANDARD, Parameter(name="FILE", help="Its `SKILL.md`, or the directory with it; `-` reads it.")
    ],
    /,
    *,
    tenant: TenantOption,
    target: Target = HERE,
) -> int:
    """Install a skill. Agents that name it in `skills` are told it."""
    return _shown(called(target, tenant, "skills.install", {"content": _text(file)}), target)


def update(
    skill: SkillArgument,
    /,
    *,
    tenant: TenantOption,
    file: Annotated[
        Path | None, OR_STANDARD, Parameter(help="Its new `SKILL.md`, or the directory with it; `-` reads it.")
    ] = None,
    enable: Annotated[
        bool | None, Parameter(negative="--disable", show_default=False, help="Turn it on or off.")
    ] = None,
    target: Target = HERE,
) -> int:
    """Give a skill another text, or turn it on or off."""
    params: dict[str, object] = {"name": skill}
    if file is not None:
        params["content"] = _text(file)
    if enable is not None:
        params["enabled"] = enable
    if len(params) == 1:
        raise WrongUsage("Say what is to be changed: --file, --enable or --disable.")
    return _shown(called(target, tenant, "skills.update", params), target)


def remove(skill: SkillArgument, /, *, tenant: TenantOption, target: Target = HERE) -> int:
    """Remove a skill."""
    document = called(target, tenant, "skills.remove", {"name": skill})
    if target.json:
        screen.show_json(document)
    else:
        screen.say(f"The skill {skill} of {tenant} is removed.")
    return DONE


def _text(file: Path) -> str:
    place = file / "SKILL.md" if file.is_dir() else file
    try:
        if str(file) == "-":
            return sys.stdin.read(MOST_BYTES)
        with place.open(encoding="utf-8") as opened:
            return opened.read(MOST_BYTES)
    except OSError as error:
        raise WrongUsage(f"{place} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise WrongUsage(f"{place} is no text in UTF-8.") from error


def _shown(document: object, target: Target) -> int:
    if target.json:
        screen.show_json(document)
        return DONE
    skill = understand(wire.SkillView, document)
    screen.say(f"{skill.name}: {screen.one_line(skill.description)}")
    if not skill.enabled:
        screen.note("It is turned off.")
    elif not skill.agents:
        screen.note("No agent has it yet: name it in the `skills` of one.")
    if skill.missing:
        screen.note(f"It needs {', '.join(skill.missing)}, and no chosen package is called so.")
    return DONE
