"""What the doctor finds in a state directory; each fault is made for real."""

import asyncio
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carrel.audit.log import Audit
from carrel.cli import keepings
from carrel.cli.findings import Finding
from carrel.clock import SystemClock
from carrel.declare.load import load_tree

NOW = datetime(2026, 3, 10, tzinfo=UTC)
MOUNTS = (
    "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
    "30 22 0:5 / /srv rw - nfs4 host:/srv rw\n"
    "31 30 254:1 / /srv/carrel\\040one rw - xfs /dev/vdb rw\n"
    "32 22 0:9 / /run rw - tmpfs tmpfs rw\n"
)


@pytest.mark.parametrize(
    ("path", "state"),
    [("/var/lib/carrel", None), ("/srv/state", "fault"), ("/srv/carrel one/state", None), ("/run/state", "warning")],
)
def test_a_state_directory_in_memory_or_on_a_network(path: str, state: str | None) -> None:
    assert [one.state for one in keepings.file_system(Path(path), MOUNTS)] == ([] if state is None else [state])


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no file system in memory is here")
def test_a_real_one_in_memory() -> None:
    (found,) = keepings.file_system(Path("/dev/shm/state"), Path("/proc/self/mountinfo").read_text())
    assert (found.state, "in memory" in found.text) == ("warning", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_somebody_else_has_written(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "tenants" / "acme" / "sandbox").mkdir(parents=True)
    os.chown(tmp_path / "tenants" / "acme" / "sandbox", 60999, 60999)
    assert list(keepings.owners(tmp_path)) == [], "a tenant's workspace may be another uid's"
    os.chown(tmp_path / "run", 60999, 60999)
    (found,) = keepings.owners(tmp_path)
    assert (found.state, str(tmp_path / "run") in found.text) == ("fault", True)
    assert list(keepings.owners(tmp_path / "none")) == []


def backups(state: Path, note: str | None) -> list[Finding]:
    declared = state / "tenants.d"
    declared.mkdir(exist_ok=True)
    (declared / "_gateway.yaml").write_text(
        "providers: {demo: {kind: demo}}\nmodels: {demo: {provider: demo}}\ndefault_model: demo\n"
        "backup: {to: file:///backups, every_seconds: 86400, verify_every_seconds: 604800}\n"
    )
    (declared / "_rate-card.yaml").write_text("models: {demo: {input: 1, output: 2}}\n")
    (declared / "acme.yaml").write_text("{}\n")
    (declared / "off.yaml").write_text("backup: {enabled: false}\n")
    for tenant in ("acme", "off"):
        (state / "tenants" / tenant).mkdir(parents=True, exist_ok=True)
    if note is not None:
        (state / "tenants" / "acme" / "backups.json").write_text(note)
    tree = load_tree(declared)
    assert tree.operators is not None, tree.errors
    return list(keepings.backed_up(state, tree.operators.gateway, tree, NOW))


def test_backups_that_are_too_old_failed_or_were_never_read_back(tmp_path: Path) -> None:
    (none,) = backups(tmp_path, None)
    assert (none.state, "acme" in none.text, none.mend) == ("fault", True, "carrel backup all")
    fresh = (NOW - timedelta(hours=3)).isoformat()
    (unread,) = backups(tmp_path, f'{{"last": "{fresh}"}}')
    assert (unread.state, "read back" in unread.text) == ("warning", True)
    assert backups(tmp_path, f'{{"last": "{fresh}", "verified": "{fresh}"}}') == []
    old = (NOW - timedelta(days=30)).isoformat()
    found = backups(tmp_path, f'{{"last": "{old}", "verified": "{old}", "failed": "no room"}}')
    assert [one.state for one in found] == ["fault", "fault", "warning"]
    assert "acme: no room" in found[1].text
    (tmp_path / "tenants" / "acme" / "backups.json").unlink()
    (tmp_path / "tenants" / "acme" / "backups.json").symlink_to("/etc/passwd")
    assert [one.state for one in backups(tmp_path, None)] == ["fault"], "no link is followed"


def test_a_record_that_somebody_changed(tmp_path: Path) -> None:
    async def write() -> None:
        log = Audit(state_dir=tmp_path, clock=SystemClock())
        await log.start()
        for number in range(3):
            await log.record(actor="ops", action="x.y", target=str(number), request_id="r", outcome="ok")

    asyncio.run(write())
    (found,) = keepings.record(tmp_path)
    assert found.state == "ok", found.text
    (day,) = (tmp_path / "audit").glob("*-*.jsonl")
    day.write_text(day.read_text().replace('"target":"1"', '"target":"9"'))
    (found,) = keepings.record(tmp_path)
    assert (found.state, "not whole" in found.text) == ("fault", True)
    assert list(keepings.record(tmp_path / "none")) == []


def test_a_ledger_that_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "tenants" / "acme" / "usage" / "ledger.sqlite"
    file.parent.mkdir(parents=True)
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE t (x TEXT)")
        database.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 200)
        database.commit()
    (found,) = keepings.ledgers(tmp_path, serves=False)
    assert found.state == "ok", found.text
    whole = file.read_bytes()
    file.write_bytes(whole[:8192] + b"\xff" * 4096 + whole[12288:])
    (found,) = keepings.ledgers(tmp_path, serves=False)
    assert (found.state, "acme" in found.text) == ("fault", True)
    (found,) = keepings.ledgers(tmp_path, serves=True)
    assert found.state == "ok", "what a gateway writes meanwhile is not judged"
    file.write_bytes(b"not a database, " * 100)
    (found,) = keepings.ledgers(tmp_path, serves=True)
    assert (found.state, "no SQLite database" in found.text) == ("fault", True)
    assert sorted(one.name for one in file.parent.iterdir()) == ["ledger.sqlite"], "nothing is left there"
