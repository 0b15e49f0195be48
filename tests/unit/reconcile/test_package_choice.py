"""Packages that a tenant chooses, through a reconciler at work: its overlay is changed, judged, and taken back."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from carrel.errors import InvalidRequest
from carrel.ids import RequestId
from carrel.packages.protocol import EnvironmentState
from carrel.reconcile.own_settings import OwnSettings
from carrel.reconcile.package_choice import PackageChoice
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire.control import Actor
from tests.unit.main.test_sandboxes import Lines
from tests.unit.reconcile.test_reconciler import House

BY = Actor("tk_acme_1", RequestId("req_1"))


class Stands:
    """Every environment is ready."""

    def states(self) -> list[EnvironmentState]:
        return [EnvironmentState(("jq",), "ready", None, log="built")]


class Rig:
    def __init__(self, house: House, home: Path) -> None:
        self.house, self.lines, self.home = house, Lines(), home
        self.settings = OwnSettings(
            state_dir=home / "state", directory=house.directory, reconciler=house.reconciler, audit=self.lines
        )
        self.packages = PackageChoice(settings=self.settings, environments=Stands())

    @property
    def snapshot(self) -> Snapshot:
        return self.house.directory.current

    @property
    def tenant(self) -> Tenant:
        return self.house.tenant()

    @property
    def overlay(self) -> str:
        path = self.home / "state/tenants/acme/config.yaml"
        return path.read_text() if path.exists() else ""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    house = House(tmp_path, acme="packages: [jq]\n")
    yield Rig(await house.start(), tmp_path)
    await house.close()


async def test_more_and_fewer_are_in_force_when_they_are_told(rig: Rig) -> None:
    assert rig.packages.list(rig.tenant).state == "ready"
    chosen = await rig.packages.add(rig.snapshot, rig.tenant, ["ripgrep", "jq", "ripgrep"], by=BY)
    assert chosen.packages == ("jq", "ripgrep")
    assert list(rig.tenant.config.packages) == ["jq", "ripgrep"]
    assert "ripgrep" in rig.overlay
    chosen = await rig.packages.remove(rig.tenant, ["jq"], by=BY)
    assert chosen.packages == ("ripgrep",)
    assert list(rig.tenant.config.packages) == ["ripgrep"]
    assert rig.lines.lines == [("packages.add", "acme", "ok"), ("packages.remove", "acme", "ok")]


async def test_what_is_there_already_changes_nothing(rig: Rig) -> None:
    assert (await rig.packages.add(rig.snapshot, rig.tenant, ["jq"], by=BY)).packages == ("jq",)
    assert (rig.overlay, rig.lines.lines) == ("", [])


@pytest.mark.parametrize("name", ["jqq", "jq; rm -rf /", "../jq", "builtins.exec", "${x}", "JQ", "jq\n"])
async def test_only_exact_names_of_the_allowlist_are_taken(rig: Rig, name: str) -> None:
    with pytest.raises(InvalidRequest, match="does not allow"):
        await rig.packages.add(rig.snapshot, rig.tenant, ["ripgrep", name], by=BY)
    assert rig.overlay == ""


async def test_the_nearest_name_is_told(rig: Rig) -> None:
    with pytest.raises(InvalidRequest, match="did you mean ripgrep"):
        await rig.packages.add(rig.snapshot, rig.tenant, ["ripgrepp"], by=BY)
    with pytest.raises(InvalidRequest, match="did you mean jq"):
        await rig.packages.remove(rig.tenant, ["jqq"], by=BY)
    assert rig.packages.search(rig.snapshot, rig.tenant, "pyhton3", after="", limit=5).nearest == "python3"


async def test_names_come_in_pages(rig: Rig) -> None:
    first = rig.packages.search(rig.snapshot, rig.tenant, "", after="", limit=2)
    assert ([one.name for one in first.packages], first.total, first.next) == (["jq", "python3"], 3, "python3")
    assert [one.chosen for one in first.packages] == [True, False]
    last = rig.packages.search(rig.snapshot, rig.tenant, "", after="python3", limit=2)
    assert ([one.name for one in last.packages], last.next) == (["ripgrep"], None)
    assert [one.name for one in rig.packages.search(rig.snapshot, rig.tenant, "RIP", after="", limit=9).packages] == [
        "ripgrep"
    ]
