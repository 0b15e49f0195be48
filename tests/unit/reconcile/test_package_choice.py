"""Packages that a tenant chooses, through a reconciler at work: its overlay is changed, judged, and taken back."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from carrel.errors import InvalidRequest, Unavailable
from carrel.ids import RequestId
from carrel.packages.protocol import About, EnvironmentState
from carrel.reconcile.own_settings import OwnSettings
from carrel.reconcile.package_choice import PackageChoice
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire import rpc
from carrel.wire.control import Actor
from tests.fakes.packageset import HOSTILE
from tests.fakes.patience import eventually
from tests.unit.main.test_sandboxes import Lines
from tests.unit.reconcile.test_reconciler import House

BY = Actor("tk_acme_1", RequestId("req_1"))


class Stands:
    """Every environment is ready."""

    def states(self) -> list[EnvironmentState]:
        return [EnvironmentState(("jq",), "ready", None, log="built")]


class There:
    """What the source has; none where it is not known."""

    def __init__(self) -> None:
        self.names_: dict[str, About] | None = {
            name: About("1", f"{name} it is") for name in ("jq", "python3", "ripgrep", "python311", "rust", "ruby")
        }
        self.waits: list[float] = []

    async def names(self, *, wait: float) -> Mapping[str, About]:
        self.waits.append(wait)
        if self.names_ is None:
            raise Unavailable("It is still being found out.")
        return self.names_


class Rig:
    def __init__(self, house: House, home: Path) -> None:
        self.house, self.lines, self.home = house, Lines(), home
        self.there = There()
        self.settings = OwnSettings(
            state_dir=home / "state", directory=house.directory, reconciler=house.reconciler, audit=self.lines
        )
        self.packages = PackageChoice(settings=self.settings, environments=Stands(), known=self.there)

    async def search(self, query: str, *, after: str = "", limit: int = 9) -> rpc.PackageNames:
        return await self.packages.search(self.snapshot, self.tenant, query, after=after, limit=limit)

    async def allow(self, text: str) -> None:
        """Have the operator's allowlist say ``text``."""
        before = self.snapshot.revision
        (self.house.path / "_allowlists.yaml").write_text(text)
        await eventually(lambda: self.snapshot.revision != before)

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
    assert (await rig.search("pyhton3")).nearest == "python3"


async def test_names_come_in_pages(rig: Rig) -> None:
    first = await rig.search("", limit=2)
    assert ([one.name for one in first.packages], first.total, first.next) == (["jq", "python3"], 3, "python3")
    assert [one.chosen for one in first.packages] == [True, False]
    assert [(one.version, one.description) for one in first.packages] == [("1", "jq it is"), ("1", "python3 it is")]
    last = await rig.search("", after="python3", limit=2)
    assert ([one.name for one in last.packages], last.next) == (["ripgrep"], None)
    assert [one.name for one in (await rig.search("RIP")).packages] == ["ripgrep"]


# --- patterns, and what the source has ---


async def test_a_pattern_offers_what_the_source_has_and_nothing_else(rig: Rig) -> None:
    await rig.allow("packages: {names: [jq, zsh], patterns: ['python3*', 'ru?y']}")
    assert [one.name for one in (await rig.search("")).packages] == ["jq", "python3", "python311", "ruby"]
    assert rig.there.waits[-1] > 0
    assert (await rig.packages.add(rig.snapshot, rig.tenant, ["python311"], by=BY)).packages == ("jq", "python311")
    with pytest.raises(InvalidRequest, match="There is no package 'python3000'; did you mean python3"):
        await rig.packages.add(rig.snapshot, rig.tenant, ["python3000"], by=BY)
    with pytest.raises(InvalidRequest, match="There is no package 'zsh'"):
        await rig.packages.add(rig.snapshot, rig.tenant, ["zsh"], by=BY)
    with pytest.raises(InvalidRequest, match="does not allow a package 'rust'"):
        await rig.packages.add(rig.snapshot, rig.tenant, ["rust"], by=BY)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_pattern_for_all_allows_no_text_that_is_no_name(rig: Rig, name: str) -> None:
    await rig.allow("packages: {names: [jq], patterns: ['*']}")
    with pytest.raises(InvalidRequest, match="does not allow"):
        await rig.packages.add(rig.snapshot, rig.tenant, [name], by=BY)
    assert rig.overlay == ""


async def test_where_it_is_not_known_what_there_is_only_exact_names_are_taken(rig: Rig) -> None:
    await rig.allow("packages: {names: [jq, ripgrep], patterns: ['python3*']}")
    rig.there.names_ = None
    found = await rig.search("")
    assert ([one.name for one in found.packages], found.note) == (["jq", "ripgrep"], "It is still being found out.")
    assert (await rig.packages.add(rig.snapshot, rig.tenant, ["ripgrep"], by=BY)).packages == ("jq", "ripgrep")
    with pytest.raises(Unavailable, match="still being found out"):
        await rig.packages.add(rig.snapshot, rig.tenant, ["python311"], by=BY)


async def test_without_patterns_nobody_waits(rig: Rig) -> None:
    await rig.search("")
    assert rig.there.waits == [0.0]
