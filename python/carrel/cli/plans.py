"""How a plan is shown: what changes, tenant by tenant."""

from collections.abc import Iterator
from typing import Any, Final

from pydantic import Field

from carrel.cli import screen
from carrel.cli.client import understand
from carrel.wire.control import Answer

_MARKS: Final = {"create": "+", "resume": "+", "update": "~", "suspend": "-", "remove": "-", "delete": "-", "hold": "!",
          "refuse": "!", "broken": "!"}  # fmt: skip


class ChangeLine(Answer):
    """One key that differs."""

    path: str
    old: str
    new: str


class ActionLine(Answer):
    """What happens to one tenant."""

    tenant: str
    verb: str
    changes: tuple[ChangeLine, ...] = ()
    problems: tuple[str, ...] = ()


class PlanView(Answer):
    """A plan as the gateway or `carrel.plan` gives it."""

    operator_changes: dict[str, tuple[ChangeLine, ...]] = Field(default_factory=dict)
    actions: tuple[ActionLine, ...] = ()
    problems: tuple[str, ...] = ()
    confirm: str = ""
    drift: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    operators_broken: bool = False

    @property
    def broken(self) -> bool:
        """Whether something of what is declared could not come into force."""
        return self.operators_broken or any(action.verb == "broken" for action in self.actions)


def show_plan(document: Any) -> None:
    """``document`` for a person."""
    plan = understand(PlanView, document)
    for file, changes in plan.operator_changes.items():
        screen.say(f"~ {screen.one_line(file)}")
        _show_changes(changes)
    for action in plan.actions:
        if action.verb == "unchanged":
            continue
        screen.say(f"{_MARKS.get(action.verb, '?')} {action.tenant}: {screen.one_line(action.verb)}")
        _show_changes(action.changes)
        for problem in action.problems:
            screen.say(f"    {screen.one_line(problem)}")
    for tenant, texts in plan.drift.items():
        for text in texts:
            screen.say(f"! {tenant}: drift: {screen.one_line(text)}")
    for problem in plan.problems:
        screen.say(screen.one_line(problem))
    if plan.confirm:
        screen.say(f"what is held is done by `carrel reconcile --confirm {screen.one_line(plan.confirm)}`")
    if plan.operators_broken:
        screen.say("nothing changes: the operator's files are broken, and no tenant can be judged without them")
        return
    screen.say(", ".join(_counts(plan)) or "nothing changes")


def _show_changes(changes: tuple[ChangeLine, ...]) -> None:
    for change in changes:
        screen.say(f"    {screen.one_line(f'{change.path}: {change.old} -> {change.new}')}")


def _counts(plan: PlanView) -> Iterator[str]:
    for verb in (*_MARKS, "unchanged"):
        count = sum(action.verb == verb for action in plan.actions)
        if count:
            yield f"{count} {verb}"
