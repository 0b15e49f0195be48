import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fakes.edge import Edge
from tests.fakes.patience import PATIENCE, eventually
from tests.unit.cli.conftest import CommandLine
from tests.unit.cli.test_chat import PROGRAM


async def test_made_listed_and_read_back(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("tenants", "backup", "acme", "--to", "s3://bucket/a")
    assert (done.code, done.out) == (0, "20260301T120000Z-00000001\n")
    assert "3 files, 5.0 MiB; 900 B sent, 1 name left out." in done.err
    assert (await carrel("tenants", "backup", "acme", "--json")).json()["files"] == 3
    assert (await carrel("tenants", "backups", "acme")).out.splitlines()[1].split()[0] == "20260301T120000Z-00000001"
    assert "no bucket" in (await carrel("tenants", "backups", "bravo")).err
    assert (await carrel("tenants", "backups", "acme", "--from", "s3://b-b/a", "--json")).json()["tenant"] == "acme"
    assert (await carrel("backup", "verify", "acme")).out == "The backup is whole.\n"
    assert (await carrel("backup", "collect", "acme")).out == "1 backup and 2 pieces removed, 2.0 KiB.\n"
    backups: Any = edge.services.backups
    backups.problems = ("sandbox/a: damaged",)
    done = await carrel("backup", "verify", "acme", "--backup", "x")
    assert done.code == 1
    assert "damaged" in done.err
    # The control socket is on the gateway's machine.
    assert backups.done[0] == "back up acme s3://bucket/a True"


async def test_which_of_them_stay(carrel: CommandLine, edge: Edge) -> None:
    assert (await carrel("tenants", "backup", "acme", "--keep", "last=2,daily=30")).code == 0
    assert (await carrel("backup", "collect", "acme", "--keep", "monthly=0")).code == 0
    backups: Any = edge.services.backups
    assert backups.done == ["back up acme None True keep 2 30 4 12", "collect None keep 3 7 4 0"]
    for wrong in ("last", "last=", "hourly=3", "last=1,last=2", "last=-1", "last=0", "daily=1001", ""):
        done = await carrel("tenants", "backup", "acme", "--keep", wrong)
        assert (done.code, "--keep" in done.err) == (2, True), wrong
    assert len(backups.done) == 2


async def test_brought_back_and_decided(carrel: CommandLine, edge: Edge) -> None:
    assert (await carrel("tenants", "restore", "acme", "--dry-run")).out.startswith("Would bring back 3 files")
    done = await carrel("tenants", "restore", "acme", "--tenant", "bravo", "--from", "s3://bucket/a")
    assert done.out.startswith("Brought back 3 files, 5.0 MiB, 2 sessions")
    for word in ("KEY", "Tokens stay with bravo", "--confirm", ": 1 name."):
        assert word in done.err
    assert (await carrel("tenants", "restore", "acme", "--session", "s_1", "--json")).json()["sessions"] == 2
    assert "is gone" in (await carrel("tenants", "restore", "acme", "--confirm")).err
    assert (await carrel("tenants", "restore", "acme", "--undo", "--json")).json()["decision"] == "undo"
    backups: Any = edge.services.backups
    assert backups.done[-2:] == ["confirm", "undo"]


async def test_an_interrupt_stops_it_at_the_gateway_too(edge: Edge, tmp_path: Path) -> None:
    kept: Any = edge.services.backups
    kept.waits = asyncio.Event()
    process = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", PROGRAM, "tenants", "backup", "acme"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "CARREL_STATE_DIR": str(tmp_path)},
    )  # fmt: skip
    await eventually(lambda: kept.done == ["back up acme None True"])
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.to_thread(process.communicate, timeout=PATIENCE)
    kept.waits.set()
    assert process.returncode == 130
    assert "It is stopped." in err
    assert kept.done == ["back up acme None True", "stop acme"]


async def test_an_option_is_called_as_it_is_written(carrel: CommandLine) -> None:
    done = await carrel("tenants", "restore", "acme", "--tenant", "../x")
    assert (done.code, "--tenant takes a name" in done.err) == (2, True)


async def test_what_the_store_lost_is_told(carrel: CommandLine, edge: Edge) -> None:
    kept: Any = edge.services.backups
    kept.view = kept.view.model_copy(update={"lost": ("sandbox/a",)})
    told = (await carrel("tenants", "backups", "acme")).err
    assert "lost content" in told
    assert f"--backup {kept.view.id} --skip-damaged" in told
    done = await carrel("tenants", "restore", "acme", "--skip-damaged")
    assert kept.done == ["restore None None False True skipping"]
    assert "left out: sandbox/0, " in done.err
    assert "and 2 more." in done.err


async def test_what_does_not_go_together(carrel: CommandLine) -> None:
    for words in (("--confirm", "--undo"), ("--confirm", "--dry-run"), ("--undo", "--backup", "x"), ("--replace",),
                  ("--as-session", "s_2"), ("--skip-damaged", "--session", "s_1"),
                  ("--undo", "--skip-damaged")):  # fmt: skip
        assert (await carrel("tenants", "restore", "acme", *words)).code == 2, words


async def test_what_is_damaged_is_loud(carrel: CommandLine, edge: Edge) -> None:
    kept: Any = edge.services.backups
    kept.view = kept.view.model_copy(update={"damaged": ("usage/ledger.sqlite",)})
    for words in (("tenants", "backup", "acme"), ("backup", "all")):
        done = await carrel(*words)
        assert done.code == 1
        assert "is made, and these files of acme are damaged: usage/ledger.sqlite." in done.err
    assert (await carrel("tenants", "backup", "acme", "--json")).code == 1
    assert "are damaged: usage/ledger.sqlite." in (await carrel("tenants", "backups", "acme")).err
