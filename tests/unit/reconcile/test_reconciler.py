import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from carrel.clock import SystemClock
from carrel.declare.directory import DirectoryUnreadable
from carrel.errors import Conflict, NotFound
from carrel.ids import RequestId, TenantId
from carrel.reconcile.reconciler import Reconciler
from carrel.reconcile.status import Applied
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Tenant
from carrel.wire.control import Actor
from tests.fakes.declarations import declare
from tests.fakes.patience import eventually

ACME = TenantId("acme")


class Environments:
    def __init__(self) -> None:
        self.requested: list[frozenset[str]] = []
        self.retried: list[frozenset[str] | None] = []

    def request(self, packages: frozenset[str]) -> None:
        self.requested.append(packages)

    def retry(self, packages: frozenset[str] | None = None) -> None:
        self.retried.append(packages)


class House:
    """A reconciler at work."""

    def __init__(self, home: Path, **tenants: str) -> None:
        self.path = declare(home / "tenants.d", **tenants)
        self.directory, self.tasks = Directory(), Tasks("test")
        self.environments, self.applied = Environments(), list[Applied]()
        self.reconciler = Reconciler(
            tenants_dir=self.path, state_dir=home / "state", directory=self.directory, clock=SystemClock(),
            tasks=self.tasks, on_change=[self.hear], environments=self.environments, poll_seconds=0.2,
        )  # fmt: skip

    async def hear(self, applied: Applied) -> None:
        self.applied.append(applied)

    def tenant(self, name: str = "acme") -> Tenant:
        return self.directory.current.tenant(TenantId(name))

    async def start(self) -> "House":
        await self.reconciler.load()
        self.tasks.start(self.reconciler.watch(), name="watch")
        return self

    async def close(self) -> None:
        await self.tasks.close()
        await self.reconciler.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path, acme="display_name: Acme\npackages: [jq]\n", other="")
    yield await made.start()
    await made.close()


async def test_edits_take_effect(house: House) -> None:
    (house.path / "acme.yaml").write_text("display_name: Edited\n")
    await eventually(lambda: house.tenant().config.display_name == "Edited")
    (house.path / "new.yaml").write_text("display_name: New\n")
    await eventually(lambda: "new" in house.directory.current.tenants)
    (house.path / "new.yaml").unlink()
    await eventually(lambda: house.tenant("new").removed)


