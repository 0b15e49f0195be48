from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine, Serve


async def test_where_there_are_no_plans(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("plans")
    assert (done.code, "_plans.yaml" in done.err) == (0, True)


async def test_plans_with_what_each_is_for(carrel: CommandLine, edge: Edge, serve: Serve) -> None:
    administration = edge.services.administration

    async def plans() -> object:
        quotas = {"tokens_per_month": {"hard": 100, "soft": 80}}
        return {"plans": {"pro": {"max_members": 5, "quotas": quotas, "billing": {"rule": "pass_through"}}}}

    administration.plans = plans  # type: ignore[method-assign] # what is declared
    line = (await carrel("plans")).out.splitlines()[1].split()
    assert (line[0], line[2], line[4], line[7]) == ("pro", "5", "100", "pass_through")
    assert (await carrel("plans", "--json")).json()["plans"]["pro"]["max_members"] == 5
