"""What of the state directory `carrel doctor` looks at: where it lies, whose it is, its backups, record and ledgers.

It reads and never writes, so that nothing in there is another user's afterwards.
"""

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from carrel.cli.findings import Finding, some
from carrel.declare.gateway import Gateway
from carrel.declare.load import Tree
from carrel.errors import CarrelError

_VOLATILE: Final = frozenset({"tmpfs", "ramfs"})
_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "fuse.sshfs", "fuse.s3fs", "fuse.rclone"}
)
_HEAD: Final = b"SQLite format 3\0"
_MOST_RECORD: Final = 64 << 20
_MOST_LEDGER: Final = 64 << 20
_MOST_LEDGERS: Final = 50


def file_system(path: Path, mounts: str) -> Iterator[Finding]:
    """Whether what is written to ``path`` stays, by ``mounts``, which is `/proc/self/mountinfo`."""
    kind = _kind(path, mounts)
    move = "Move it to a disk of this machine, and name it with --state-dir (or services.carrel.stateDir)."
    if kind in _VOLATILE:
        text = f"{path} is in memory ({kind}): all of it is gone at the next start of the machine."
        yield Finding("state", "warning", text, move)
    elif kind in _NETWORK:
        text = f"{path} is on a network's file system ({kind}), where SQLite's locks and syncs cannot be trusted."
        yield Finding("state", "fault", text, move)


def _kind(path: Path, mounts: str) -> str:
    real, best, kind = str(path.resolve()), -1, ""
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        try:
            point = fields.split(" ")[4].encode("ascii", "backslashreplace").decode("unicode_escape")
        except (IndexError, UnicodeDecodeError):
            continue
        beneath = point in ("/", real) or real.startswith(f"{point}/")
        if beneath and len(point) >= best:
            best, kind = len(point), rest.split(" ")[0]
    return kind


def owners(path: Path) -> Iterator[Finding]:
    """Which things in the state directory are not its owner's."""
    try:
        owner = path.stat().st_uid
        inside = [*path.iterdir(), *(path / "audit").glob("*"), *(path / "tenants").glob("*")]
        others = sorted(str(one) for one in inside if one.lstat().st_uid != owner)
    except OSError:
        return
    if others:
        text = f"{some(others)} belong{'s' * (len(others) == 1)} to another user than {path}."
        yield Finding("state", "fault", text, f"Stop the gateway, then: chown -R --from=0 {owner} {path}")


def backed_up(state: Path, gateway: Gateway, tree: Tree, now: datetime) -> Iterator[Finding]:
    """Whether the backups that are wanted were made, and ever read back."""
    every, verify = gateway.backup.every_seconds, gateway.backup.verify_every_seconds
    if gateway.backup.to is None or not os.access(state / "tenants", os.R_OK | os.X_OK):
        return
    old: list[str] = []
    failed: dict[str, str] = {}
    unread: list[str] = []
    for tenant, judged in tree.tenants.items():
        config = judged.config
        if not (state / "tenants" / tenant).is_dir() or (config is not None and not config.backup.enabled):
            continue
        note = _note(state / "tenants" / tenant / "backups.json")
        own = (config.backup.every_seconds if config is not None else None) or every
        last, verified = _moment(note.get("last")), _moment(note.get("verified"))
        if own is not None and (last is None or (now - last).total_seconds() > 2 * own):
            old.append(tenant)
        if isinstance(note.get("failed"), str):
            failed[tenant] = str(note["failed"])
        if last is not None and (verified is None or (verify and (now - verified).total_seconds() > 2 * verify)):
            unread.append(tenant)
    if old:
        text = f"The last backup of {some(old)} is older than twice what `every_seconds` says, or there is none."
        yield Finding("backups", "fault", text, "carrel backup all")
    if failed:
        name, why = next(iter(sorted(failed.items())))
        yield Finding("backups", "fault", f"The last try of {some(sorted(failed))} failed; {name}: {why}",
                      f"Mend that, then: carrel tenants backup {name}")  # fmt: skip
    if unread:
        text = f"The newest backup of {some(unread)} was not read back, or too long ago."
        yield Finding("backups", "warning", text, f"carrel backup verify {min(unread)}, or `verify_every_seconds`.")


def _note(path: Path) -> Mapping[str, object]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            found = json.loads(file.read(64 << 10))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _moment(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value).astimezone(UTC) if isinstance(value, str) else None
    except ValueError:
        return None


def record(state: Path) -> Iterator[Finding]:
    """Whether the audit log's chain and its signed ends are whole."""
    from carrel.cli.audit import look  # noqa: PLC0415 - it brings a library of signatures

    path = state / "audit"
    if not path.is_dir() or not os.access(path, os.R_OK | os.X_OK):
        return
    size = sum(file.stat().st_size for file in path.glob("*.jsonl"))
    if size > _MOST_RECORD:
        yield Finding("record", "ok", f"It is {size >> 20} MiB long: `carrel audit verify` walks it.")
        return
    try:
        found, _ = look(path, (state / "audit-signing-key.pub",), (state / "audit-mark.json",), part=False)
    except CarrelError as error:
        yield Finding("record", "fault", error.message, "carrel audit verify says more.")
        return
    if found:
        text = f"It is not whole: {found[0]}{f', and {len(found) - 1} more' if len(found) > 1 else ''}."
        yield Finding(
            "record", "fault", text, "carrel audit verify shows all of it; a copy kept elsewhere has what was there."
        )
    else:
        yield Finding("record", "ok", "Its chain and its ends are whole.")


def ledgers(state: Path, *, serves: bool) -> Iterator[Finding]:
    """Whether tenants' ledgers are databases that are whole. Copies are looked at, and only where nobody writes."""
    found = sorted((state / "tenants").glob("*/usage/ledger.sqlite"), key=lambda file: file.name)
    if not found or not os.access(state / "tenants", os.R_OK | os.X_OK):
        return
    broken: dict[str, str] = {}
    for number, file in enumerate(found):
        try:
            problem = _head(file)
            if problem is None and not serves and number < _MOST_LEDGERS:
                problem = _checked(file)
        except OSError as error:
            problem = error.strerror or "it cannot be read"
        if problem is not None:
            broken[file.parents[1].name] = problem
    if broken:
        name, why = next(iter(sorted(broken.items())))
        text = f"That of {some(sorted(broken))} is damaged; {name}: {why}."
        mend = (
            f"Keep a copy, then: carrel tenants restore {name}. What it did not take waits in metering/waiting and is "
            "entered then; what else is lost is in the provider's own records."
        )
        yield Finding("ledger", "fault", text, mend)
    else:
        yield Finding("ledger", "ok", f"{len(found)} of them: databases that are whole, as far as was looked.")


def _head(file: Path) -> str | None:
    with file.open("rb") as opened:
        head = opened.read(len(_HEAD))
    return None if head in (b"", _HEAD) else "it is no SQLite database any more"


def _checked(file: Path) -> str | None:
    if file.stat().st_size > _MOST_LEDGER:
        return None
    with tempfile.TemporaryDirectory(prefix="carrel-doctor-") as directory:
        for name in (file.name, f"{file.name}-wal"):
            if file.with_name(name).exists():
                shutil.copyfile(file.with_name(name), Path(directory) / name)
        try:
            with closing(sqlite3.connect(Path(directory) / file.name)) as database:
                said = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
        except sqlite3.DatabaseError as error:
            return str(error)
    return None if said == "ok" else said.splitlines()[0]
