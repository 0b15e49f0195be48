import pytest

from carrel.vcs.edits import DELETE, NotEditable, edited


async def test_an_edit_is_made_as_asked() -> None:
    assert await edited("plan: pro # paid\nx: 1\n", {("plan",): "team", ("x",): DELETE}) == "plan: team # paid\n"


async def test_what_cannot_be_edited_is_said() -> None:
    with pytest.raises(NotEditable, match="line 2"):
        await edited("[unfinished", {("plan",): "team"})
