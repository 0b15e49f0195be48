from pathlib import Path

import pytest

from carrel.errors import CarrelError
from carrel.gitops.pushers import Pushers
from carrel.tasks import Tasks
from carrel.vcs.keys import Keys, parse_key
from carrel.wire.control import AuditQuery
from tests.fakes.clock import FakeClock
from tests.fakes.gitops import Recorded
from tests.fakes.patience import eventually
from tests.fakes.records import opened

ANN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


class House:
    def __init__(self, place: Path) -> None:
        self.keys = Keys(place / "authorized_keys", program="carrel", state=place)
        self.audit = Recorded()
        self.place = place

    def pushers(self) -> Pushers:
        return Pushers(self.keys, self.place / "keys-seen.json", audit=self.audit, clock=FakeClock())


async def test_each_key_that_comes_or_goes_has_a_line_also_while_no_gateway_runs(tmp_path: Path) -> None:
    house, key = House(tmp_path), parse_key(ANN, "ann")
    pushers = house.pushers()
    await pushers.look()
    assert house.audit.lines == []
    house.keys.authorize(key)
    await pushers.look()
    await pushers.look()
    assert house.audit.lines == [("edit", "git.authorize", None, key.fingerprint, "ok")]
    await house.pushers().look()
    assert len(house.audit.lines) == 1
    house.keys.revoke("ann")
    await house.pushers().look()
    assert house.audit.lines[1:] == [("edit", "git.revoke", key.fingerprint, None, "ok")]


async def test_a_line_that_could_not_be_written_comes_with_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path)
    pushers, real = house.pushers(), house.audit.record
    house.keys.authorize(parse_key(ANN, "ann"))

    async def full(**_: object) -> None:
        raise CarrelError("The disk is full.")

    monkeypatch.setattr(house.audit, "record", full)
    with pytest.raises(CarrelError):
        await pushers.look()
    monkeypatch.setattr(house.audit, "record", real)
    await pushers.look()
    assert [line[1] for line in house.audit.lines] == ["git.authorize"]


async def test_what_cannot_be_read_is_looked_at_again(tmp_path: Path) -> None:
    house, tasks = House(tmp_path), Tasks("test")
    house.keys.path.mkdir()
    tasks.start(house.pushers().watch(), name="pushers")
    house.keys.path.rmdir()
    house.keys.authorize(parse_key(ANN, "ann"))
    await eventually(lambda: house.audit.lines)
    await tasks.close()


async def test_a_death_between_a_line_and_what_was_seen_doubles_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path)
    audit = await opened(tmp_path / "state")

    async def lines() -> list[tuple[object, object]]:
        page = await audit.page(AuditQuery(action="git.*"))
        return [(line["action"], line["target"]) for line in page.lines]

    async def dies_before_it_is_kept() -> None:
        pushers = Pushers(house.keys, tmp_path / "keys-seen.json", audit=audit, clock=FakeClock())
        with monkeypatch.context() as dead:
            dead.setattr("carrel.gitops.pushers.replace_synced", fails)
            with pytest.raises(OSError, match="dead"):
                await pushers.look()

    async def looks() -> None:
        await Pushers(house.keys, tmp_path / "keys-seen.json", audit=audit, clock=FakeClock()).look()

    house.keys.authorize(parse_key(ANN, "ann"))
    await dies_before_it_is_kept()
    await looks()
    assert await lines() == [("git.authorize", "ann")]
    house.keys.revoke("ann")
    house.keys.authorize(parse_key(ANN, "anna"))
    await dies_before_it_is_kept()
    await looks()
    assert (await lines())[1:] == [("git.revoke", "ann"), ("git.authorize", "anna")]
    house.keys.revoke("anna")
    await looks()
    house.keys.authorize(parse_key(ANN, "anna"))
    await looks()
    assert (await lines())[3:] == [("git.revoke", "anna"), ("git.authorize", "anna")]


def test_what_was_seen_outlives_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").stat().st_ino))
    House(tmp_path).pushers()._keep({"SHA256:a": "ann"})
    assert synced == [(tmp_path / "keys-seen.json").stat().st_ino, tmp_path.stat().st_ino]


def fails(_: object) -> None:
    raise OSError("dead")