async def test_an_editors_save_by_renaming_takes_effect_and_never_suspends(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carrel.reconcile.halfway.QUIET_SECONDS", 60.0)  # a busy machine may pause between two renames
    for turn in range(20):
        file, aside = house.path / "acme.yaml", house.path / "acme.yaml~"
        file.rename(aside)
        await asyncio.sleep(0.005)
        temporary = house.path / ".acme.yaml.tmp"
        temporary.write_text(f"display_name: Turn {turn}\n")
        temporary.replace(file)
        aside.unlink()
    await eventually(lambda: house.tenant().config.display_name == "Turn 19")
    assert not any(applied.snapshot.tenant(ACME).suspended for applied in house.applied)


async def test_a_torn_write_is_not_taken_in(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrel.reconcile.halfway.QUIET_SECONDS", 60.0)  # a busy machine may pause between two parts
    text = b"display_name: Acme\nsuspended: false\npackages: [jq]\nplan: starter\n"
    (house.path / "acme.yaml").write_bytes(text)
    await eventually(lambda: house.tenant().config.plan == "starter")
    seen = len(house.applied)
    with (house.path / "acme.yaml").open("wb", buffering=0) as file:
        for part in (text[:20], text[20:40], text[40:]):
            await asyncio.sleep(0.03)
            file.write(part)
    (house.path / "other.yaml").write_text("display_name: Done\n")
    await eventually(lambda: house.tenant("other").config.display_name == "Done")
    assert all(applied.snapshot.tenant(ACME).config.plan == "starter" for applied in house.applied[seen:])


async def test_rapid_writes_end_in_the_last(house: House) -> None:
    for turn in range(50):
        (house.path / "acme.yaml").write_text(f"display_name: Turn {turn}\n")
        await asyncio.sleep(0)
    await eventually(lambda: house.tenant().config.display_name == "Turn 49")


async def test_a_broken_file_touches_its_tenant_alone(house: House) -> None:
    (house.path / "acme.yaml").write_text("display_name: [\n")
    await eventually(lambda: house.tenant().problem)
    status = await house.reconciler.status()
    assert {tenant.id: tenant.state for tenant in status.tenants} == {"acme": "Stalled", "other": "Ready"}
    _, briefs = await house.reconciler.briefly()
    assert [(b.id, b.state, b.message) for b in briefs] == [(t.id, t.state, t.message) for t in status.tenants]
    assert house.tenant().config.display_name == "Acme"
    (house.path / "acme.yaml").write_text("display_name: Mended\n")
    await eventually(lambda: house.tenant().config.display_name == "Mended")


async def test_a_directory_that_is_away_changes_nothing(house: House) -> None:
    away = house.path.with_name("away")
    house.path.rename(away)
    with pytest.raises(DirectoryUnreadable):
        await house.reconciler.reconcile_now()
    status = await house.reconciler.status()
    assert status.state == "Stalled"
    assert not house.tenant().suspended
    shutil.copytree(away, house.path)
    (house.path / "acme.yaml").write_text("display_name: Again\n")
    await eventually(lambda: house.tenant().config.display_name == "Again")
    await asyncio.sleep(0.5)
    (house.path / "acme.yaml").write_text("display_name: And again\n")
    await eventually(lambda: house.tenant().config.display_name == "And again")


async def test_asked_for_it_is_in_force_when_it_returns(house: House) -> None:
    (house.path / "acme.yaml").write_text("")
    await house.reconciler.reconcile_now(by=Actor("uid:0", RequestId("req_1")))
    assert house.tenant().config.display_name is None
    (house.path / "acme.yaml").unlink()
    assert (await house.reconciler.settled()).tenant(ACME).removed


async def test_what_is_in_no_commit_is_shown_and_nothing_waits_for_it(house: House) -> None:
    await house.reconciler.see_uncommitted(["acme.yaml", "_gateway.yaml"])
    status = await house.reconciler.status()
    assert status.uncommitted == ("_gateway.yaml", "acme.yaml")
    assert {one.id: (one.state, one.drift) for one in status.tenants} == {
        "acme": ("Ready", ("acme.yaml: changes that are in no commit, where a commit of them is wanted",)),
        "other": ("Ready", ()),
    }
    assert set((await house.reconciler.plan()).drift) == {"acme"}
    assert house.reconciler.world.patrol.kinds()["file_uncommitted"] == 2
    file = house.path.parent / "state" / "status.json"
    await eventually(lambda: "in no commit" in file.read_text())
    await house.reconciler.see_uncommitted(())
    assert (await house.reconciler.tenant_status(ACME)).drift == ()


async def test_a_plan_changes_nothing(house: House, tmp_path: Path) -> None:
    other = declare(tmp_path / "other.d", acme="display_name: Other\npackages: [jq]\n", extra="")
    before = house.directory.current
    plan = await house.reconciler.plan(other)
    assert {a.tenant: a.verb for a in plan.actions} == {"acme": "update", "extra": "create", "other": "remove"}
    assert (await house.reconciler.plan()).is_empty
    assert house.directory.current is before


async def test_listeners_hear_what_came_into_force(house: House) -> None:
    assert [a.previous for a in house.applied] == [None]
    (house.path / "acme.yaml").write_text("suspended: true\n")
    await house.reconciler.reconcile_now()
    await eventually(lambda: len(house.applied) > 1)
    last = house.applied[-1]
    assert last.previous is not None
    assert [a.verb for a in last.plan.actions] == ["suspend"]
    assert last.snapshot is house.directory.current


async def test_environments_are_requested_once_for_each_set(house: House) -> None:
    assert set(house.environments.requested) == {frozenset({"jq"}), frozenset()}
    (house.path / "acme.yaml").write_text("packages: [jq, ripgrep]\n")
    (house.path / "other.yaml").write_text("packages: [jq]\n")
    await house.reconciler.reconcile_now()
    assert house.environments.requested[2:] == [frozenset({"jq", "ripgrep"})]


async def test_who_asks_for_it_has_environments_tried_once_more(house: House) -> None:
    await house.reconciler.reconcile_now()
    await house.reconciler.reconcile_now(tenant=ACME)
    assert house.environments.retried == [None, frozenset({"jq"})]


async def test_a_change_without_an_event_is_found_by_comparing(house: House) -> None:
    await eventually(lambda: house.reconciler._watching == "inotify")
    root = house.tenant().root
    root.replace("config.yaml", b"display_name: Mine\n")
    await eventually(lambda: house.tenant().config.display_name == "Mine")


async def test_a_descriptor_is_spent_only_on_a_tenant_in_use(tmp_path: Path) -> None:
    def descriptors() -> int:
        """How many are open on tenants' directories; others come and go as the collector pleases."""
        tenants, open_now = str(tmp_path / "state" / "tenants"), 0
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                open_now += str(Path(f"/proc/self/fd/{name}").readlink()).startswith(tenants)
        return open_now

    house = House(tmp_path, **{f"t{number}": "" for number in range(50)})
    await house.reconciler.load()
    assert descriptors() < 25
    for number in range(50):
        assert house.tenant(f"t{number}").root.fd >= 0
    assert descriptors() >= 50
    await house.close()


async def test_cancelling_who_asked_does_not_lose_the_change(house: House) -> None:
    (house.path / "acme.yaml").write_text("display_name: Kept\n")
    asking = asyncio.ensure_future(house.reconciler.reconcile_now())
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    await eventually(lambda: house.tenant().config.display_name == "Kept")


async def test_status_says_conditions_and_is_in_a_file(house: House, tmp_path: Path) -> None:
    status = await house.reconciler.status()
    assert [c.status for c in status.conditions] == ["True", "False", "False", "False"]
    assert {t.id: t.conditions[0].status for t in status.tenants} == {"acme": "True", "other": "True"}
    told = json.loads(await asyncio.to_thread((tmp_path / "state" / "status.json").read_text))
    assert [t["id"] for t in told["tenants"]] == ["acme", "other"]
    with pytest.raises(NotFound):
        await house.reconciler.tenant_status(TenantId("nobody"))


async def test_reconciling_one_tells_how_it_stands(house: House) -> None:
    (house.path / "acme.yaml").write_text("display_name: [\n")
    done = await house.reconciler.reconcile_now(tenant=ACME)
    assert [(one.id, one.state) for one in done.tenants] == [("acme", "Stalled")]
    assert [one.id for one in (await house.reconciler.reconcile_now()).tenants] == ["acme"]
    with pytest.raises(NotFound, match="nobody"):
        await house.reconciler.reconcile_now(tenant=TenantId("nobody"))


async def test_all_gone_at_once_waits_for_the_word(house: House) -> None:
    for name in ("acme", "other"):
        (house.path / f"{name}.yaml").unlink()
    done = await house.reconciler.reconcile_now()
    assert done.confirm
    assert not house.tenant().suspended
    with pytest.raises(Conflict):
        await house.reconciler.reconcile_now(confirm="0" * 12)
    done = await house.reconciler.reconcile_now(confirm=done.confirm)
    assert house.tenant().removed
    assert {one.state for one in done.tenants} == {"Removed"}


async def test_a_removed_tenant_is_deleted_after_its_time_with_a_backup(house: House, tmp_path: Path) -> None:
    gateway = house.path / "_gateway.yaml"
    gateway.write_text(gateway.read_text() + "reconcile: {delete_after_seconds: 0}\n")
    (house.path / "acme.yaml").unlink()
    await eventually(lambda: "acme" not in house.directory.current.tenants)
    await eventually(lambda: any(a.verb == "delete" for one in house.applied for a in one.plan.actions))
    (deleted,) = (await house.reconciler.status()).deleted
    assert (tmp_path / "state" / deleted.backup).is_file()
    assert not (tmp_path / "state" / "tenants" / "acme").exists()


async def test_a_person_may_have_it_deleted_now(house: House, tmp_path: Path) -> None:
    (house.path / "acme.yaml").unlink()
    await house.reconciler.reconcile_now()
    with pytest.raises(Conflict):
        await house.reconciler.purge(TenantId("other"))
    await house.reconciler.purge(ACME)
    assert not (tmp_path / "state" / "tenants" / "acme").exists()


async def test_drift_is_put_right_by_a_pass(house: House, tmp_path: Path) -> None:
    home = tmp_path / "state" / "tenants" / "acme"
    home.chmod(0o755)
    await eventually(lambda: home.stat().st_mode & 0o777 == 0o700)
    await house.reconciler.reconcile_now()
    assert (await house.reconciler.tenant_status(ACME)).results[-1].outcome == "corrected"


async def test_one_that_rests_stays_so_until_it_wakes_with_all_of_it_anew(house: House) -> None:
    root = house.tenant().root
    await house.reconciler.rest(ACME, "it is being restored")
    assert (house.tenant().suspended, house.tenant().problem) == (True, "it is being restored")
    assert house.applied[-1].snapshot.tenant(ACME).suspended
    (house.path / "acme.yaml").write_text("display_name: Edited\n")
    await house.reconciler.settled()
    assert house.tenant().suspended
    with pytest.raises(Conflict):
        await house.reconciler.rest(ACME, "again")
    with pytest.raises(NotFound):
        await house.reconciler.rest(TenantId("none"), "why")
    await house.reconciler.wake(ACME)
    assert (house.tenant().suspended, house.tenant().problem) == (False, None)
    assert house.tenant().config.display_name == "Edited"
    assert house.tenant().root is not root
