"""All tenants brought back at a start, from two S3 servers that are not ours and a fake of Google's, through faults."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest

from carrel.backup.boot import Brought, bring_all, not_declared
from carrel.backup.progress import Progress
from carrel.backup.reader import verify
from carrel.backup.repository import Repository
from carrel.backup.run import back_up
from carrel.errors import StorageFull
from carrel.ids import TenantId
from carrel.objects.location import parse_location
from carrel.objects.pace import Pace
from carrel.objects.retry import Patience, PatientStore
from carrel.objects.s3 import S3Store
from tests.fakes.backups import KEYS, full_tenant, means, rows_of, subject, tree
from tests.fakes.gcs_server import GoogleStorage
from tests.fakes.gcs_server import options as google_options
from tests.fakes.s3_servers import (
    BUCKET,
    FaultyProxy,
    answer_lost,
    cut_after,
    flipped,
    options,
    rclone,
    seaweed,
    status,
    truncated,
)

ACME, ZETA, BETA = TenantId("acme"), TenantId("zeta"), TenantId("beta")
Server = Callable[[Path], AbstractContextManager[str]]


def bring(place: Path, work: Path, **changes: object) -> dict[str, str]:
    usual = {"when": "empty", "dry_run": False, "carry_over": lambda *_: None, "noted": lambda *_: nullcontext()}
    given = {**usual, **changes}
    told: list[Brought] = []
    done = bring_all(place, [ACME, BETA, ZETA], means(work), told=told.append, **given)  # type: ignore[arg-type] # literals
    assert sorted(told, key=lambda one: one.tenant) == done
    return {one.tenant: one.outcome for one in done}


def test_who_has_nothing_is_brought_back_and_nobody_else(tmp_path: Path) -> None:
    for name in ("acme", "zeta", "other"):
        tenant = full_tenant(tmp_path, name, large=0)
        back_up(subject(tenant), means(tmp_path), Progress())
        tenant.root.close()
    new = tmp_path / "new"
    (new / "zeta").mkdir(parents=True)
    (new / "zeta/config.yaml").write_text("mine")
    assert bring(new, tmp_path, dry_run=True) == {"acme": "would restore", "beta": "none", "zeta": "kept"}
    assert not (new / "acme").exists()
    assert bring(new, tmp_path) == {"acme": "restored", "beta": "none", "zeta": "kept"}
    assert (new / "zeta/config.yaml").read_text() == "mine"
    assert bring(new, tmp_path) == {"acme": "kept", "beta": "none", "zeta": "kept"}
    assert bring(new, tmp_path, when="always")["zeta"] == "restored"
    assert (new / ".zeta.before/config.yaml").read_text() == "mine"
    for folder in ("archives", "Not a name of ours"):
        (tmp_path / "store" / folder).mkdir()
        (tmp_path / "store" / folder / "acme.tar.gz").write_bytes(b"carried elsewhere")
    assert not_declared(means(tmp_path), [ACME, ZETA]) == ["other"]
    # A tenant whose backup is damaged is that tenant's affair.
    for path in (tmp_path / "store/acme/pieces").rglob("*"):
        if path.is_file():
            path.write_bytes(b"x")
    assert bring(tmp_path / "third", tmp_path) == {"acme": "failed", "beta": "none", "zeta": "restored"}


def test_what_is_not_whole_in_the_store_is_left_out_where_that_is_wanted(tmp_path: Path) -> None:
    tenant = full_tenant(tmp_path)
    work = means(tmp_path)
    info = back_up(subject(tenant), work, Progress())
    tenant.root.close()
    repository = Repository.at(work.store, ACME, KEYS)
    [large] = [one for one in repository.entries(repository.manifest(info.id)) if one.path == "sandbox/data.bin"]
    name = large.parts[0].piece
    (tmp_path / f"store/acme/pieces/{name[:2]}/{name}").write_bytes(b"x")
    assert bring(tmp_path / "new", tmp_path)["acme"] == "failed"
    assert not (tmp_path / "new/acme").exists()
    told: list[Brought] = []
    assert bring(tmp_path / "new", tmp_path, skip_damaged=True)["acme"] == "restored"
    bring_all(
        tmp_path / "third", [ACME], work, when="empty", dry_run=False, told=told.append, carry_over=lambda *_: None,
        noted=lambda *_: nullcontext(), skip_damaged=True,
    )  # fmt: skip
    assert [one.lost for one in told] == [("sandbox/data.bin",)]
    assert told[0].files == info.files - 1
    assert (tmp_path / "new/acme/sandbox/main.py").is_file()
    assert not (tmp_path / "new/acme/sandbox/data.bin").exists()


@contextmanager
def google(_: Path) -> Iterator[str]:
    """A fake of Google's, by its documentation."""
    with GoogleStorage() as server:
        yield server.url


