"""What is in `openclaw.json` (JSON5): agents, channels, and secrets, which are taken out of it wherever. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from carrel.declare.suspects import looks_secret
from carrel.imports.report import Report

SECRET_KEY: Final = re.compile(
    r"(?:token|secret|passw(?:or)?d|api_?key|private_?key|access_?key|app_?key|credential|nsec|auth_?key)s?$",
    re.IGNORECASE,
)
_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_TAKEN: Final = frozenset({"agents", "channels", "env"})
"""Keys whose content is looked at; all others are told as left."""
_TAKEN_DEFAULTS: Final = frozenset({"model", "workspace"})
_ACCOUNT: Final = re.compile(r"(?:service_?account|authorization|cookie)s?$", re.IGNORECASE)
"""Other keys whose text is one."""
_PASSWORD: Final = re.compile(r"passw(?:or)?d$", re.IGNORECASE)
_REFERENCE_KEYS: Final = frozenset({"source", "provider", "id"})
_LOGS_IN: Final = re.compile(r"://[^\s/@]{1,512}@")
_MOST_NAME: Final = 64
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
    listed = list(_listed(agents, report))
    for name in sorted(map(str, set(defaults) - _TAKEN_DEFAULTS)):
        without_secrets(defaults[name], ("agents", "defaults", name), found.secrets, report)
        report.add("setting", f"agents.defaults.{name}", "left", "there is no such setting of a tenant's here")
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
        elif value is not env.get("vars"):
            report.add("setting", f"env.{name}", "left", "it is no text")
    for key in config:
        if key not in _TAKEN:
            without_secrets(config[key], (key,), found.secrets, report)
            report.add("setting", str(key), "left", "there is no such setting of a tenant's here")
    return found


def _listed(agents: Mapping[str, Any], report: Report) -> Iterator[Mapping[str, Any]]:
    given = agents.get("list")
    for at, raw in enumerate(given if isinstance(given, list) else ()):
        if isinstance(raw, Mapping) and raw.get("id"):
            yield raw
        else:
            report.add("agent", f"agents.list.{at}", "refused", "it has no id")
    for source, raw in _mapping(agents.get("entries")).items():
        yield {"id": source, **_mapping(raw)}


def _agent(found: Settings, raw: Mapping[str, Any], defaults: Mapping[str, Any], report: Report) -> None:
    source = str(raw["id"])
    name = re.sub(r"[^a-z0-9_-]+", "-", source.lower()).strip("-_")[:60]
    if not _AGENT.fullmatch(name) or name in found.agents:
        report.add("agent", source, "refused", "its id is no name, or is another's that is only spelt differently")
        return
    given = raw.get("model", defaults.get("model"))
    model = given.get("primary") if isinstance(given, Mapping) else given
    skills = raw.get("skills")
    identity = _mapping(raw.get("identity"))
    found.agents[name] = Agent(
        id=name, source=source, name=_text(identity.get("name")) or _text(raw.get("name")) or "",
        model=_text(model), workspace=_text(raw.get("workspace")),
        skills=tuple(str(one) for one in skills) if isinstance(skills, list) else None,
    )  # fmt: skip
    left = sorted(map(str, set(raw) - {"id", "model", "workspace", "skills", "default"}))
    for key in left:
        without_secrets(raw[key], ("agents", source, key), found.secrets, report)
    others = sorted(set(given) - {"primary"}) if isinstance(given, Mapping) else []
    left += [f"model.{key}" for key in others if given[key]]
    more = f"; not taken of it: {', '.join(map(str, left[:20]))}" if left else ""
    report.add("agent", source, "taken" if name == source and not more else "changed", f"{name}{more}")


def without_secrets(value: Any, path: tuple[str, ...], secrets: dict[str, str], report: Report) -> Any:
    """``value`` with each secret in it taken into ``secrets`` and its name in its place."""
    if isinstance(value, Mapping):
        if {"source", "id"} <= set(value) <= _REFERENCE_KEYS and isinstance(value["id"], str):
            report.add("secret", ".".join(path), "left", f"it is kept elsewhere: {value.get('source')} {value['id']}")
            return dict(value)
        return {str(key): without_secrets(one, (*path, str(key)), secrets, report) for key, one in value.items()}
    if isinstance(value, list):
        return [without_secrets(one, (*path, str(at)), secrets, report) for at, one in enumerate(value)]
    if isinstance(value, int) and not isinstance(value, bool) and _PASSWORD.search(path[-1]):
        value = str(value)
    if isinstance(value, str) and _is_secret(value, path):
        return {"secret": keep_secret(secrets, "_".join(path), value, ".".join(path), report)}
    return value


def _is_secret(value: str, path: tuple[str, ...]) -> bool:
    """By what it is called, also where it is one of a list, or by its shape."""
    key = next((part for part in reversed(path) if not part.isdigit()), "")
    named = SECRET_KEY.search(key) is not None or _ACCOUNT.search(key) is not None
    return bool(value) and (named or looks_secret(value) or _LOGS_IN.search(value) is not None)


def keep_secret(secrets: dict[str, str], name: str, value: str, where: str, report: Report) -> str:
    """Keep a value under a name made of ``name``, and give that; a reference to the environment is told instead."""
    named = re.sub(r"[^A-Z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()).strip("_") or "SECRET"
    named = (named if named[0].isalpha() else f"SECRET_{named}")[:_MOST_NAME]
    reference = _REFERENCE.fullmatch(value)
    if reference:
        report.add("secret", where, "left", f"it is the environment variable {reference[1]}: `carrel secrets set` it")
        return named
    first, number = named, 1
    while secrets.get(named, value) != value:
        number += 1
        named = f"{first[: _MOST_NAME - 1 - len(str(number))]}_{number}"
    secrets[named] = value
    report.add("secret", where, "taken", f"sealed in the vault as {named}")
    return named


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
