"""A tenant's archive laid out as OpenClaw's state directory is: see `imports.reverse`."""

import json
import os
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
    "devices": "pair them anew", "sessions.d": "sessions of members have no place there", "grants.json": "it stays",
}  # fmt: skip

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
        channels = _json(tree / "channels/openclaw.json")
        _write(out / "openclaw.json", reversed_.settings(agents, channels if isinstance(channels, dict) else {}))
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
    overlay = tree / "config.yaml"
    told = yaml.safe_load(overlay.read_text(encoding="utf-8")) if overlay.is_file() else None
    listed = told.get("agents") if isinstance(told, dict) else None
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
