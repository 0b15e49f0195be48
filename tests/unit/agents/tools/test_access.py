"""`request_access`."""

from dataclasses import replace

from carrel.agents.tools.access import RequestAccess
from tests.unit.agents.tools.conftest import Rig


async def test_the_decision_is_the_answer(rig: Rig) -> None:
    async def access(kind: str, what: str, reason: str) -> str:
        return f"{kind} {what} {reason}"

    rig.setting = replace(rig.setting, access=access)
    done = await rig.run(RequestAccess(), kind="host", what="a.com", reason="docs")
    assert (done.content, done.is_error) == ("host a.com docs", False)


async def test_where_nobody_can_be_asked_it_says_so(rig: Rig) -> None:
    assert (await rig.run(RequestAccess(), kind="host", what="a.com", reason="docs")).is_error
