from tests.fakes.gitops import FakeHistory
from tests.unit.cli.conftest import CommandLine, Serve


async def test_history_diff_and_rollback(carrel: CommandLine, serve: Serve) -> None:
    history = FakeHistory()
    async with serve(history=history):
        done = await carrel("history")
        assert done.code == 0
        assert [line.split()[0] for line in done.out.splitlines()] == ["REVISION", "b" * 12, "a" * 12]
        assert "begin" not in (await carrel("history", "acme")).out
        assert (await carrel("history", "--json", "--limit", "1")).json()["commits"][0]["subject"] == "Suspend acme"
        done = await carrel("diff", "aaaa")
        assert "+plan: team" in done.out
        assert "\x1b" not in done.out
        assert "left out" in done.err
        assert (await carrel("diff", "aaaa", "bbbb", "--json")).json()["new"] == "bbbb"
        assert (await carrel("diff", "zzzz")).code == 1
        done = await carrel("rollback", "aaaa")
        assert "by the new commit cccccccccccc" in done.out
        assert "acme.yaml" in done.out
        assert "Nothing differs" in (await carrel("rollback", "aaaa")).out
        assert (await carrel("rollback", "aaaa", "--json")).json()["files"] == []
        assert (await carrel("rollback")).code == 2
