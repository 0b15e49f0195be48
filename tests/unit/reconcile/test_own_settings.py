"""A tenant's overlay: changed in place, and as it was where the change would not be right."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from carrel.errors import InvalidRequest
from carrel.reconcile.own_settings import Changes
from tests.unit.reconcile.test_package_choice import BY, Rig
from tests.unit.reconcile.test_reconciler import House


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    house = House(tmp_path, acme="packages: [jq]\n")
    yield Rig(await house.start(), tmp_path)
    await house.close()


async def test_what_is_there_is_kept_with_its_comments(rig: Rig) -> None:
    rig.tenant.root.replace("config.yaml", b"# mine\ndisplay_name: Own  # so\n")
    tenant = await rig.settings.change(rig.tenant.id, {("packages",): ["ripgrep"]}, action="x", by=BY)
    assert (tenant.config.display_name, tenant.config.packages) == ("Own", ("ripgrep",))
    assert rig.overlay.startswith("# mine\ndisplay_name: Own  # so\n")


async def test_what_would_not_be_right_is_taken_back_and_told(rig: Rig) -> None:
    await rig.settings.change(rig.tenant.id, {("display_name",): "Own"}, action="x", by=BY)
    before = rig.overlay
    wrong: list[dict[tuple[str, ...], object]] = [
        {("packages",): ["evil"]}, {("quotas",): {}}, {("agents", "main", "max_turns"): 9}
    ]  # fmt: skip
    for changes in wrong:
        with pytest.raises(InvalidRequest, match="cannot be set"):
            await rig.settings.change(rig.tenant.id, changes, action="x", by=BY)
        assert rig.overlay == before
        assert rig.tenant.problem is None
    assert [outcome for _, _, outcome in rig.lines.lines].count("failed: invalid_request") == 3


async def test_two_at_once_are_both_kept(rig: Rig) -> None:
    await asyncio.gather(
        rig.settings.change(rig.tenant.id, {("display_name",): "Own"}, action="x", by=BY),
        rig.settings.change(rig.tenant.id, {("packages",): ["ripgrep"]}, action="x", by=BY),
    )
    assert (rig.tenant.config.display_name, rig.tenant.config.packages) == ("Own", ("ripgrep",))


async def test_the_line_has_what_was_set_before_and_what_is_set(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[object, object]] = []
    change = rig.lines.change

    def seen(*, before: object = None, after: object = None, **rest: Any) -> AbstractAsyncContextManager[None]:
        told.append((before, after))
        return change(before=before, after=after, **rest)

    monkeypatch.setattr(rig.lines, "change", seen)
    name: Changes = {("display_name",): "Own", ("agents", "main", "thinking"): "low"}
    await rig.settings.change(rig.tenant.id, name, action="x", by=BY)
    await rig.settings.change(rig.tenant.id, {("display_name",): None, ("packages",): []}, action="x", by=BY)
    assert told == [
        (None, {"display_name": "Own", "agents.main.thinking": "low"}),
        ({"display_name": "Own"}, {"display_name": None, "packages": []}),
    ]
