from dataclasses import dataclass
from typing import Any

from carrel.ids import TenantId
from tests.fakes.administration import FakeReconciler
from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine, Serve

STATUS: dict[str, Any] = {
    "state": "Ready",
    "revision": "abc",
    "tenants_dir": "/etc/carrel/tenants.d",
    "watching": "inotify",
    "last_pass": "2026-03-01T00:00:00Z",
    "last_pass_seconds": 0.01,
    "problems": ["_plans.yaml:1:1: \x1b]0;odd\x07odd"],
    "sandbox": "bwrap",
    "userland": "host: Nix is missing",
    "environments": [{"packages": ["git", "jq"], "state": "host", "reason": "Nix is missing"}, {"state": "ready"}],
    "limits": [
        {"limit": "memory", "by": "rlimit", "scope": "process"},
        {"limit": "cpu", "by": "rlimit", "scope": "process"},
        {"limit": "tmp", "by": "size of the tmpfs", "scope": "sandbox"},
    ],
    "network": {"egress": False},
    "tenants": [
        {"id": "acme", "state": "Ready", "reason": "Applied", "message": "in force", "plan": "pro", "problems": []},
        {"id": "bravo", "state": "Stalled", "reason": "Broken", "message": "", "problems": ["bravo.yaml:2:3: what"]},
    ],
}


@dataclass
class Told(FakeReconciler):
    """Reports what it is given."""

    def __init__(self, status: object) -> None:
        super().__init__()
        self.told = status
        self.more: dict[str, Any] = {}

    async def status(self) -> object:
        return self.told

    async def reconcile_now(self, *, by: Any, tenant: TenantId | None = None, confirm: str | None = None) -> object:
        self.reconciled += 1
        self.asked = tenant, confirm
        return {"actions": [{"tenant": "acme", "verb": "create"}], **self.more}


async def test_the_status_of_the_house_and_of_each_tenant(carrel: CommandLine, serve: Serve) -> None:
    async with serve(reconciler=Told(STATUS)):
        done = await carrel("status")
        told = await carrel("status", "--json")
    assert done.code == 0, done.err
    assert told.json() == {"version": "1.2.3", "channels": [], **STATUS}
    for shown in ("/etc/carrel/tenants.d", "egress: no", "_plans.yaml:1:1: odd\n", "pro"):
        assert shown in done.out
    for line in (
        "sandbox       bwrap",
        "userland      host: Nix is missing",
        "environment   git jq: host: Nix is missing",
        "environment   the base set: ready",
        "limits        memory, cpu: per process, by rlimit",
        "limits        tmp: per sandbox, by size of the tmpfs",
        "problem       _plans.yaml:1:1: odd",
    ):
        assert line in done.out.splitlines()
    assert "bravo   Stalled  -     Broken" in done.out
    assert "bravo: bravo.yaml:2:3: what" in done.out
    assert "\x1b" not in done.out


async def test_a_status_of_another_make_is_said_to_be(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("status")
    assert done.code == 1
    assert "another version" in done.err
    assert (await carrel("status", "--json")).json()["tenants"] == 2


async def test_reconcile_says_what_changed(carrel: CommandLine, serve: Serve) -> None:
    reconciler = Told(STATUS)
    async with serve(reconciler=reconciler):
        done = await carrel("reconcile")
        told = await carrel("reconcile", "--json")
    assert (done.code, done.out) == (0, "+ acme: create\n1 create\n")
    assert told.json()["actions"][0]["tenant"] == "acme"
    assert reconciler.reconciled == 2


def test_no_gateway_is_exit_code_3(carrel: CommandLine) -> None:
    for words in (("status",), ("reconcile", "--json")):
        done = carrel.run(*words)
        assert (done.code, done.out) == (3, "")
        assert "carrel gateway" in done.err


async def test_reconciling_one_tells_how_it_stands_and_fails_where_it_is_not_met(
    carrel: CommandLine, serve: Serve
) -> None:
    reconciler = Told(STATUS)
    stalled = {"id": "acme", "state": "Stalled", "reason": "Invalid", "message": "acme.yaml:1:1: what"}
    reconciler.more = {"tenants": [stalled]}
    async with serve(reconciler=reconciler):
        done = await carrel("reconcile", "acme", "--confirm", "0123456789ab")
    assert done.code == 1
    assert "acme: Stalled: acme.yaml:1:1: what" in done.out
    assert reconciler.asked == ("acme", "0123456789ab")


def test_a_name_that_is_none_is_wrong_usage(carrel: CommandLine) -> None:
    assert carrel.run("reconcile", "No Tenant").code == 2


async def test_the_conditions_of_one_tenant(carrel: CommandLine, serve: Serve) -> None:
    async with serve():
        done = await carrel("status", "acme")
        told = await carrel("status", "acme", "--json")
    assert "Ready      True    2026-03-01T00:00:00Z  Applied  in force" in done.out
    assert told.json()["conditions"][0]["type"] == "Ready"
