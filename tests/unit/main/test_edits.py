"""What people changed by hand has a line; what a command wrote, or a tenant set for itself, has none here."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from carrel.audit.log import Audit
from carrel.main.edits import SEEN, HandEdits
from carrel.plan.plan import Action, Plan
from carrel.reconcile.status import Applied
from carrel.vcs.git import Author
from carrel.vcs.plain import Change
from carrel.vcs.work_tree import WorkTree
from carrel.wire.control import AuditQuery
from tests.fakes.records import opened
from tests.fakes.tenants import make_snapshot


class Rig:
    def __init__(self, path: Path, audit: Audit, state: Path) -> None:
        self.path = path
        self.audit = audit
        self.state = state
        self.place = WorkTree(path)
        self.edits = HandEdits(self.place, audit, state_dir=state)

    async def applied(self, *actions: Action, files: tuple[str, ...] = (), first: bool = False) -> None:
        snapshot = make_snapshot()
        plan = Plan(actions=actions, operator_changes=dict.fromkeys(files, ()))
        await self.edits(Applied(snapshot, None if first else snapshot, plan))

    async def lines(self) -> list[tuple[Any, Any]]:
        page = await self.audit.page(AuditQuery(action="declared.edit"))
        return [(line["actor"], line["after"]["files"]) for line in page.lines]  # type: ignore[index, call-overload] # JSON


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    path = tmp_path / "tenants.d"
    path.mkdir()
    (path / "acme.yaml").write_text("plan: pro\n")
    (path / "_gateway.yaml").write_text("{}\n")
    made = Rig(path, await opened(tmp_path / "state"), tmp_path / "state")
    await made.applied(first=True)
    return made


async def test_an_edit_by_hand_has_a_line(rig: Rig) -> None:
    (rig.path / "acme.yaml").write_text("plan: starter\n")
    (rig.path / "_plans.yaml").write_text("plans: {}\n")
    await rig.applied(Action("acme", "update"), files=("_plans.yaml",))
    assert await rig.lines() == [("edit", {"_plans.yaml": "update", "acme.yaml": "update"})]
    (rig.path / "acme.yaml").unlink()
    await rig.applied(Action("acme", "remove"))
    assert (await rig.lines())[1:] == [("edit", {"acme.yaml": "remove"})]
    page = await rig.audit.page(AuditQuery(action="declared.edit", tenant="acme"))
    assert [line["after"]["files"] for line in page.lines] == [{"acme.yaml": "remove"}]  # type: ignore[index, call-overload] # JSON


async def test_what_is_no_edit_has_none(rig: Rig) -> None:
    await rig.applied(Action("acme", "update"))
    await rig.applied(Action("acme", "broken"), Action("acme", "unchanged"))
    change = Change(b"plan: pro\n", b"plan: starter\n")
    await rig.place.write({"acme.yaml": change}, "message", Author("a", "a@a"))
    await rig.applied(Action("acme", "update"))
    assert await rig.lines() == []


async def test_who_puts_back_what_a_command_wrote_has_edited_it(rig: Rig) -> None:
    await rig.place.write({"acme.yaml": Change(b"plan: pro\n", b"plan: a\n")}, "message", Author("a", "a@a"))
    await rig.applied(Action("acme", "update"))
    for text in ("plan: b\n", "plan: a\n"):
        (rig.path / "acme.yaml").write_text(text)
        await rig.applied(Action("acme", "update"))
    assert len(await rig.lines()) == 2


async def test_the_actor_is_the_commit_where_it_is_committed(rig: Rig) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(rig.path)]
    (rig.path / "acme.yaml").write_text("plan: starter\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    await rig.applied(Action("acme", "update"))
    (rig.path / "acme.yaml").write_text("plan: pro\n")
    await rig.applied(Action("acme", "update"))
    assert [who for who, _ in await rig.lines()] == [f"commit:{head[:12]}", "edit"]


async def test_what_was_edited_while_no_gateway_ran_has_a_line_at_the_next_start(rig: Rig) -> None:
    (rig.path / "acme.yaml").write_text("plan: starter\n")
    await rig.applied(Action("acme", "update"))
    for count in (1, 2, 2):
        if count == 2 and (rig.path / "_gateway.yaml").exists():
            (rig.path / "acme.yaml").write_text("plan: pro\n")
            (rig.path / "beta.yaml").write_text("plan: pro\n")
            (rig.path / "_gateway.yaml").unlink()
        rig = Rig(rig.path, rig.audit, rig.state)
        await rig.applied(first=True)
        assert len(await rig.lines()) == count
    assert (await rig.lines())[1] == ("edit", {"_gateway.yaml": "remove", "acme.yaml": "update", "beta.yaml": "create"})
    [*_, line] = (await rig.audit.page(AuditQuery(action="declared.edit"))).lines
    assert line["after"]["meanwhile"] == "no gateway ran"  # type: ignore[index, call-overload] # JSON


async def test_declarations_from_another_place_or_a_note_that_is_none_are_no_edit(rig: Rig) -> None:
    kept = rig.state / SEEN
    kept.write_text(kept.read_text().replace(str(rig.path), "/elsewhere"))
    (rig.path / "acme.yaml").write_text("plan: other\n")
    await Rig(rig.path, rig.audit, rig.state).applied(first=True)
    kept.write_text("{")
    (rig.path / "acme.yaml").write_text("plan: again\n")
    await Rig(rig.path, rig.audit, rig.state).applied(first=True)
    assert await rig.lines() == []
