"""What is in `openclaw.json` (JSON5): agents, channels, and secrets, which are taken out of it wherever. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from carrel.imports.report import Report

SECRET_KEY: Final = re.compile(
    r"(?:token|secret|passw(?:or)?d|api_?key|private_?key|access_?key|app_?key|credential|nsec|auth_?key)s?$",
    re.IGNORECASE,
)
_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_TAKEN: Final = frozenset({"agents", "channels", "cron", "skills", "env", "meta", "wizard"})
"""Keys whose content is looked at; all others are told as left."""
_AGENT: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
DEFAULT_AGENT: Final = "main"


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent: ``source`` is its id there. ``workspace`` is a path as it was written, ``skills`` None for all."""

    id: str
    source: str
    name: str = ""
    model: str | None = None
    workspace: str | None = None
    skills: tuple[str, ...] | None = None


@dataclass(slots=True)
class Settings:
    """What was found. ``channels`` has each secret as ``{"secret": NAME}``."""

    agents: dict[str, Agent] = field(default_factory=dict)
    channels: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    default_workspace: str | None = None
    default_agent: str = DEFAULT_AGENT


def understand(config: Mapping[str, Any], agent_ids: Sequence[str], report: Report) -> Settings:
    """The settings in ``config``; ``agent_ids`` have directories of their own, whether it names them or not."""
    found = Settings()
    agents = _mapping(config.get("agents"))
    defaults = _mapping(agents.get("defaults"))
    found.default_workspace = _text(defaults.get("workspace"))
    listed = list(_listed(agents))
    for raw in listed:
        _agent(found, raw, defaults, report)
    for source in agent_ids:
        if source not in {agent.source for agent in found.agents.values()}:
            _agent(found, {"id": source}, defaults, report)
    chosen = next((str(raw.get("id")) for raw in listed if raw.get("default") is True), None)
    found.default_agent = chosen or next((str(raw.get("id")) for raw in listed), DEFAULT_AGENT)
    for channel, value in _mapping(config.get("channels")).items():
        path = f"channels.{channel}"
        found.channels[str(channel)] = without_secrets(value, (path,), found.secrets, report)
        report.add("channel", str(channel), "changed", "its settings are kept; it is set up again by `carrel channels`")
    env = _mapping(config.get("env"))
    for name, value in {**env, **_mapping(env.get("vars"))}.items():
        if isinstance(value, str):
            keep_secret(found.secrets, str(name), value, f"env.{name}", report)
    for key in config:
        if key not in _TAKEN:
            without_secrets(config[key], (key,), found.secrets, report)
            report.add("setting", str(key), "left", "there is no such setting of a tenant's here")
    return found


def _listed(agents: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    given = agents.get("list")
    if isinstance(given, list):
        yield from (raw for raw in given if isinstance(raw, Mapping) and raw.get("id"))
    for source, raw in _mapping(agents.get("entries")).items():
        yield {"id": source, **_mapping(raw)}


def _agent(found: Settings, raw: Mapping[str, Any], defaults: Mapping[str, Any], report: Report) -> None:
    source = str(raw["id"])
    name = re.sub(r"[^a-z0-9_-]+", "-", source.lower()).strip("-_")[:60]
    if not _AGENT.fullmatch(name) or name in found.agents:
        report.add("agent", source, "refused", "its id is no name, or is another's that is only spelt differently")
        return
    model = raw.get("model", defaults.get("model"))
    if isinstance(model, Mapping):
        model = model.get("primary")
    skills = raw.get("skills")
    identity = _mapping(raw.get("identity"))
    found.agents[name] = Agent(
        id=name, source=source, name=_text(identity.get("name")) or _text(raw.get("name")) or "",
        model=_text(model), workspace=_text(raw.get("workspace")),
        skills=tuple(str(one) for one in skills) if isinstance(skills, list) else None,
    )  # fmt: skip
    left = sorted(set(raw) - {"id", "name", "model", "workspace", "skills", "identity", "default"})
    more = f"; not taken of it: {', '.join(map(str, left[:20]))}" if left else ""
    report.add("agent", source, "taken" if name == source and not more else "changed", f"{name}{more}")


def without_secrets(value: Any, path: tuple[str, ...], secrets: dict[str, str], report: Report) -> Any:
    """``value`` with each secret in it taken into ``secrets`` and its name in its place."""
    if isinstance(value, Mapping):
        if set(value) >= {"source", "id"} and isinstance(value.get("id"), str):
            report.add("secret", ".".join(path), "left", f"it is kept elsewhere: {value.get('source')} {value['id']}")
            return dict(value)
        return {str(key): without_secrets(one, (*path, str(key)), secrets, report) for key, one in value.items()}
    if isinstance(value, list):
        return [without_secrets(one, (*path, str(at)), secrets, report) for at, one in enumerate(value)]
    if isinstance(value, str) and SECRET_KEY.search(path[-1]) and value:
        return {"secret": keep_secret(secrets, "_".join(path), value, ".".join(path), report)}
    return value


def keep_secret(secrets: dict[str, str], name: str, value: str, where: str, report: Report) -> str:
    """Keep a value under a name made of ``name``, and give that; a reference to the environment is told instead."""
    named = re.sub(r"[^A-Z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()).strip("_")[:60] or "SECRET"
    reference = _REFERENCE.fullmatch(value)
    if reference:
        report.add("secret", where, "left", f"it is the environment variable {reference[1]}: `carrel secrets set` it")
        return named
    while secrets.get(named, value) != value:
        named += "_2"
    secrets[named] = value
    report.add("secret", where, "taken", f"sealed in the vault as {named}")
    return named


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