@pytest.mark.parametrize("server", [seaweed, rclone, google])
def test_through_faults_it_comes_back_byte_by_byte(server: Server, tmp_path: Path) -> None:
    tenant = full_tenant(tmp_path)
    with server(tmp_path / "server") as url, FaultyProxy(url) as proxy:
        reached = google_options(proxy.url) if server is google else options(proxy.url, conditional=server is seaweed)
        inner = S3Store(parse_location(f"s3://{BUCKET}/carrel"), reached)
        work = means(tmp_path, store=PatientStore(inner, pace=Pace(), patience=Patience(first=0.01, most=0.05)))
        proxy.before += status(500) + status(503, says="SlowDown", method="PUT", name="/pieces/")
        proxy.before += status(400, says="RequestTimeout", method="PUT") + status(500, method="GET", name="/head")
        proxy.after += [answer_lost(method="PUT", name="/head"), answer_lost(method="PUT", name="/pieces/")]
        proxy.before += [flipped(name="/pieces/", upwards=True)]
        info = back_up(subject(tenant), work, Progress())
        assert (proxy.before, proxy.after) == ([], [])
        assert len(Repository.at(work.store, ACME, KEYS).head()[0].backups) == 1
        proxy.after += [cut_after(10, name="/pieces/"), truncated(50, name="/pieces/"), flipped(name="/pieces/")]
        proxy.before += status(503, method="GET", name="/pieces/")
        assert verify(Repository.at(work.store, ACME, KEYS), info.id, Progress()) == []
        proxy.after += [cut_after(10, name="/pieces/"), flipped(name="/pieces/"), truncated(0, name="/manifests/")]
        done = bring_all(
            tmp_path / "new",
            [ACME, BETA],
            work,
            when="empty",
            dry_run=False,
            told=lambda _: None,
            carry_over=lambda *_: None,
            noted=lambda *_: nullcontext(),
        )
        assert [one.outcome for one in done] == ["restored", "none"]
        assert not_declared(work, []) == ["acme"]
        work.store.close()
    before, after = tree(tmp_path / "tenants/acme"), tree(tmp_path / "new/acme")
    assert {path for path in after if after[path] != before[path]} <= {"sessions/s_1.jsonl", "usage/ledger.sqlite"}
    assert rows_of(tmp_path / "new/acme/usage/ledger.sqlite") == rows_of(tmp_path / "tenants/acme/usage/ledger.sqlite")
    tenant.root.close()


def test_what_cannot_be_noted_is_not_restored(tmp_path: Path) -> None:
    tenant = full_tenant(tmp_path, large=0)
    back_up(subject(tenant), means(tmp_path), Progress())
    tenant.root.close()
    noted: list[tuple[str, str]] = []

    def refused(tenant: TenantId, backup: str) -> AbstractContextManager[None]:
        noted.append((tenant, backup))
        raise StorageFull("The disk is full.")

    new = tmp_path / "new"
    assert bring(new, tmp_path, noted=refused)["acme"] == "failed"
    assert [tenant for tenant, _ in noted] == ["acme"]
    assert list(new.iterdir()) == []
    assert bring(new, tmp_path)["acme"] == "restored"
