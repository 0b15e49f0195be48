"""A tenant's archive laid out as OpenClaw's state directory is: see `imports.reverse`."""

import json
import os
import re
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import apsw
import yaml

from carrel.backup.intake import take_in
from carrel.errors import CarrelError
from carrel.ids import parse_tenant_id
from carrel.imports import reverse as reversed_
from carrel.imports.report import Report
from carrel.memory import book as memory_book
from carrel.schedule import book as schedule_book
from carrel.wire.backups import ImportView

_LEFT: Final = {
    "usage": "the bill is the ledger's, and stays", "credentials": "secrets are sealed, and stay so",
    "devices": "pair them anew; the words that wake them are taken",
    "sessions.d": "sessions of members have no place there", "grants.json": "it stays",
}  # fmt: skip

_FILE: Final = re.compile(r"credentials/[A-Za-z0-9][A-Za-z0-9._@+-]{0,120}\.json")
_MOST_NOTE: Final = 1 << 20
"""As the importer takes them, in bytes."""


def reverse(archive: Path, out: Path) -> Mapping[str, Any]:
    """Lay ``archive`` out in the new directory ``out``; what was taken and left. See `cli.conversion.Reverses`."""
    report = Report()
    with tempfile.TemporaryDirectory(prefix="carrel-export-") as place:
        tree = Path(place) / "tenant"
        with archive.open("rb") as stream:
            take_in(stream, tree, going=lambda: None)
        try:
            out.mkdir(mode=0o700)
        except OSError as error:
            raise CarrelError(f"{out} cannot be made: {error.strerror}.") from error
        agents = _agents(tree)
        _workspaces(tree, out, agents, report)
        _sessions(tree, out, report)
        _jobs(tree, out, report)
        _notes(tree, out, report)
        _skills(tree, out, report)
        kept = _json(tree / "channels/openclaw.json")
        channels: Mapping[str, Any] = kept if isinstance(kept, dict) else {}
        _write(out / "openclaw.json", reversed_.settings(agents, channels))
        _people(channels, out, report)
        _wake(tree, out, report)
        _overlay(tree, report)
        report.add("settings", "openclaw.json", "taken", "secrets are `${NAME}`, and not in it")
        for name, why in _LEFT.items():
            if (tree / name).exists():
                report.add("other", name, "left", why)
    return report.document()


def look(archive: Path, tenant: str) -> ImportView:
    """What is in ``archive``, judged as an import judges it. See `cli.conversion.Looks`."""
    target = parse_tenant_id(tenant)
    with tempfile.TemporaryDirectory(prefix="carrel-import-") as place:
        try:
            with archive.open("rb") as stream:
                done = take_in(stream, Path(place) / "tenant", going=lambda: None)
        except OSError as error:
            raise CarrelError(f"{archive} cannot be read: {error.strerror}.") from error
    return ImportView(
        tenant=target, source=done.header.source, source_tenant=done.header.tenant, files=done.files, bytes=done.bytes,
        sessions=done.sessions, left_out=done.left_out, tokens_left_out=done.header.tenant != target, seal=done.seal,
        dry_run=True,
    )  # fmt: skip


def _agents(tree: Path) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {"main": {}}
    listed = _own_settings(tree).get("agents")
    for name, agent in (listed if isinstance(listed, dict) else {}).items():
        found[str(name)] = agent if isinstance(agent, dict) else {}
    for path in sorted((tree / "agents").iterdir()) if (tree / "agents").is_dir() else ():
        found.setdefault(path.name, {})
    return found


def _workspaces(tree: Path, out: Path, agents: Mapping[str, Any], report: Report) -> None:
    if (tree / "sandbox").is_dir():
        shutil.copytree(tree / "sandbox", out / "workspace", symlinks=True)
        report.add("workspace", "workspace", "taken")
    for name in agents:
        place = out / ("workspace" if name == "main" else f"workspace-{name}")
        for file in sorted((tree / "agents" / name).glob("*.md")):
            place.mkdir(mode=0o700, exist_ok=True)
            shutil.copy2(file, place / file.name, follow_symlinks=False)
            report.add("agent file", f"{place.name}/{file.name}", "taken")


