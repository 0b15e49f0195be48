"""Security 10.3: a group that a real systemd hands over is taken, and one that it does not is left alone."""

from tests.fakes.kernel import run_as_service

ASK = """
from pathlib import Path
from carrel.sandbox.delegation import NotDelegated, take
try:
    taken = take()
    print("took", taken.path, *taken.controllers)
except NotDelegated as error:
    print("no:", error)
print("now in", Path("/proc/self/cgroup").read_text().strip())
"""
GROUP = "/sys/fs/cgroup/system.slice/asked.service"


def test_S10_03_a_service_with_delegate_has_its_group() -> None:
    told = run_as_service(ASK, "Delegate=cpu io memory pids")
    assert f"took {GROUP} cpu io memory pids" in told, told
    assert "now in 0::/system.slice/asked.service/gateway" in told, told


def test_S10_03_a_service_without_it_has_none() -> None:
    told = run_as_service(ASK)
    assert "no: this process's cgroup is not delegated to it: start the gateway as" in told, told
    assert "now in 0::/system.slice/asked.service\n" in told, told
