from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine


async def test_what_there_is(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("packages", "list", "--tenant", "acme")
    assert (done.code, done.out, done.err) == (0, "jq\n", "The environment is ready.\n")
    assert (await carrel("packages", "list", "--tenant", "acme", "--json")).json()["packages"] == ["jq"]
    assert (await carrel("packages", "log", "--tenant", "acme")).out == "built\n"
    assert (await carrel("packages", "list", "--tenant", "nobody")).code == 1


async def test_what_there_may_be(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("packages", "search", "j", "--tenant", "acme")
    assert done.out.splitlines()[1].split() == ["jq", "yes", "1.7", "-"]
    assert "1 of 2" in done.err
    assert "did you mean noting" in (await carrel("packages", "search", "nothing", "--tenant", "acme")).err
    assert (await carrel("packages", "search", "--tenant", "acme", "--json")).json()["total"] == 2


async def test_changes(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("packages", "add", "ripgrep", "git", "--tenant", "acme")
    assert (done.code, done.out) == (0, "jq ripgrep git\n")
    assert "building: it takes a while" in done.err
    assert "No package" in (await carrel("packages", "remove", "jq", "--tenant", "acme")).out
    assert (await carrel("packages", "add", "--tenant", "acme")).code != 0