def _sessions(tree: Path, out: Path, report: Report) -> None:
    indexes: dict[str, dict[str, Any]] = {}
    for file in sorted((tree / "sessions").glob("*.jsonl")):
        lines = [json.loads(line) for line in file.read_bytes().splitlines() if line.strip()]
        head = lines[0] if lines and lines[0].get("type") == "session" else {}
        agent, session = str(head.get("agent") or "main"), file.stem
        created = datetime.fromisoformat(head["created"]) if head.get("created") else datetime.fromtimestamp(0, UTC)
        place = out / "agents" / agent / "sessions"
        _write(place / f"{session}.jsonl", reversed_.transcript(session, created, lines[1:]))
        updated = datetime.fromisoformat(lines[-1]["ts"]) if len(lines) > 1 else created
        key = head.get("key") or f"agent:{agent}:{session}"
        indexes.setdefault(agent, {})[key] = reversed_.index_entry(session, head.get("label"), updated)
        report.add("session", session, "taken")
    for agent, index in indexes.items():
        data = json.dumps(index, indent=2, ensure_ascii=False).encode() + b"\n"
        _write(out / "agents" / agent / "sessions" / "sessions.json", data)


def _jobs(tree: Path, out: Path, report: Report) -> None:
    file = tree / "cron/cron.sqlite"
    if not file.is_file():
        return
    connection = apsw.Connection(str(file))
    try:
        kept = [one.job.model_dump(mode="json") for one in schedule_book.jobs(connection)]
    finally:
        connection.close()
    for one in kept:
        report.add("job", one["name"], "taken")
    document = {"version": 1, "jobs": [reversed_.job(one) for one in kept]}
    _write(out / "cron/jobs.json", json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")


def _notes(tree: Path, out: Path, report: Report) -> None:
    file = tree / "memory/memory.sqlite"
    if not file.is_file():
        return
    connection = apsw.Connection(str(file))
    try:
        notes = [note for note in memory_book.notes(connection) if note.source == "note"]
    finally:
        connection.close()
    there: dict[Path, set[bytes]] = {}
    used = Counter[tuple[Path, str]]()
    for note in notes:
        place = out / ("workspace" if note.agent in (None, "main") else f"workspace-{note.agent}") / "memory"
        if place not in there:
            there[place] = {path.read_bytes() for path in place.glob("*.md") if _is_note(path)}
        report.add("memory", note.id, "taken")
        data = note.text.encode()
        if data in there[place]:
            # It came with the workspace's file, which is here too.
            continue
        there[place].add(data)
        path = _free(place, f"{note.created:%Y-%m-%d}", used)
        _write(path, data)
        os.utime(path, (note.created.timestamp(),) * 2)


def _is_note(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_size <= _MOST_NOTE


def _free(place: Path, day: str, used: Counter[tuple[Path, str]]) -> Path:
    """A name that nothing has there: a file each, for an import makes a note of each."""
    while True:
        used[place, day] += 1
        path = place / (f"{day}.md" if used[place, day] == 1 else f"{day}-{used[place, day]}.md")
        if not os.path.lexists(path):
            return path


def _skills(tree: Path, out: Path, report: Report) -> None:
    book = _json(tree / "plugins/skills.json")
    for skill in book.get("skills", []) if isinstance(book, dict) else []:
        _write(out / "workspace/skills" / str(skill["name"]) / "SKILL.md", str(skill["content"]).encode())
        report.add("skill", str(skill["name"]), "taken")


def _people(channels: Mapping[str, Any], out: Path, report: Report) -> None:
    """Who may write to channels, as it came in once."""
    people = channels.get("access")
    for name, listed in (people if isinstance(people, dict) else {}).items():
        # A name of the later generation has its account behind a stroke, and is a file's name in the earlier one.
        path = f"credentials/{str(name).replace('/', '-')}.json"
        if _FILE.fullmatch(path) is None:
            report.add("channel", str(name), "left", "it is no name of a file there")
            continue
        _write(out / path, json.dumps(listed, indent=2).encode() + b"\n")
        report.add("channel", path, "taken")


def _wake(tree: Path, out: Path, report: Report) -> None:
    kept = _json(tree / "devices/voicewake.json")
    words = kept.get("triggers") if isinstance(kept, dict) else None
    if isinstance(words, list) and words:
        _write(out / "settings/voicewake.json", json.dumps({"triggers": words}, indent=2).encode() + b"\n")
        report.add("voice", "settings/voicewake.json", "taken")


def _overlay(tree: Path, report: Report) -> None:
    """Tell of the tenant's own settings that have no place there."""
    for name, value in _own_settings(tree).items():
        if name != "agents":
            report.add("setting", name, "left", "there is no such setting there")
            continue
        for agent, one in (value if isinstance(value, dict) else {}).items():
            left = sorted(map(str, set(one) - {"model", "skills"})) if isinstance(one, dict) else []
            if left:
                report.add("agent", str(agent), "changed", f"not taken of it: {', '.join(left)}")


def _own_settings(tree: Path) -> Mapping[str, Any]:
    overlay = tree / "config.yaml"
    told = yaml.safe_load(overlay.read_text(encoding="utf-8")) if overlay.is_file() else None
    return {str(name): value for name, value in told.items()} if isinstance(told, dict) else {}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
