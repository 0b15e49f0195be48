"""Tenants of other systems converted into archives of ours, and one of ours laid out as theirs: rooms put together."""

import io
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import apsw

from carrel import __version__
from carrel.agents import transcript
from carrel.agents.entries import Header as SessionHeader
from carrel.agents.entries import encode
from carrel.backup.archive import Header, Writer
from carrel.backup.names import require_link, require_path
from carrel.cli.conversion import AgentSettings, Conversion
from carrel.devices.voice import Wake
from carrel.errors import CarrelError, InvalidRequest, UnsafePath
from carrel.ids import parse_tenant_id
from carrel.imports.openclaw import File, State, tenants_of
from carrel.imports.report import Report
from carrel.imports.sessions import Session
from carrel.imports.source import Source
from carrel.memory import book as memory_book
from carrel.schedule import book as schedule_book
from carrel.skills.service import MOST, Installed, SkillBook
from carrel.skills.skill import parse as parse_skill

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def convert(directory: Path, work: Path, tenant: str | None) -> Sequence[Conversion]:
    """What of ``directory`` becomes tenants; their archives are in ``work``. See `cli.conversion.Converts`."""
    with Source(directory) as source:
        listed = tenants_of(source)
        if listed is None:
            if tenant is None:
                raise InvalidRequest(f"{directory} is of one user: --as names the tenant that it becomes.")
            return [_one(source, work, parse_tenant_id(tenant), None)]
        if tenant is not None:
            raise InvalidRequest(f"{directory} names its tenants itself: leave --as out.")
        report = Report()
        tenants = [name for name in listed if _is_there(source, name, report)]
        if not tenants:
            raise InvalidRequest(f"{directory}/tenants.json names no tenant that is there, by a name that is one here.")
        done: list[Conversion] = []
        first = Report()
        for name in tenants:
            label = listed[name].get("displayName")
            told = Report()
            try:
                with source.below(f"tenants/{name}") as own:
                    made = _one(own, work, name, str(label)[:200] if label else None, told)
            except CarrelError as error:
                # One that cannot be read keeps no other out.
                report.add("tenant", name, "refused", error.message)
                continue
            first = first if done else told
            done.append(made)
        if not done:
            raise InvalidRequest(report.items[-1].detail)
        for item in report.items:
            first.add(item.kind, item.name, item.outcome, item.detail)
        return [replace(done[0], report=first.document()), *done[1:]]


def _is_there(source: Source, name: str, report: Report) -> bool:
    """Whether there is a tenant's directory of that name; where not, ``report`` is told, and the others come."""
    try:
        found = source.look(f"tenants/{parse_tenant_id(name)}")
    except InvalidRequest as error:
        report.add("tenant", name, "refused", error.message)
        return False
    if found is None or found.kind != "directory":
        report.add("tenant", name, "left", "tenants.json names it, and it has no directory")
        return False
    return True


def _one(source: Source, work: Path, tenant: str, display_name: str | None, report: Report | None = None) -> Conversion:
    """``report`` has what is told besides, where the first tenant is."""
    state = State(source, report or Report())
    state.look()
    archive = work / f"{tenant}.tar.gz"
    with archive.open("wb") as out:
        writer = Writer(out, Header(tenant=tenant, at=_EPOCH, carrel=__version__, source="openclaw"), temporary=work)
        skills = _skills(state)
        _fill(_Tree(writer, state), state, work, skills)
        writer.close()
    names = tuple(sorted(skills))
    agents = tuple(
        AgentSettings(
            agent.id, agent.model,
            names if agent.skills is None else tuple(name for name in agent.skills if name in skills),
        )
        for agent in state.settings.agents.values()
    )  # fmt: skip
    return Conversion(tenant, archive, state.report.document(), state.settings.secrets, agents, display_name)


class _Tree:
    """Files into an archive, each in a directory that came before it, none twice, and none out of place."""

    def __init__(self, writer: Writer, state: State) -> None:
        self._writer = writer
        self._report = state.report
        self._known: set[str] = set()

    def add(self, file: File) -> None:
        """Add a file or a link, or tell why not."""
        try:
            path = require_path(file.path)
            if file.link is not None:
                require_link(path, file.link)
        except (UnsafePath, CarrelError) as error:
            self._report.add("file", file.path, "refused", error.message)
            return
        if path in self._known:
            self._report.add("file", file.path, "refused", "there is something of that name already")
            return
        above = path.split("/")[:-1]
        for depth in range(1, len(above) + 1):
            directory = "/".join(above[:depth])
            if directory not in self._known:
                self._known.add(directory)
                self._writer.directory(directory)
        self._known.add(path)
        if file.link is not None:
            self._writer.link(path, file.link)
            return
        content = file.content
        try:
            self._writer.file(path, lambda _: content() if content else (), mode=file.mode & 0o777, mtime=file.mtime)
        except CarrelError as error:
            self._report.add("file", file.path, "refused", error.message)

    def data(self, path: str, data: bytes) -> None:
        """Add a small one."""
        self.add(File(path, content=lambda: (data,)))


