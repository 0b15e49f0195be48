"""The state directory of OpenClaw, looked through: what of it becomes a tenant, and what does not.

Formats: its files of both generations, JSON and SQLite. Everything is told in the report, by name.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from carrel.errors import CarrelError, InvalidRequest
from carrel.imports import jobs, json5, state_database
from carrel.imports.databases import document, opened, optional
from carrel.imports.report import Report
from carrel.imports.sessions import MOST_TRANSCRIPT, Session, SessionReader
from carrel.imports.settings import Settings, keep_secret, understand
from carrel.imports.source import MOST_DEPTH, Name, Source
from carrel.imports.state_database import StateDatabase
from carrel.imports.values import loads

CONFIGS: Final = ("openclaw.json", "clawdbot.json", "moltbot.json")
AGENT_FILES: Final = (
    "AGENTS.md", "SOUL.md", "IDENTITY.md", "USER.md", "TOOLS.md", "HEARTBEAT.md", "MEMORY.md", "BOOTSTRAP.md"
)  # fmt: skip
MOST_CONFIG: Final = 4 << 20
MOST_TEXT: Final = 64 << 10
MOST_SECRET: Final = 48 << 10
MOST_FILE: Final = 2 << 30
MOST_WORDS: Final = 32
MOST_WORD: Final = 64
_SQLITE: Final = ("", "-wal", "-shm")
_AGENT_OWN: Final = ("auth-profiles.json", *(f"openclaw-agent.sqlite{end}" for end in _SQLITE))
_AGENT_TABLES: Final = frozenset({"session_nodes", "transcript_events", "auth_profile_store"})
_DERIVED: Final = "it is derived: what it was made from is taken"


@dataclass(frozen=True, slots=True)
class File:
    """A file that goes into the tenant at ``path``; ``link`` is set where it is a link."""

    path: str
    mode: int = 0o600
    mtime: int = 0
    content: Callable[[], Iterable[bytes]] | None = None
    link: str | None = None


@dataclass(slots=True)
class Note:
    """Something to remember."""

    id: str
    agent: str
    text: str
    created: datetime


@dataclass(slots=True)
class State:
    """What was found. Sessions and files are read while they are iterated over; the report is whole after that."""

    source: Source
    report: Report = field(default_factory=Report)
    settings: Settings = field(default_factory=Settings)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """What the report calls each job and note, by its id here."""
    skills: dict[str, str] = field(default_factory=dict)
    wake: tuple[str, ...] | None = None
    _spaces: dict[str, str] = field(default_factory=dict)
    _database: StateDatabase = field(default_factory=StateDatabase)
    _refused: set[str] = field(default_factory=set)

    def sessions(self) -> Iterator[Session]:
        """All sessions of all agents."""
        reader = SessionReader(self.source, self.report)
        for agent in self.settings.agents.values():
            yield from reader.of(agent.id, agent.source)
        self._tell_closed()

    # --- files ---

    def files(self) -> Iterator[File]:
        """Everything that goes into the tenant as a file: workspaces, and the files of agents that are in them."""
        for agent, place in self._spaces.items():
            main = agent == self._main
            inside = "sandbox" if main else f"sandbox/{agent}"
            if not main:
                self.report.add(
                    "workspace", place, "changed", f"it is the directory {agent} of the tenant's one workspace"
                )
            else:
                self.report.add("workspace", place, "taken", "it is the tenant's workspace")
            try:
                for name in self.source.walk(place):
                    yield from self._one(agent, place, inside, name)
            except CarrelError as error:
                self.report.add("workspace", place, "refused", error.message)
        self._tell_closed()

    def _tell_closed(self) -> None:
        """Tell of directories that could not be looked into: what is in them is not here."""
        for path, why in self.source.closed_to_us.items():
            self.report.add("directory", path, "refused", f"{why}: nothing of it is taken")
        self.source.closed_to_us.clear()

    def _one(self, agent: str, place: str, inside: str, name: Name) -> Iterator[File]:
        below = name.path[len(place) + 1 :]
        if name.kind == "link":
            yield File(f"{inside}/{below}", link=name.target)
        elif name.kind == "other":
            self.report.add("file", name.path, "refused", "it is neither file, directory nor link")
        elif name.kind == "deep":
            self.report.add(
                "file", name.path, "refused", f"it and what is in it lie over {MOST_DEPTH} directories deep"
            )
        elif name.kind == "file":
            if name.size > MOST_FILE:
                self.report.add("file", name.path, "refused", f"it has {name.size} bytes; {MOST_FILE} are the most")
                return
            path = f"{inside}/{below}"
            if below in AGENT_FILES and name.size <= MOST_TEXT:
                path = f"agents/{agent}/{below}"
                self.report.add("agent file", name.path, "taken")
            elif below in AGENT_FILES:
                self.report.add("agent file", name.path, "changed", "it is too long to be told, and in the workspace")
            elif below == "HEARTBEAT.md":
                self.report.add("agent file", name.path, "changed", "nothing beats here: it is in the workspace")
            yield File(path, name.mode | 0o600, name.mtime, lambda: self.source.blocks(name.path, limit=MOST_FILE))

    @property
    def _main(self) -> str:
        agents = self.settings.agents
        chosen = next((a.id for a in agents.values() if a.source == self.settings.default_agent), None)
        return chosen or next(iter(agents), "main")

    # --- reading the rest ---

    def look(self) -> None:
        """Read all that is small: settings, jobs, notes, skills, secrets."""
        config = self._config()
        ids = [one.path.rpartition("/")[2] for one in self.source.names("agents") if one.kind == "directory"]
        self.settings = understand(config, ids or ["main"], self.report)
        self._database = state_database.read(self.source, self.report)
        for agent in self.settings.agents.values():
            self._place(agent.id, agent.source, agent.workspace)
            self._profiles(agent.source)
        self._jobs()
        self._credentials()
        for agent_id, place in self._spaces.items():
            self._notes(agent_id, place)
            self._skills(f"{place}/skills")
        self._skills("skills")
        self._devices()
        self._wake()
        self._others()

    def _config(self) -> Mapping[str, Any]:
        path = next((name for name in CONFIGS if optional(self.source, name)), None)
        if path is None:
            self.report.add("settings", CONFIGS[0], "left", "there is none: defaults hold")
            return {}
        try:
            found = json5.parse(self.source.read(path, limit=MOST_CONFIG).decode())
        except (CarrelError, UnicodeDecodeError) as error:
            why = error.message if isinstance(error, CarrelError) else "it is no UTF-8"
            raise InvalidRequest(f"{self.source.path / path}: {why}. Mend it, and import again.") from None
        if not isinstance(found, Mapping):
            raise InvalidRequest(f"{self.source.path / path}: it is no object. Mend it, and import again.")
        self.report.add("settings", path, "taken")
        return found

    def _place(self, agent: str, source: str, written: str | None) -> None:
        main = source == self.settings.default_agent
        named = written or (self.settings.default_workspace if main else None)
        choices = ["workspace"] if main else [f"workspace-{source}", f"agents/{source}/workspace"]
        if named is not None:
            inside = re.search(r"(?:^|/)\.(?:openclaw|clawdbot)[^/]*/(.+?)/?$", named)
            choices.insert(0, inside[1] if inside else named.strip("/").rpartition("/")[2])
        for choice in choices:
            found = self.source.look(choice)
            if found is not None and found.kind == "directory" and choice not in self._spaces.values():
                self._spaces[agent] = choice
                return
            if found is not None and found.kind == "link":
                why = f"it is a link to {found.target}, and none is followed: put what it leads to in its place"
                self.report.add("workspace", choice, "refused", why)
                self._refused.add(choice)
                return
        if named is not None:
            self.report.add("workspace", named, "left", "it is not in this directory: copy what you need by hand")

    def _profiles(self, source: str) -> None:
        path = f"agents/{source}/agent/auth-profiles.json"
        stores: list[Any] = [self._json("secret", path)] if optional(self.source, path) else []
        base = f"agents/{source}/agent/openclaw-agent.sqlite"
        if optional(self.source, base):
            try:
                with opened(self.source, base) as database:
                    if database.has("auth_profile_store"):
                        rows = database.rows("SELECT store_json FROM auth_profile_store ORDER BY store_key")
                        stores += [document(text) for (text,) in rows]
                    state_database.tell_others(database, base, _AGENT_TABLES, self.report)
            except CarrelError as error:
                self.report.add("secret", base, "refused", error.message)
        for store in stores:
            profiles = store.get("profiles") if isinstance(store, Mapping) else None
            for name, raw in (profiles if isinstance(profiles, Mapping) else {}).items():
                self._profile(f"{path}#{name}", raw if isinstance(raw, Mapping) else {})

    def _profile(self, where: str, raw: Mapping[str, Any]) -> None:
        provider, kind = str(raw.get("provider") or "unknown"), raw.get("type")
        value = raw.get("key") if kind == "api_key" else raw.get("token") if kind == "token" else None
        if isinstance(value, str) and value:
            suffix = "API_KEY" if kind == "api_key" else "TOKEN"
            keep_secret(self.settings.secrets, f"{provider}_{suffix}", value, where, self.report)
        elif kind == "oauth":
            keep_secret(self.settings.secrets, f"{provider}_OAUTH", json.dumps(raw, sort_keys=True), where, self.report)
        else:
            self.report.add("secret", where, "left", f"it is of the type {str(kind)[:40]!r}")

    def _jobs(self) -> None:
        raw: list[tuple[str, Any]] = []
        kept = self._json("job", "cron/jobs.json") if optional(self.source, "cron/jobs.json") else None
        listed = kept.get("jobs") if isinstance(kept, Mapping) else kept
        if kept is not None and not isinstance(listed, list):
            self.report.add("job", "cron/jobs.json", "refused", "it is no list of jobs")
        raw += [(f"cron/jobs.json#{at}", one) for at, one in enumerate(listed if isinstance(listed, list) else [])]
        raw += self._database.jobs
        seen: set[str] = set()
        for where, one in raw:
            job, notes = jobs.convert(one) if isinstance(one, Mapping) else (None, ["it is no object"])
            if job is not None and job["id"] in seen:
                job, notes = None, ["there is one of its id already"]
            if job is None:
                self.report.add("job", where, "refused", "; ".join(notes))
                continue
            seen.add(job["id"])
            owner = next((a.id for a in self.settings.agents.values() if a.source == job["agent"]), None)
            self.jobs.append({**job, "agent": owner or self._main})
            told = self.names[job["id"]] = f"{where} {job['name']}"
            self.report.add("job", told, "changed" if notes else "taken", "; ".join(notes))
        if count := len(self.source.names("cron/runs")):
            self.report.add("job", "cron/runs", "left", f"the history of {count} jobs: runs begin anew")

    def _credentials(self) -> None:
        for name in self.source.walk("credentials"):
            if name.kind == "directory":
                continue
            try:
                if name.kind != "file":
                    raise InvalidRequest("it is a link or device")
                text = self.source.read(name.path, limit=MOST_SECRET).decode()
            except (CarrelError, UnicodeDecodeError) as error:
                why = error.message if isinstance(error, CarrelError) else "it is no text"
                self.report.add("credential", name.path, "refused", why)
                continue
            base = name.path.rpartition("/")[2]
            if base.endswith(("-pairing.json", "-allowFrom.json")):
                self._access[base.removesuffix(".json")] = _loaded(text)
                self.report.add("channel", name.path, "taken", "who may write to it is kept with its settings")
            elif text:
                keep_secret(self.settings.secrets, name.path.removesuffix(".json"), text, name.path, self.report)
        for account, entries in self._database.allowed.items():
            kept = {"version": 1, "allowFrom": entries}
            self._access[f"{account}-allowFrom"] = kept
            where = f"{state_database.PATH}#{account}"
            self.report.add("channel", where, "taken", "who may write to it is kept with its settings")

    @property
    def _access(self) -> dict[str, Any]:
        """Who may write, beside the channels' settings; what has that name there and is no settings makes way."""
        kept = self.settings.channels.get("access")
        if not isinstance(kept, dict):
            if kept is not None:
                self.report.add("channel", "access", "refused", "it is no settings of a channel")
            kept = self.settings.channels["access"] = {}
        return kept

    def _notes(self, agent: str, place: str) -> None:
        for name in self.source.names(f"{place}/memory"):
            if name.kind != "file" or not name.path.endswith(".md"):
                continue
            try:
                text = self.source.read(name.path, limit=1 << 20).decode()
            except (CarrelError, UnicodeDecodeError) as error:
                why = error.message if isinstance(error, CarrelError) else "it is no text"
                self.report.add("memory", name.path, "refused", f"{why}; it is in the workspace all the same")
                continue
            if text.strip():
                key = "note_" + hashlib.sha256(os.fsencode(f"{agent}/{name.path}")).hexdigest()[:24]
                self.notes.append(Note(key, agent, text, datetime.fromtimestamp(name.mtime, UTC)))
                self.names[key] = name.path
                self.report.add("memory", name.path, "taken", "a note, and a file of the workspace")

    def _skills(self, place: str) -> None:
        for folder in self.source.names(place):
            path = f"{folder.path}/SKILL.md"
            if folder.kind != "directory" or not optional(self.source, path):
                continue
            try:
                text = self.source.read(path, limit=MOST_TEXT).decode()
            except (CarrelError, UnicodeDecodeError) as error:
                self.report.add("skill", path, "refused", getattr(error, "message", "it is no text"))
                self._refused.add(folder.path)
                continue
            self.skills[path] = text
            if place == "skills":
                for name in self.source.walk(folder.path):
                    if name.path != path and name.kind != "directory":
                        self.report.add(
                            "other", name.path, "left", "of a skill that is in no workspace, its text alone is taken"
                        )

    def _devices(self) -> None:
        for kind in ("devices", "nodes"):
            found = self._json(kind, f"{kind}/paired.json") if optional(self.source, f"{kind}/paired.json") else None
            if isinstance(found, Mapping | list) and found:
                why = f"{len(found)} of them: their keys are of another kind here, pair them anew"
                self.report.add("device", f"{kind}/paired.json", "left", why)

    def _wake(self) -> None:
        path = state_database.PATH
        words: Any = self._database.wake
        if not words and optional(self.source, "settings/voicewake.json"):
            path = "settings/voicewake.json"
            found = self._json("voice", path)
            if found is None:
                return
            words = found.get("triggers") if isinstance(found, Mapping) else None
            words = words if isinstance(words, list) else ["", words]
        good = [one for one in words if isinstance(one, str) and 0 < len(one) <= MOST_WORD][:MOST_WORDS]
        if good:
            self.wake = tuple(good)
        if len(good) < len(words):
            self.report.add(
                "voice", path, "changed" if good else "refused",
                f"words are {MOST_WORDS} texts of {MOST_WORD} characters at the most",
            )  # fmt: skip
        elif good:
            self.report.add("voice", path, "taken")

    def _others(self) -> None:
        places = self._refused.union(self._spaces.values())
        above = {str(one) for place in self._spaces.values() for one in Path(place).parents} - {".", "agents"}
        looked = {"agents", "cron", "devices", "nodes", "settings", "state", "skills", "credentials", *CONFIGS[:1]}
        self._left(".", looked | places | above | {next((c for c in CONFIGS if optional(self.source, c)), "")})
        for agent in self.source.names("agents"):
            self._left(agent.path, places | {f"{agent.path}/sessions", f"{agent.path}/agent"})
            self._left(f"{agent.path}/agent", {f"{agent.path}/agent/{name}" for name in _AGENT_OWN})
        for place in sorted(above - {one.path for one in self.source.names("agents")}):
            self._left(place, places | above)
        self._left("cron", {"cron/jobs.json", "cron/runs"})
        self._left("state", {f"state/openclaw.sqlite{end}" for end in _SQLITE})
        self._left("settings", {"settings/voicewake.json"})
        self._left("skills", {folder.rpartition("/")[0] for folder in self.skills} | places)
        for kind in ("devices", "nodes"):
            self._left(kind, {f"{kind}/paired.json"})
        self._tell_closed()

    def _left(self, place: str, known: set[str]) -> None:
        """Tell of each name in a directory that is none of ``known``, and that nothing is made of it."""
        for name in self.source.names(place):
            if name.path not in known:
                why = _DERIVED if name.path == "memory" else "nothing here is made of it"
                self.report.add("memory" if name.path == "memory" else "other", name.path, "left", why)

    def _json(self, kind: str, path: str) -> Any:
        try:
            return loads(self.source.read(path, limit=MOST_TRANSCRIPT))
        except (CarrelError, ValueError) as error:
            if not isinstance(error, CarrelError) or optional(self.source, path):
                why = error.message if isinstance(error, CarrelError) else "it is no JSON"
                self.report.add(kind, path, "refused", why)
            return None


def _loaded(text: str) -> Any:
    try:
        return loads(text)
    except ValueError:
        return text


def tenants_of(source: Source) -> Mapping[str, Mapping[str, Any]] | None:
    """The tenants of a multi-tenant state directory; None where it is of one user. Raises InvalidRequest."""
    if not optional(source, "tenants.json"):
        return None
    try:
        found = loads(source.read("tenants.json", limit=MOST_CONFIG))
        listed = found["tenants"]
        return {str(key): entry if isinstance(entry, Mapping) else {} for key, entry in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidRequest(f"{source.path / 'tenants.json'} is not as it should be: mend it.") from None
