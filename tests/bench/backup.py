"""What may be lost and how long all are gone: a round of backups and a restore of 1, 100 and 1,000 tenants, over S3.

``python -m tests.bench.backup [COUNT…]``. The store is `rclone serve s3` on loopback, so what is measured is the work
of this side; a store further away adds its round trips, about ten for each tenant. The schedule's two at a time is
used for backups, four at a time for restores, as the gateway has them.
"""

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw

from carrel.backup.boot import bring_all
from carrel.backup.catalogue import Origin
from carrel.backup.progress import Progress
from carrel.backup.run import Means, Subject, back_up
from carrel.clock import SystemClock
from carrel.ids import TenantId
from carrel.main.carry_over import carry_over
from carrel.objects.location import parse_location
from carrel.objects.open import open_store
from carrel.objects.pace import Pace
from carrel.tenancy.paths import TenantRoot
from carrel.vault.keys import MasterKeys
from tests.fakes.s3_servers import BUCKET, options, rclone

KEYS = MasterKeys({1: b"1" * 32}, source="bench")
ORIGIN = Origin(host="bench", carrel="0", revision="", declared="")


def fill(top: Path) -> int:
    """A tenant of about 0.6 MiB: transcripts, a ledger, a workspace."""
    for path in ("sessions", "usage", "sandbox/src"):
        (top / path).mkdir(parents=True)
    for number in range(5):
        (top / f"sessions/s_{number}.jsonl").write_text(f'{{"line":"{top.name} {number} words of it"}}\n' * 1000)
    for number in range(40):
        (top / f"sandbox/src/file-{number}.py").write_text(f"# {top.name} {number}\n" + "x = 1\n" * 800)
    ledger = apsw.Connection(str(top / "usage/ledger.sqlite"))
    ledger.pragma("synchronous", "off")
    ledger.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT)")
    with ledger:
        ledger.executemany("INSERT INTO rows (text) VALUES (?)", [(f"{top.name} {n}" * 5,) for n in range(500)])
    ledger.close()
    return sum(path.stat().st_size for path in top.rglob("*") if path.is_file())


def round_of(home: Path, tenants: list[TenantId], means: Means) -> float:
    """Seconds for a backup of each."""

    def one(tenant: TenantId) -> None:
        root = TenantRoot.open(home / tenant)
        try:
            back_up(Subject(tenant, root.fd, root.owner, ORIGIN), means, Progress())
        finally:
            root.close()

    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, tenants))
    return time.monotonic() - began


def measure(count: int) -> None:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as name, rclone(Path(name) / "s3") as url:
        place = Path(name)
        home = place / "tenants"
        tenants = [TenantId(f"t{number:04d}") for number in range(count)]
        size = sum(fill(home / tenant) for tenant in tenants)
        store = open_store(parse_location(f"s3://{BUCKET}/bench"), options(url, conditional=False))
        means = Means(store, KEYS, SystemClock(), Pace(), place / "scratch")
        first = round_of(home, tenants, means)
        for tenant in tenants:
            with (home / tenant / "sessions/s_0.jsonl").open("a") as file:
                file.write('{"line":"one more"}\n')
        again = round_of(home, tenants, means)
        began = time.monotonic()
        done = bring_all(
            place / "new",
            tenants,
            means,
            when="empty",
            dry_run=False,
            told=lambda _: None,
            carry_over=carry_over,
            noted=lambda tenant, backup: None,
        )
        back = time.monotonic() - began
        assert all(one.outcome == "restored" for one in done), done
        store.close()
        sys.stdout.write(f"| {count:,} | {size / 2**20:.0f} MiB | {first:.1f} s | {again:.1f} s | {back:.1f} s |\n")
        sys.stdout.flush()


def main(counts: list[int]) -> None:
    """The table."""
    sys.stdout.write(
        "| tenants | size | first round | a round after one line each | all back |\n|---|---|---|---|---|\n"
    )
    for count in counts:
        measure(count)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [1, 100, 1000])
