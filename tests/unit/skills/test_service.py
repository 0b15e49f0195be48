"""Skills of tenants."""

from pathlib import Path

import pytest

from carrel.errors import Conflict, NotFound
from carrel.events.hub import Hub
from carrel.skills.service import MOST, Skills
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_tenant


def text(name: str, body: str = "Do it.") -> str:
    return f"---\nname: {name}\ndescription: About {name}.\n---\n{body}\n"


@pytest.fixture
def skills() -> Skills:
    clock = FakeClock()
    return Skills(clock=clock, hub=Hub(clock=clock))


async def test_skills_are_installed_changed_told_and_removed(skills: Skills, tmp_path: Path) -> None:
    acme, bravo = make_tenant(tmp_path), make_tenant(tmp_path, "bravo")
    made = await skills.install(acme, text("b"))
    await skills.install(acme, text("a"))
    assert [one.name for one in await skills.list(acme)] == ["a", "b"]
    assert await skills.list(bravo) == ()
    assert [one.name for one in await skills.told(acme, ("b", "gone", "a"))] == ["b", "a"]
    assert await skills.install(acme, text("b"), again=True) == made
    await skills.update(acme, "a", content=None, enabled=False)
    await skills.update(acme, "b", content=text("b", "Do it well."), enabled=None)
    assert [one.body for one in await skills.told(acme, ("a", "b"))] == ["Do it well."]
    await skills.remove(acme, "a")
    with pytest.raises(NotFound):
        await skills.remove(acme, "a")


async def test_a_name_is_for_one_skill(skills: Skills, tmp_path: Path) -> None:
    acme = make_tenant(tmp_path)
    await skills.install(acme, text("a"))
    with pytest.raises(Conflict):
        await skills.install(acme, text("a", "Other."))
    with pytest.raises(Conflict):
        await skills.update(acme, "a", content=text("b"), enabled=None)
    await skills.install(acme, text("weather"))
    with pytest.raises(NotFound, match="did you mean weather"):
        await skills.update(acme, "wether", content=None, enabled=True)


async def test_skills_of_a_tenant_are_bounded(skills: Skills, tmp_path: Path) -> None:
    acme = make_tenant(tmp_path)
    for number in range(MOST):
        await skills.install(acme, text(f"s{number}"))
    with pytest.raises(Conflict):
        await skills.install(acme, text("one-more"))
