"""What may be lost and how long all are gone: a round of backups, and a machine that begins with nothing, over S3.

``python -m tests.bench.backup [COUNT…]``, by default 1, 100 and 1,000 tenants. The store is `rclone serve s3` on
loopback, so what is measured is the work of this side; a store further away adds its round trips, about ten for each
tenant. The schedule's two at a time is used for backups. What is gone comes back as an operator has it: `carrel
restore`, then `carrel gateway`, until the last tenant's old session answers to its old token.
"""

import base64
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import apsw

from carrel.backup.catalogue import Origin
from carrel.backup.progress import Progress
from carrel.backup.run import Means, Subject, back_up
from carrel.clock import SystemClock
from carrel.ids import TenantId
from carrel.objects.location import parse_location
from carrel.objects.open import open_store
from carrel.objects.pace import Pace
from carrel.tenancy.paths import TenantRoot
from carrel.tenancy.tokens import TokenStore
from carrel.vault.keys import MasterKeys
from tests.fakes.gateway_process import CARREL, GatewayProcess
from tests.fakes.s3_servers import ACCESS, BUCKET, SECRET, options, rclone
from tests.fakes.tenants import make_tenant

MASTER: Final = b"1" * 32
KEYS = MasterKeys({1: MASTER}, source="bench")
SAID: Final = "what was said before"
ENV: Final = {"CARREL_SECRET_BACKUP_ACCESS": ACCESS, "CARREL_SECRET_BACKUP_SECRET": SECRET}
OPERATOR: Final = """backup:
  to: s3://{bucket}/bench
  endpoint: {url}
  access_key: {{secret: BACKUP_ACCESS}}
  secret_key: {{secret: BACKUP_SECRET}}
  conditional_writes: false
"""
ORIGIN = Origin(host="bench", carrel="0", revision="", declared="")


def conversation(place: Path) -> Path:
    """A tenant's sessions of which one had something said in it, and whose transcripts are of some length."""
    gateway = GatewayProcess(home=place / "model").prepare().start()
    try:
        gateway.rpc("sessions.create", {"sessionId": "s_old"})
        for _ in range(20):
            told = gateway.rpc("sessions.send", {"sessionId": "s_old", "message": f"{SAID} {'and more ' * 200}"})
            assert "text" in told, told
    finally:
        gateway.stop()
    return gateway.state_dir / "tenants/demo/sessions"


def fill(top: Path, sessions: Path) -> int:
    """A tenant of about half a MiB: transcripts, a ledger, a workspace."""
    for path in ("usage", "sandbox/src"):
        (top / path).mkdir(parents=True)
    shutil.copytree(sessions, top / "sessions")
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


def gone(place: Path, tenants: list[TenantId], url: str, tokens: dict[TenantId, str]) -> tuple[float, float]:
    """Seconds until all are back on an empty machine, and from there until the last one's old session answers."""
    new = GatewayProcess(home=place / "new", env=dict(ENV)).prepare()
    for file in new.tenants_dir.glob("[a-z]*.yaml"):
        file.unlink()
    for tenant in tenants:
        (new.tenants_dir / f"{tenant}.yaml").write_text("plan: starter\n")
    operator = new.tenants_dir / "_gateway.yaml"
    operator.write_text(operator.read_text() + OPERATOR.format(bucket=BUCKET, url=url))
    secrets = place / "secrets"
    secrets.mkdir(mode=0o700)
    (secrets / "carrel-master-key").write_text(f"1 {base64.b64encode(MASTER).decode()}\n")
    (secrets / "carrel-master-key").chmod(0o600)
    new.args = ("--secrets-dir", str(secrets))
    words = ("restore", "--tenants-dir", str(new.tenants_dir), "--state-dir", str(new.state_dir), *new.args)
    began = time.monotonic()
    subprocess.run([str(CARREL), *words], check=True, capture_output=True, env={**os.environ, **ENV})
    back = time.monotonic()
    try:
        new.start(wait=600)
        for tenant in (tenants[0], tenants[-1]):
            told = new.rpc("sessions.preview", {"keys": ["s_old"]}, token=tokens[tenant])
            assert SAID in str(told), (tenant, told)
        return back - began, time.monotonic() - back
    finally:
        new.stop()


def measure(count: int) -> None:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as name, rclone(Path(name) / "s3") as url:
        place = Path(name)
        place.chmod(0o755)
        home = place / "tenants"
        tenants = [TenantId(f"t{number:04d}") for number in range(count)]
        sessions = conversation(place)
        size = sum(fill(home / tenant, sessions) for tenant in tenants)
        store = TokenStore(state_dir=place, clock=SystemClock())
        tokens = {tenant: issued(store, place, tenant) for tenant in tenants}
        objects = open_store(parse_location(f"s3://{BUCKET}/bench"), options(url, conditional=False))
        means = Means(objects, KEYS, SystemClock(), Pace(), place / "scratch")
        first = round_of(home, tenants, means)
        for tenant in tenants:
            with (home / tenant / "sandbox/src/file-0.py").open("a") as file:
                file.write("y = 2\n")
        again = round_of(home, tenants, means)
        objects.close()
        back, answers = gone(place, tenants, url, tokens)
        sys.stdout.write(
            f"| {count:,} | {size / 2**20:.0f} MiB | {first:.1f} s | {again:.1f} s | {back:.1f} s | {answers:.1f} s | "
            f"{back + answers:.1f} s |\n"
        )
        sys.stdout.flush()


def issued(store: TokenStore, state: Path, tenant: TenantId) -> str:
    """A token of a tenant's."""
    handle = make_tenant(state, tenant)
    try:
        return store.issue(handle)[0]
    finally:
        handle.root.close()


def main(counts: list[int]) -> None:
    """The table."""
    sys.stdout.write(
        "| tenants | size | first round | a round after one line each | all back | the old session answers | in all |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    for count in counts:
        measure(count)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [1, 100, 1000])