def _session(tree: _Tree, state: State, session: Session) -> None:
    head = SessionHeader(
        id=session.id, agent=session.agent, created=session.began, label=session.label, key=session.key
    )  # fmt: skip
    data = io.BytesIO()
    data.write(encode(head))
    problems: list[transcript.Problem] = []
    session.lines.reverse()
    # Each line is there once, as a value or encoded.
    for number in range(2, len(session.lines) + 2):
        line = json.dumps(session.lines.pop()).encode()
        problem = transcript.problem_of(number, line)
        problems += [problem] if problem is not None else []
        data.write(line + b"\n")
    if problems:
        what = "; ".join(f"line {one.line}: {one.reason}" for one in problems[:3])
        state.report.add("session", session.id, "changed", f"{len(problems)} lines cannot be read here: {what}")
    tree.data(f"sessions/{session.id}.jsonl", data.getvalue())


def _fill(tree: _Tree, state: State, work: Path, skills: dict[str, Installed]) -> None:
    for session in state.sessions():
        _session(tree, state, session)
    for file in state.files():
        tree.add(file)
    if state.jobs:
        tree.data("cron/cron.sqlite", _database(work, schedule_book.upgrade, lambda c: _put_jobs(c, state)))
    if state.notes:
        tree.data("memory/memory.sqlite", _database(work, memory_book.upgrade, lambda c: _put_notes(c, state)))
    if skills:
        book = SkillBook(skills=tuple(skills[name] for name in sorted(skills)))
        tree.data("plugins/skills.json", book.model_dump_json(indent=1).encode())
    if state.settings.channels:
        tree.data("channels/openclaw.json", json.dumps(state.settings.channels, indent=1, sort_keys=True).encode())
    if state.wake is not None:
        tree.data("devices/voicewake.json", Wake(triggers=state.wake).model_dump_json().encode())


def _skills(state: State) -> dict[str, Installed]:
    found: dict[str, Installed] = {}
    for path, text in state.skills.items():
        try:
            skill = parse_skill(text)
        except CarrelError as error:
            state.report.add("skill", path, "refused", f"{error.message} Its folder is in the workspace all the same.")
            continue
        if skill.name in found or len(found) >= MOST:
            state.report.add("skill", path, "left", f"there is one of that name, or over {MOST}")
            continue
        found[skill.name] = Installed(name=skill.name, content=text, installed=_EPOCH, updated=_EPOCH)
        state.report.add("skill", path, "taken", f"as {skill.name}" if skill.name not in path else "")
    return found


def _put_jobs(connection: apsw.Connection, state: State) -> None:
    for raw in state.jobs:
        try:
            job = schedule_book.Job.model_validate(raw)
            # Due by its own time, so that the same source gives the same archive: what is late by then is skipped.
            schedule_book.put(connection, job, now=job.updated, new=True)
        except ValueError as error:
            state.report.refuse("job", state.names[raw["id"]], str(error).split("\n")[0])
        except CarrelError as error:
            state.report.refuse("job", state.names[raw["id"]], error.message)


def _put_notes(connection: apsw.Connection, state: State) -> None:
    for note in state.notes:
        try:
            memory_book.put(
                connection, memory_book.Note(note.id, "note", note.agent, None, note.text, note.created)
            )  # fmt: skip
        except CarrelError as error:
            state.report.refuse("memory", state.names[note.id], error.message)


def _database(
    work: Path, schema: Callable[[apsw.Connection], None], fill: Callable[[apsw.Connection], None]
) -> bytes:  # fmt: skip
    with tempfile.TemporaryDirectory(dir=work) as place:
        file = Path(place) / "new.sqlite"
        connection = apsw.Connection(str(file))
        try:
            schema(connection)
            fill(connection)
        finally:
            connection.close()
        return file.read_bytes()
