from carrel.ids import new_request_id, parse_tenant_id
from carrel.reconcile.recorder import reconciling
from carrel.wire.control import Actor
from tests.fakes.gitops import Recorded

BY = Actor("uid:0", new_request_id())


async def test_what_was_asked_for_has_a_line_and_a_pass_of_its_own_has_none() -> None:
    recorder = Recorded()
    async with reconciling(recorder, BY, parse_tenant_id("acme"), "word"):
        assert recorder.lines == []
    assert recorder.lines == [("uid:0", "reconcile", None, {"confirm": "word"}, "ok")]
    async with reconciling(recorder, None, None, None), reconciling(None, BY, None, None):
        pass
    assert len(recorder.lines) == 1
