"""What the gateway says that it stands on."""

import pytest

from carrel.clock import SystemClock
from carrel.main.house import House, own_cgroup
from carrel.packages.environments import Environments
from carrel.packages.sources import NoSource
from carrel.sandbox.delegation import Delegation, NotDelegated
from carrel.sandbox.protocol import Confinement
from carrel.sandbox.runner import BwrapSandbox
from carrel.tasks import Tasks


def test_it_tells_of_its_cgroup_or_why_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Delegation("/sys/fs/cgroup/x", ("cpu", "memory"), -1)
    monkeypatch.setattr("carrel.sandbox.delegation.take", lambda: taken)
    assert own_cgroup() == (taken, "v2, with cpu, memory")

    def refused() -> Delegation:
        raise NotDelegated("not delegated")

    monkeypatch.setattr("carrel.sandbox.delegation.take", refused)
    assert own_cgroup() == (None, "none: not delegated")


async def test_it_names_userland_sandbox_and_limits() -> None:
    tasks = Tasks("test")
    environments = Environments(source=NoSource(), require_closure=False, clock=SystemClock(), tasks=tasks)
    environments.request(frozenset({"jq"}))
    await environments.settled()
    house = House(environments, BwrapSandbox(), cgroup="v2, with memory")
    told = house.report()
    assert str(told["userland"]).startswith("host: ")
    assert told["environments"] == [
        {"packages": ["jq"], "state": "host", "reason": str(told["userland"])[6:], "seconds": 0.0, "key": None}
    ]
    assert told["sandbox"] == "bwrap"
    assert told["cgroup"] == "v2, with memory"
    assert {"limit": "wall_clock", "by": "launcher", "scope": "sandbox"} in list(told["limits"])  # type: ignore[call-overload]
    house.problem = "bubblewrap is missing."
    assert house.report()["sandbox"] == "none, so no tool runs: bubblewrap is missing."
    await tasks.close()


async def test_each_runtime_that_a_mode_names_is_tried() -> None:
    tasks = Tasks("test")
    environments = Environments(source=NoSource(), require_closure=False, clock=SystemClock(), tasks=tasks)
    sandbox = BwrapSandbox()
    house = House(environments, sandbox)
    assert house.report()["runtimes"] == []
    await house.try_runtimes([Confinement("oci", "no-such-runtime")])
    (told,) = list(house.report()["runtimes"])  # type: ignore[call-overload] # a list of mappings
    assert (told["name"], "is not installed" in told["problem"]) == ("no-such-runtime", True)
    await sandbox.close()
    await tasks.close()
