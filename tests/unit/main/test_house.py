"""What the gateway says that it stands on."""

from carrel.clock import SystemClock
from carrel.main.house import House
from carrel.packages.environments import Environments
from carrel.packages.sources import NoSource
from carrel.sandbox.runner import BwrapSandbox
from carrel.tasks import Tasks


async def test_it_names_userland_sandbox_and_limits() -> None:
    tasks = Tasks("test")
    environments = Environments(source=NoSource(), require_closure=False, clock=SystemClock(), tasks=tasks)
    environments.request(frozenset({"jq"}))
    await environments.settled()
    house = House(environments, BwrapSandbox())
    told = house.report()
    assert str(told["userland"]).startswith("host: ")
    assert told["environments"] == [
        {"packages": ["jq"], "state": "host", "reason": str(told["userland"])[6:], "seconds": 0.0, "key": None}
    ]
    assert told["sandbox"] == "bwrap"
    assert {"limit": "wall_clock", "by": "launcher", "scope": "sandbox"} in list(told["limits"])  # type: ignore[call-overload]
    house.problem = "bubblewrap is missing."
    assert house.report()["sandbox"] == "none, so no tool runs: bubblewrap is missing."
    await tasks.close()
